//! A status and what the server said -> [`Error`]: the tables of vault.md 2.5, 3.7, 4.5, 8.4 and section 13.

use std::time::Duration;

use http::{Response, header};

use crate::{
    Doing, Error,
    answer::{Envelope, clean},
};

/// What was asked, for the message.
pub(crate) struct Asked<'a> {
    pub(crate) server: &'a str,
    pub(crate) doing: Doing,
    /// The login's mount, or the path below `/v1/`.
    pub(crate) path: &'a str,
    pub(crate) minimum_seconds: u32,
    /// What may not be repeated in a message.
    pub(crate) secrets: &'a [&'a str],
}

/// Why an answer that is not a success is none.
pub(crate) fn refusal(response: &Response<Vec<u8>>, asked: &Asked<'_>) -> Error {
    let status = response.status().as_u16();
    let envelope = Envelope::parse(response.body());
    let (errors, warnings) = envelope.map(|e| (e.errors, e.warnings)).unwrap_or_default();
    let told = errors.is_some();
    let errors = errors.unwrap_or_default().join("; ");
    // a refused ticket has its text among the warnings and no errors at all
    let said = if errors.is_empty() {
        warnings.unwrap_or_default().join("; ")
    } else {
        errors
    };
    let text = match clean(&said, asked.secrets) {
        empty if empty.is_empty() => "no reason given".to_owned(),
        text => text,
    };
    let (server, doing, path) = (asked.server.to_owned(), asked.doing, asked.path.to_owned());
    let has = |part: &str| said.contains(part);

    // what concerns the server as a whole comes first
    match status {
        429 => {
            return Error::RateLimited {
                server,
                retry_after: retry_after(response),
            };
        }
        503 if has("sealed") => return Error::Sealed { server },
        400 | 501 | 503 if has("not initialized") => return Error::Uninitialised { server },
        307 => {
            let text = "a standby sends us to an active node that cannot be reached".to_owned();
            return Error::NoActiveNode { server, text };
        }
        500 | 503 if has("active cluster node not found") || has("no active") => {
            return Error::NoActiveNode { server, text };
        }
        _ => {}
    }
    match (doing, status) {
        (Doing::Login, 401) if has("authentication required") => Error::HeaderNotSeen {
            server,
            mount: path,
            text,
        },
        (Doing::Login, 401) => Error::TicketRefused {
            server,
            mount: path,
            text,
        },
        (Doing::Login, 403) => Error::MountMissing { server, mount: path },
        (Doing::Login, 500) if has("not configured") || has("could not parse keytab") => {
            Error::MethodBroken {
                server,
                mount: path,
                text,
            }
        }
        (Doing::Login, 500) if has("LDAP") || has("ldap") || has("binddn") => {
            Error::LdapDown { server, text }
        }
        (Doing::SshNonce, 403 | 404) => Error::MountMissing { server, mount: path },
        (Doing::SshLogin, 400 | 401 | 403) => Error::SshRefused {
            server,
            mount: path,
            text,
        },
        // newer HashiCorp servers say "invalid token" inside the second form
        (_, 403) if has("error occurred") && !has("invalid token") => {
            Error::NotPermitted { server, doing, path }
        }
        (_, 403) if has("permission denied") || has("bad token") => Error::TokenInvalid { server, doing },
        // an audience refused by the issuer is a 500 in places (vault.md 13.1), and no retry helps
        (Doing::Exchange, 400 | 500) if has("exchange failed") || has("server rejected request") => {
            // "refresh failed: server rejected request" is the base token's trouble
            if has("refresh failed") {
                Error::RefreshRefused { server, path, text }
            } else {
                Error::ExchangeRefused { server, path, text }
            }
        }
        (Doing::Bearer | Doing::Exchange, 404) if told && said.is_empty() => {
            Error::NotOnboarded { server, path }
        }
        (Doing::Bearer | Doing::Exchange, 400) if has("refresh failed") => {
            Error::RefreshRefused { server, path, text }
        }
        (Doing::Bearer | Doing::Exchange, 400) if has("token expired") => Error::TokenExpired400 {
            server,
            path,
            minimum_seconds: asked.minimum_seconds,
        },
        (Doing::Bearer | Doing::Exchange, 400) if has("server configuration does not exist") => {
            Error::IssuerRemoved { server, path, text }
        }
        // and 412 is a performance standby of HashiCorp's that has not caught up yet: it will
        (_, 412 | 500..) => Error::ServerFailed {
            server,
            doing,
            status,
            text,
        },
        _ => Error::Rejected {
            server,
            doing,
            status,
            text,
        },
    }
}

/// What an answer says of the node it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stands {
    /// It is the cluster's answer.
    Answers,
    /// It is a standby that cannot forward, and names the active node.
    SendsElsewhere,
    /// It knows of no active node.
    WithoutLeader,
    /// It cannot take part, and others may.
    Sealed,
}

pub(crate) fn stands(response: &Response<Vec<u8>>) -> Stands {
    let has = |text: &str| String::from_utf8_lossy(response.body()).contains(text);
    match response.status().as_u16() {
        307 => Stands::SendsElsewhere,
        503 if has("sealed") || has("not initialized") => Stands::Sealed,
        503 if has("no active") => Stands::WithoutLeader,
        500 if has("active cluster node not found") => Stands::WithoutLeader,
        _ => Stands::Answers,
    }
}

pub(crate) fn retry_after(response: &Response<Vec<u8>>) -> Option<Duration> {
    let seconds: u64 = response
        .headers()
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    // whatever a peer wishes, an hour is the most we believe
    Some(Duration::from_secs(seconds.min(3600)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(doing: Doing, status: u16, body: &str) -> Error {
        let response = Response::builder()
            .status(status)
            .body(body.as_bytes().to_vec())
            .unwrap();
        let path = match doing {
            Doing::Login => "kerberos-dune_production",
            _ => "secret/oauth/creds/dune/dunepro/managedtokens/mtk.test:production",
        };
        let secrets = ["s.TYxvHbouQs2yHGpAkeMiaDd3"];
        refusal(
            &response,
            &Asked {
                server: "vault.test:8200",
                doing,
                path,
                minimum_seconds: 60,
                secrets: &secrets,
            },
        )
    }

    /// Bodies as an OpenBao 2.6.2 sent them.
    #[test]
    fn login() {
        use Doing::Login;
        let envelope = r#"{"request_id":"","lease_id":"","renewable":false,"lease_duration":0,"data":null,"wrap_info":null,"warnings":["Unauthorised.\n\n"],"auth":null}"#;
        let error = of(Login, 401, envelope);
        assert!(
            matches!(&error, Error::TicketRefused { text, .. } if text == "Unauthorised."),
            "{error:?}"
        );
        assert!(!error.retryable());
        assert!(matches!(
            of(Login, 401, r#"{"errors":["authentication required"]}"#),
            Error::HeaderNotSeen { .. }
        ));
        assert!(matches!(
            of(Login, 403, r#"{"errors":["permission denied"]}"#),
            Error::MountMissing { .. }
        ));
        for text in [
            "could not connect to LDAP: dial tcp: refused",
            "LDAP bind failed: x",
            "unable to get ldap groups: x",
        ] {
            let error = of(Login, 500, &format!(r#"{{"errors":["{text}"]}}"#));
            assert!(
                matches!(error, Error::LdapDown { .. }) && error.retryable(),
                "{error:?}"
            );
        }
        for text in [
            "backend kerberos not configured",
            "ldap backend not configured",
            "could not parse keytab: x",
        ] {
            let error = of(Login, 500, &format!(r#"{{"errors":["{text}"]}}"#));
            assert!(
                matches!(error, Error::MethodBroken { .. }) && !error.retryable(),
                "{error:?}"
            );
        }
    }

    #[test]
    fn the_two_kinds_of_403() {
        let invalid = of(Doing::Bearer, 403, r#"{"errors":["permission denied"]}"#);
        assert!(matches!(
            invalid,
            Error::TokenInvalid {
                doing: Doing::Bearer,
                ..
            }
        ));
        let policy = of(
            Doing::Bearer,
            403,
            r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#,
        );
        assert!(matches!(policy, Error::NotPermitted { .. }));
        assert!(policy.to_string().contains("allow_slashes"), "{policy}");
        let hashicorp = r#"{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}"#;
        assert!(matches!(
            of(Doing::Child, 403, hashicorp),
            Error::TokenInvalid { .. }
        ));
    }

    #[test]
    fn bearer() {
        use Doing::Bearer;
        let said = |status, text: &str| of(Bearer, status, &format!(r#"{{"errors":["{text}"]}}"#));
        assert!(matches!(
            of(Bearer, 404, r#"{"errors":[]}"#),
            Error::NotOnboarded { .. }
        ));
        assert!(matches!(
            of(Bearer, 404, "<html>"),
            Error::Rejected { status: 404, .. }
        ));
        assert!(matches!(said(404, "namespace not found"), Error::Rejected { .. }));
        let refused = said(
            400,
            "refresh failed: server rejected request: invalid_grant: expired",
        );
        assert!(matches!(&refused, Error::RefreshRefused { text, .. } if text.contains("invalid_grant")));
        assert_eq!(refused.fault(), crate::Fault::Issuer);
        assert!(matches!(
            said(400, "token expired"),
            Error::TokenExpired400 {
                minimum_seconds: 60,
                ..
            }
        ));
        let removed = "server \\\"dune\\\" has configuration problems: server configuration does not exist (was it deleted?)";
        assert!(matches!(said(400, removed), Error::IssuerRemoved { .. }));
        assert!(matches!(
            said(400, "something else"),
            Error::Rejected { status: 400, .. }
        ));
        assert!(said(500, "internal error").retryable());
    }

    #[test]
    fn exchange() {
        let said = |status, text: &str| of(Doing::Exchange, status, &format!(r#"{{"errors":["{text}"]}}"#));
        for (status, text) in [
            (
                400,
                "exchange failed: server rejected request: invalid_scope: not granted: x",
            ),
            (
                500,
                "1 error occurred:\\n\\t* server rejected request: invalid_target: audience not allowed",
            ),
        ] {
            let error = said(status, text);
            assert!(
                matches!(error, Error::ExchangeRefused { .. }) && !error.retryable(),
                "{error:?}"
            );
        }
        assert!(matches!(
            said(400, "refresh failed: server rejected request: invalid_grant"),
            Error::RefreshRefused { .. }
        ));
        assert!(matches!(
            said(500, "dial tcp: refused"),
            Error::ServerFailed { .. }
        ));
        assert!(matches!(
            of(Doing::Exchange, 404, r#"{"errors":[]}"#),
            Error::NotOnboarded { .. }
        ));
    }

    #[test]
    fn the_server_as_a_whole() {
        for doing in [Doing::Login, Doing::Child, Doing::Bearer, Doing::Revoke] {
            let said = |status, text: &str| of(doing, status, &format!(r#"{{"errors":["{text}"]}}"#));
            assert!(matches!(said(503, "Vault is sealed"), Error::Sealed { .. }));
            assert!(matches!(
                said(503, "no active Vault instance found"),
                Error::NoActiveNode { .. }
            ));
            let lost = "local node not active but active cluster node not found";
            assert!(matches!(said(500, lost), Error::NoActiveNode { .. }));
            let quota = r#"request path \"x\": rate limit quota exceeded"#;
            assert!(matches!(
                said(429, quota),
                Error::RateLimited {
                    retry_after: None,
                    ..
                }
            ));
            assert!(matches!(of(doing, 307, ""), Error::NoActiveNode { .. }));
            let empty = said(503, "Vault is not initialized");
            assert!(matches!(empty, Error::Uninitialised { .. }) && !empty.retryable());
            assert!(matches!(
                of(doing, 502, "<html>bad gateway"),
                Error::ServerFailed { status: 502, .. }
            ));
        }
    }

    #[test]
    fn a_token_the_server_repeats_is_not_shown() {
        let body = r#"{"errors":["token s.TYxvHbouQs2yHGpAkeMiaDd3 is bad"]}"#;
        let shown = format!("{:?} {0}", of(Doing::Child, 400, body));
        assert!(!shown.contains("TYxv"), "{shown}");
    }
}
