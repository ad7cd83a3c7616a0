//! What can go wrong between a person, an issuer and Vault.

use crate::{Error, Fault};

/// Why an OIDC login or what it is for came to nothing. `text` is what the server said, bounded and without tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OidcError {
    /// Vault has no such role for OIDC logins.
    #[error(
        "Vault {server} has no OIDC login for issuer {issuer} and role {role}: check both names, or ask its operators"
    )]
    NoSuchRole {
        /// Which server.
        server: String,
        /// The issuer.
        issuer: String,
        /// The role.
        role: String,
    },
    /// 200 with an empty address: the redirect URI is not one the role allows.
    #[error(
        "Vault {server} does not begin the login: the redirect address {redirect} is not allowed for it; check the Vault alias"
    )]
    RedirectRefused {
        /// Which server.
        server: String,
        /// What we offered.
        redirect: String,
    },
    /// The issuer did not do its part.
    #[error("Vault {server} cannot use the token issuer ({text}): start again when it is back")]
    Issuer {
        /// Which server.
        server: String,
        /// What the server said.
        text: String,
    },
    /// The person said no.
    #[error(
        "the login was refused in the browser ({text}): start again and agree, as somebody who may act for the robot"
    )]
    Denied {
        /// What the server said.
        text: String,
    },
    /// Nobody agreed while the issuer waited.
    #[error("nobody agreed in the browser in time: start again, and open the address at once")]
    Expired,
    /// Nobody agreed for as long as we were to wait.
    #[error("nobody agreed in the browser within {seconds} s: start again, and open the address at once")]
    TimedOut {
        /// For how long we waited.
        seconds: u64,
    },
    /// The server no longer knows the login: too old, delivered already, or its node was replaced.
    #[error("Vault {server} no longer knows this login ({text}): start again")]
    StateLost {
        /// Which server.
        server: String,
        /// What the server said.
        text: String,
    },
    /// The issuer's answer lacks what Vault needs to know the person by.
    #[error(
        "Vault {server} cannot use what the issuer says of this person ({text}): its operators must look at the client's claims"
    )]
    ClaimMissing {
        /// Which server.
        server: String,
        /// What the server said.
        text: String,
    },
    /// The login worked, but nothing can be minted from it.
    #[error(
        "the issuer gave no refresh token to Vault {server}: the client there lacks the scope offline_access"
    )]
    NoRefreshToken {
        /// Which server.
        server: String,
    },
    /// The person may not store at this path.
    #[error(
        "the person who agreed ({person}) may not store the refresh token at {path}: log in as somebody who may act for it, or correct the credkey"
    )]
    NotYours {
        /// The credkey of the person, as Vault has it.
        person: String,
        /// The path below `/v1/`.
        path: String,
    },
    /// The issuer refuses the new refresh token.
    #[error(
        "the issuer refuses the new refresh token at {path} ({text}): start again; if that repeats, its operators must look"
    )]
    RefreshRefused {
        /// The path below `/v1/`.
        path: String,
        /// What the server said.
        text: String,
    },
    /// Whatever any request may meet.
    #[error(transparent)]
    Vault(#[from] Error),
}

impl OidcError {
    /// Who has to act, as far as the answer tells.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Vault(error) => error.fault(),
            Self::NoSuchRole { .. } | Self::RedirectRefused { .. } => Fault::Ours,
            Self::ClaimMissing { .. } | Self::StateLost { .. } => Fault::Vault,
            _ => Fault::Issuer,
        }
    }
}

/// What Vault says when an OIDC login cannot begin (vault.md 5.1).
pub(super) fn not_begun(error: Error, issuer: &str, role: &str) -> OidcError {
    let no_role = |server: String| OidcError::NoSuchRole {
        server,
        issuer: issuer.to_owned(),
        role: role.to_owned(),
    };
    match error {
        Error::TokenInvalid { server, .. } => no_role(server),
        Error::Rejected { server, text, .. } if text.contains("could not be found") => no_role(server),
        Error::ServerFailed { server, text, .. } if about_issuer(&text) => OidcError::Issuer { server, text },
        Error::Rejected { server, text, .. } if about_issuer(&text) => OidcError::Issuer { server, text },
        error => error.into(),
    }
}

fn about_issuer(text: &str) -> bool {
    [
        "authorizing device",
        "device auth",
        "issuer response",
        "OIDC",
        "provider",
    ]
    .iter()
    .any(|part| text.contains(part))
}

/// What a poll may be answered that is no success (vault.md 5.2).
pub(super) enum Answer {
    Pending,
    SlowDown,
    Over(OidcError),
}

pub(super) fn polled(error: Error) -> Answer {
    let (server, status, text) = match error {
        Error::Rejected {
            server, status, text, ..
        }
        | Error::ServerFailed {
            server, status, text, ..
        } => (server, status, text),
        error => return Answer::Over(error.into()),
    };
    let has = |part: &str| text.contains(part);
    if status == 400 && has("authorization_pending") {
        return Answer::Pending;
    }
    if status == 400 && has("slow_down") {
        return Answer::SlowDown;
    }
    Answer::Over(if has("access_denied") {
        OidcError::Denied { text }
    } else if has("expired_token") {
        OidcError::Expired
    } else if has("OAuth state") || has("client_nonce") {
        OidcError::StateLost { server, text }
    } else if has("not found in token") || has("id_token") || has("claim") {
        OidcError::ClaimMissing { server, text }
    } else {
        OidcError::Issuer { server, text }
    })
}

/// What Vault says to a refresh token it does not keep (vault.md 4.7).
pub(super) fn not_stored(error: Error, person: &str) -> OidcError {
    match error {
        Error::NotPermitted { path, .. } => OidcError::NotYours {
            person: person.to_owned(),
            path,
        },
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Doing;

    fn rejected(status: u16, text: &str) -> Error {
        let (server, doing, text) = ("v:8200".to_owned(), Doing::OidcPoll, text.to_owned());
        if status < 500 {
            Error::Rejected {
                server,
                doing,
                status,
                text,
            }
        } else {
            Error::ServerFailed {
                server,
                doing,
                status,
                text,
            }
        }
    }

    /// Texts as an OpenBao 2.6.2 has them.
    #[test]
    fn every_answer_to_a_poll_has_its_meaning() {
        let of = |status, text: &str| polled(rejected(status, text));
        assert!(matches!(of(400, "authorization_pending"), Answer::Pending));
        assert!(matches!(of(400, "slow_down"), Answer::SlowDown));
        for (status, text, wanted) in [
            (400, "authorization failed: access_denied", "Denied"),
            (400, "authorization failed: expired_token", "Expired"),
            (
                400,
                "OpenBao login failed. Expired or missing OAuth state.",
                "StateLost",
            ),
            (
                400,
                "Vault login failed. Expired or missing OAuth state.",
                "StateLost",
            ),
            (400, "invalid client_nonce", "StateLost"),
            (
                400,
                r#"OpenBao login failed. claim "x" not found in token"#,
                "ClaimMissing",
            ),
            (
                400,
                "Token verification failed. No id_token found in response.",
                "ClaimMissing",
            ),
            (500, "error polling for device authorization: 503", "Issuer"),
        ] {
            let Answer::Over(error) = of(status, text) else {
                panic!("{text}")
            };
            assert!(format!("{error:?}").starts_with(wanted), "{text}: {error:?}");
        }
    }

    #[test]
    fn a_login_that_does_not_begin_says_why() {
        let of = |status, text: &str| not_begun(rejected(status, text), "dune", "x");
        assert!(matches!(
            of(400, r#"role "x" could not be found"#),
            OidcError::NoSuchRole { .. }
        ));
        assert!(matches!(
            of(500, "error decoding issuer response to device auth: dial tcp"),
            OidcError::Issuer { .. }
        ));
    }
}
