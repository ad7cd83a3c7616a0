//! `gssapi-with-mic` (RFC 4462) over the `kerberos` crate, as russh asks for it.

use kerberos::{Gss, Initiator, Mech, Step, Target, Ticket};
use russh::{GssapiAuthenticator, GssapiError, GssapiStep, SendError};

use crate::dial::clip;

/// Kerberos 5, DER-encoded (RFC 4462, section 3.2 and RFC 4121): the only mechanism offered.
pub(super) const KRB5: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02];

/// One login. The context it holds is bound to one ticket and one node.
pub(super) struct Authenticator<'a> {
    pub(super) ticket: &'a Ticket,
    pub(super) gss: &'a Gss,
    pub(super) target: Target,
    pub(super) initiator: Option<Initiator>,
    /// What the server said about its side, if it did.
    pub(super) server_said: Option<String>,
}

/// Why our side gave up.
#[derive(Debug)]
pub(super) enum Failed {
    Kerberos(kerberos::Error),
    /// The server chose a mechanism that was not offered, or sent tokens out of turn.
    Server(&'static str),
    /// The session is over.
    Gone,
}

impl From<SendError> for Failed {
    fn from(_: SendError) -> Self {
        Self::Gone
    }
}

impl From<kerberos::Error> for Failed {
    fn from(error: kerberos::Error) -> Self {
        Self::Kerberos(error)
    }
}

impl GssapiAuthenticator for Authenticator<'_> {
    type Error = Failed;

    async fn gssapi_step(
        &mut self,
        selected: Option<Vec<u8>>,
        token: Option<Vec<u8>>,
        message: Vec<u8>,
    ) -> Result<GssapiStep, Failed> {
        if let Some(selected) = selected {
            if selected != KRB5 {
                return Err(Failed::Server("it chose a GSSAPI mechanism that was not offered"));
            }
            // Mutual authentication: the node proves itself by its host principal, beside its host key.
            let (initiator, token) = self
                .gss
                .begin(self.ticket, &self.target, Mech::Krb5, true)
                .await?;
            self.initiator = Some(initiator);
            return Ok(GssapiStep::Continue { token });
        }
        let (Some(initiator), Some(token)) = (self.initiator.as_mut(), token) else {
            return Err(Failed::Server("it sent a GSSAPI token out of turn"));
        };
        match initiator.step(token).await? {
            Step::Continue(token) => Ok(GssapiStep::Continue { token }),
            Step::Complete(token) => {
                // Over the session identifier: ties the login to this very connection (RFC 4462, section 3.5).
                let mic = initiator.mic(message).await?;
                Ok(GssapiStep::Complete {
                    token,
                    mic: Some(mic),
                })
            }
        }
    }

    async fn gssapi_error(&mut self, error: GssapiError) {
        self.server_said = Some(match error {
            GssapiError::Status { message, .. } => clip(&message),
            GssapiError::ErrorToken(_) => "it refused the token".to_owned(),
        });
    }
}
