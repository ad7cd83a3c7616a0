//! The Kerberos library's part of a handshake: a token for the daemon, and the proof that the daemon has its key.

use std::error::Error as StdError;

use cedar::{
    Error as Cedar,
    auth::{Method, MethodFailure},
};
use kerberos::{Initiator, Mech, Step, Target};

use crate::{Identity, Kind};

/// One context, begun with the first question and gone with the handshake.
#[derive(Default)]
pub(super) struct Gss {
    initiator: Option<Initiator>,
    /// The library's own error, if there was one.
    error: Option<Kind>,
}

impl Gss {
    /// A token for the first of the daemon's names that the KDC knows.
    pub(super) async fn first_token(
        &mut self,
        identity: &Identity,
        hosts: &[String],
    ) -> Result<Vec<u8>, String> {
        let robot = identity.kerberos.as_ref();
        let robot = robot.ok_or_else(|| "there is no ticket".to_owned())?;
        let mut failed = Kind::Nameless;
        for host in hosts {
            let target = Target::Principal(format!("host/{host}@"));
            match robot.gss.begin(&robot.ticket, &target, Mech::Krb5, true).await {
                Ok((initiator, token)) => {
                    self.initiator = Some(initiator);
                    return Ok(token);
                }
                Err(error @ kerberos::Error::ServiceUnknown { .. }) => {
                    // the first name is the one people know
                    if matches!(failed, Kind::Nameless) {
                        failed = Kind::Kerberos(error);
                    }
                }
                Err(error) => {
                    failed = Kind::Kerberos(error);
                    break;
                }
            }
        }
        Err(self.failed(failed))
    }

    /// Complete and nothing more to say: the peer has the key of the ticket.
    pub(super) async fn prove(&mut self, token: Vec<u8>) -> Result<(), String> {
        let initiator = self.initiator.as_mut();
        let initiator = initiator.ok_or_else(|| "there is no context".to_owned())?;
        match initiator.step(token).await {
            Ok(Step::Complete(None)) => Ok(()),
            Ok(_) => Err("the peer's token does not complete the context".to_owned()),
            Err(error) => Err(self.failed(Kind::Kerberos(error))),
        }
    }

    fn failed(&mut self, kind: Kind) -> String {
        let why = match &kind {
            Kind::Kerberos(error) => told(error),
            kind => told(kind),
        };
        self.error = Some(kind);
        why
    }

    /// The handshake's error, with the library's own where that is the reason or one of several.
    pub(super) fn explain(&mut self, error: Cedar) -> Kind {
        match (self.error.take(), error) {
            (Some(kind), Cedar::PeerNotProven(_)) => kind,
            (Some(kind), Cedar::MethodsFailed(tried))
                if matches!(
                    tried.as_slice(),
                    [(Method::Kerberos, MethodFailure::Unavailable(_))]
                ) =>
            {
                kind
            }
            (Some(Kind::Kerberos(kerberos)), Cedar::MethodsFailed(tried)) => Kind::MethodsFailed {
                tried,
                kerberos: Box::new(kerberos),
            },
            (_, error) => error.into(),
        }
    }
}

/// An error and its causes in one line, for reasons that travel as text.
fn told(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, Stage};

    fn gss(error: kerberos::Error) -> Gss {
        Gss {
            initiator: None,
            error: Some(Kind::Kerberos(error)),
        }
    }

    fn silent() -> kerberos::Error {
        kerberos::Error::KdcUnreachable {
            realm: "EXAMPLE.ORG".into(),
            text: "cannot contact".into(),
        }
    }

    fn after(error: kerberos::Error, others: &[(Method, MethodFailure)]) -> Error {
        let unavailable = MethodFailure::Unavailable("no KDC".into());
        let mut tried = vec![(Method::Kerberos, unavailable)];
        tried.extend_from_slice(others);
        Error::new(
            &"credd ap1",
            Stage::Authenticating,
            gss(error).explain(Cedar::MethodsFailed(tried)),
        )
    }

    /// A KDC that is silent may speak again, whatever the other methods said.
    #[test]
    fn the_kerberos_error_stays_what_it_is_among_several() {
        let others = [(Method::Ssl, MethodFailure::Refused)];
        let error = after(silent(), &others);
        let Kind::MethodsFailed { tried, kerberos } = &error.kind else {
            panic!("{error:?}");
        };
        assert_eq!((tried.len(), kerberos.retryable()), (2, true));
        assert!(error.retryable());
        let text = error.kind.to_string();
        assert!(text.contains("KERBEROS") && text.contains("SSL"), "{text}");
        // and one that needs somebody's hand does not become right by waiting
        let skew = kerberos::Error::ClockSkew {
            realm: "EXAMPLE.ORG".into(),
            text: "skew".into(),
        };
        assert!(!after(skew, &others).retryable());
    }

    #[test]
    fn alone_it_is_the_whole_reason() {
        let error = after(silent(), &[]);
        assert!(
            matches!(error.kind, Kind::Kerberos(kerberos::Error::KdcUnreachable { .. })),
            "{error:?}"
        );
    }
}
