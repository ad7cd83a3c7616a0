//! Our side of a GSSAPI context, from the first token to the signature.

use std::{fmt, sync::Arc};

use credential::Principal;
use libgssapi::{
    context::{ClientCtx, CtxFlags, SecurityContext},
    error::Error as Status,
    name::Name,
    oid::{GSS_MECH_KRB5, GSS_MECH_SPNEGO, GSS_NT_HOSTBASED_SERVICE, GSS_NT_KRB5_PRINCIPAL},
};

use crate::{
    Error, Gss, Mech, Target, Ticket,
    status::{Call, decode, words},
};

/// No GSSAPI token of a peer is longer; an AP-REP has some 150 bytes.
const MAX_TOKEN: usize = 64 * 1024;

impl Gss {
    /// Starts a context with `target` and makes its first token. Delegation is never asked for.
    ///
    /// # Errors
    /// [`Error::ServiceUnknown`], [`Error::BadTarget`], or what else the KDC said.
    ///
    /// # Cancel safety
    /// As for [`Gss::acquire`].
    pub async fn begin(
        &self,
        ticket: &Ticket,
        target: &Target,
        mech: Mech,
        mutual: bool,
    ) -> Result<(Initiator, Vec<u8>), Error> {
        let mut initiator = Initiator {
            context: None,
            ticket: ticket.clone(),
            target: target.clone(),
            mech,
            mutual,
            done: false,
        };
        let (held, spoken, wanted) = (ticket.clone(), target.clone(), target.to_string());
        let (context, token) = self
            .lane(ticket.principal().realm())
            .run(move || {
                let name = import(&spoken).map_err(|e| Error::BadTarget {
                    target: spoken.to_string(),
                    text: words(&e),
                })?;
                let mut flags = CtxFlags::GSS_C_INTEG_FLAG | CtxFlags::GSS_C_SEQUENCE_FLAG;
                if mutual {
                    flags |= CtxFlags::GSS_C_MUTUAL_FLAG;
                }
                let oid = match mech {
                    Mech::Krb5 => GSS_MECH_KRB5,
                    Mech::Spnego => GSS_MECH_SPNEGO,
                };
                let mut context = ClientCtx::new(held.0.cred.clone(), name, flags, Some(oid));
                let token = advance(&mut context, None, &held, &spoken)?.unwrap_or_default();
                Ok((context, token))
            })
            .await?;
        if token.is_empty() {
            return Err(Error::Context {
                target: wanted,
                why: "the library made no first token",
            });
        }
        initiator.done = context.is_complete();
        initiator.context = Some(context);
        Ok((initiator, token))
    }
}

/// What to do after a peer's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this and wait for another token.
    Continue(Vec<u8>),
    /// The context stands; send this if there is something.
    Complete(Option<Vec<u8>>),
}

/// Our side of one GSSAPI context. Bound to one ticket and one target for life.
pub struct Initiator {
    context: Option<ClientCtx>,
    ticket: Ticket,
    target: Target,
    mech: Mech,
    mutual: bool,
    done: bool,
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Initiator({} to {}, complete: {})",
            self.ticket.principal(),
            self.target,
            self.done
        )
    }
}

impl Initiator {
    /// Whether the context stands.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.done
    }

    /// Whose ticket this context uses.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        self.ticket.principal()
    }

    /// Gives the library the peer's token. With `mutual`, completing means the peer has proven itself.
    ///
    /// # Errors
    /// [`Error::PeerToken`], [`Error::NotMutual`], [`Error::Context`] after the end or after an abandoned step.
    ///
    /// # Cancel safety
    /// Dropping the future while SPNEGO is at work loses the context; the next call says so.
    pub async fn step(&mut self, token: Vec<u8>) -> Result<Step, Error> {
        if self.done {
            return Err(self.stuck("it is already complete"));
        }
        if token.len() > MAX_TOKEN {
            return Err(Error::PeerToken {
                target: self.target.to_string(),
                text: format!("it has {} bytes, more than {MAX_TOKEN}", token.len()),
            });
        }
        let mut context = self
            .context
            .take()
            .ok_or_else(|| self.stuck("an earlier step was abandoned or failed"))?;
        let (ticket, target) = (self.ticket.clone(), self.target.clone());
        let (context, out) = match self.mech {
            // pure cryptography from here on: no thread is needed, and a hanging realm does not matter
            Mech::Krb5 => {
                let out = advance(&mut context, Some(&token), &ticket, &target)?;
                (context, out)
            }
            // may turn to another mechanism and so to the KDC
            Mech::Spnego => {
                let lane = Arc::clone(&self.ticket.0.lane);
                lane.run(move || {
                    let out = advance(&mut context, Some(&token), &ticket, &target)?;
                    Ok((context, out))
                })
                .await?
            }
        };
        if !context.is_complete() {
            self.context = Some(context);
            return Ok(Step::Continue(out.unwrap_or_default()));
        }
        let granted = context
            .flags()
            .is_ok_and(|flags| flags.contains(CtxFlags::GSS_C_MUTUAL_FLAG));
        if self.mutual && !granted {
            return Err(Error::NotMutual {
                target: self.target.to_string(),
            });
        }
        self.context = Some(context);
        self.done = true;
        Ok(Step::Complete(out))
    }

    /// Signs `message` under the context's key (`gss_get_mic`), as gssapi-with-mic wants it.
    ///
    /// # Errors
    /// [`Error::Context`] before the context is complete, or what the library said.
    pub async fn mic(&mut self, message: Vec<u8>) -> Result<Vec<u8>, Error> {
        if !self.done {
            return Err(self.stuck("it is not complete yet"));
        }
        let (principal, target) = (self.ticket.principal().to_string(), self.target.to_string());
        let Some(context) = self.context.as_mut() else {
            return Err(self.stuck("an earlier step was abandoned or failed"));
        };
        let mic = context.get_mic(&message).map_err(|e| {
            decode(
                &e,
                Call {
                    doing: "signing a message",
                    principal: &principal,
                    realm: self.ticket.principal().realm(),
                    keytab: &self.ticket.0.keytab_path,
                    kvno: self.ticket.0.kvno,
                    target: &target,
                    peer: false,
                },
            )
        })?;
        Ok(mic.to_vec())
    }

    fn stuck(&self, why: &'static str) -> Error {
        Error::Context {
            target: self.target.to_string(),
            why,
        }
    }
}

fn import(target: &Target) -> Result<Name, Status> {
    match target {
        Target::Principal(name) => Name::new(name.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL)),
        Target::HostBased { .. } => Name::new(target.to_string().as_bytes(), Some(GSS_NT_HOSTBASED_SERVICE)),
    }
}

/// One step of the library; the first one, without a token, may ask the KDC and block.
fn advance(
    context: &mut ClientCtx,
    token: Option<&[u8]>,
    ticket: &Ticket,
    target: &Target,
) -> Result<Option<Vec<u8>>, Error> {
    let principal = ticket.principal().to_string();
    let out = context.step(token, None).map_err(|e| {
        decode(
            &e,
            Call {
                doing: if token.is_some() {
                    "continuing a context"
                } else {
                    "getting a service ticket"
                },
                principal: &principal,
                realm: ticket.principal().realm(),
                keytab: &ticket.0.keytab_path,
                kvno: ticket.0.kvno,
                target: &target.to_string(),
                peer: token.is_some(),
            },
        )
    })?;
    Ok(out
        .map(|buffer| buffer.to_vec())
        .filter(|bytes| !bytes.is_empty()))
}
