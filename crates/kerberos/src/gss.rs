//! Tickets and contexts over the lanes.

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    fmt,
    os::fd::AsRawFd,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use credential::Principal;
use libgssapi::{
    context::{ClientCtx, CtxFlags, SecurityContext},
    credential::Cred,
    error::Error as Status,
    name::Name,
    oid::{GSS_MECH_KRB5, GSS_MECH_SPNEGO, GSS_NT_HOSTBASED_SERVICE, GSS_NT_KRB5_PRINCIPAL},
};

use crate::{
    Error, Keytab,
    keytab::Held,
    lanes::Lane,
    status::{Call, decode},
    sys,
};

/// No GSSAPI token of a peer is longer; an AP-REP has some 150 bytes.
const MAX_TOKEN: usize = 64 * 1024;

/// Every MEMORY ccache of the process has its own number.
static CCACHE: AtomicU64 = AtomicU64::new(0);

/// Handle to the threads GSSAPI blocks on. Clones share them.
#[derive(Clone)]
pub struct Gss(Arc<Lanes>);

struct Lanes {
    threads: usize,
    by_realm: Mutex<HashMap<String, Arc<Lane>>>,
}

impl fmt::Debug for Gss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gss")
            .field("threads", &self.0.threads)
            .finish_non_exhaustive()
    }
}

/// Whom a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A service principal, taken as it is: no name is resolved or canonicalised. `host/name@` leaves the realm to
    /// the library's mapping and to the KDC's referrals.
    Principal(String),
    /// GSSAPI's host-based form, `service@host`: the library may canonicalise the host through DNS.
    HostBased {
        /// For instance `host`.
        service: String,
        /// The host's name.
        host: String,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(name) => f.write_str(name),
            Self::HostBased { service, host } => write!(f, "{service}@{host}"),
        }
    }
}

/// How tokens are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mech {
    /// Plain Kerberos (RFC 4121).
    Krb5,
    /// Kerberos inside SPNEGO (RFC 4178).
    Spnego,
}

/// A principal's ticket, with its keys in a MEMORY ccache of its own. Clones share it; the last one wipes it.
#[derive(Clone)]
pub struct Ticket(Arc<TicketInner>);

struct TicketInner {
    // dropped first: it has the ccache open
    cred: Option<Cred>,
    ccache: CString,
    principal: Principal,
    remaining: Duration,
    // the library comes back to the keytab by its descriptor when a ticket nears its end: it must stay this file
    _keytab: Arc<Held>,
    keytab_path: PathBuf,
    kvno: u32,
    lane: Arc<Lane>,
}

impl Drop for TicketInner {
    fn drop(&mut self) {
        drop(self.cred.take());
        sys::destroy_ccache(&self.ccache);
    }
}

/// Destroys the ccache of a ticket that did not come to be.
struct Unfinished<'a>(Option<&'a CStr>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.0 {
            sys::destroy_ccache(name);
        }
    }
}

impl Ticket {
    /// Whose it is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.0.principal
    }

    /// How long it was good for when it was acquired.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.0.remaining
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Ticket({}, good for {} s)",
            self.0.principal,
            self.0.remaining.as_secs()
        )
    }
}

impl Gss {
    /// Up to `threads` calls at once per realm (at least one). Threads start when they are needed.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self(Arc::new(Lanes {
            threads: threads.max(1),
            by_realm: Mutex::default(),
        }))
    }

    fn lane(&self, realm: &str) -> Arc<Lane> {
        let mut lanes = self.0.by_realm.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            lanes
                .entry(realm.to_owned())
                .or_insert_with(|| Lane::new(realm, self.0.threads)),
        )
    }

    /// Asks the KDC for a ticket with the keytab's key.
    ///
    /// # Errors
    /// What the KDC or the library said, see [`Error`].
    ///
    /// # Cancel safety
    /// Dropping the future abandons the wait; the call ends by itself (a silent KDC: some 30 s), and its ticket,
    /// if there is one, is wiped.
    pub async fn acquire(&self, keytab: &Keytab) -> Result<Ticket, Error> {
        let (principal, held, path) = (
            keytab.principal().clone(),
            keytab.held(),
            keytab.path().to_owned(),
        );
        let kvno = keytab.kvno();
        let lane = self.lane(principal.realm());
        let of_ticket = Arc::clone(&lane);
        lane.run(move || {
            let text = principal.to_string();
            let call = Call {
                doing: "getting a ticket",
                principal: &text,
                realm: principal.realm(),
                keytab: &path,
                kvno,
                target: "",
                peer: false,
            };
            // the judged descriptor, not the path: the file cannot be exchanged in between
            let source = cstring(format!("FILE:/proc/self/fd/{}", held.file().as_raw_fd()), &text)?;
            let ccache = cstring(
                format!("MEMORY:mtk-{}", CCACHE.fetch_add(1, Ordering::Relaxed)),
                &text,
            )?;
            let mut unfinished = Unfinished(Some(&ccache));
            let cred = sys::acquire(&text, &source, &ccache).map_err(|e| decode(&e, call))?;
            // the library may put the KDC off until a credential is first used: this is a first use
            let remaining = cred.lifetime().map_err(|e| decode(&e, call))?;
            unfinished.0 = None;
            drop(unfinished);
            Ok(Ticket(Arc::new(TicketInner {
                cred: Some(cred),
                ccache,
                principal,
                remaining,
                _keytab: held,
                keytab_path: path,
                kvno,
                lane: of_ticket,
            })))
        })
        .await
    }

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
                    text: crate::status::words(&e),
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

fn cstring(text: String, principal: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Library {
        principal: principal.to_owned(),
        doing: "naming its keytab and ccache",
        text: "a name holds a zero byte".to_owned(),
        major: 0,
        minor: 0,
    })
}

fn import(target: &Target) -> Result<Name, Status> {
    match target {
        Target::Principal(name) => Name::new(name.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL)),
        Target::HostBased { .. } => Name::new(target.to_string().as_bytes(), Some(GSS_NT_HOSTBASED_SERVICE)),
    }
}

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
