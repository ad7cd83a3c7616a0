//! What a Vault, or the way to it, can do to us (vault.md 2.5, 3.7, 4.5, 8.4).

use std::time::Duration;

use crate::Doing;

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Our own configuration, or what we were given to work with.
    Ours,
    /// The Vault server or its operators.
    Vault,
    /// The token issuer behind Vault, or the person who must authorise the robot there.
    Issuer,
    /// The way to the server.
    Network,
}

/// Why a request to Vault came to nothing. `server` is `host:port`; `text` is what the server said, bounded, on one
/// line and without tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configured server is not one.
    #[error("{text:?} is not a Vault server: {why}")]
    BadServer {
        /// What was given.
        text: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// Issuer, credkey or role cannot stand in a path.
    #[error("{text:?} cannot be part of a path in Vault: {why}")]
    BadName {
        /// What was given.
        text: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// The HTTP client could not be set up.
    #[error("the HTTP client for {server} cannot be set up ({text})")]
    Setup {
        /// For which server.
        server: String,
        /// The library's words.
        text: String,
    },

    /// 401 at login: Vault does not take the ticket. Its own log has the reason; it does not tell us.
    #[error(
        "Vault {server} refuses the Kerberos ticket at {mount} ({text}): either it was made for another service than \
         the server's own (check the Vault alias), or clocks differ by more than 5 minutes, or the server's keytab is \
         behind the KDC, or the KDC adds a PAC the server cannot read"
    )]
    TicketRefused {
        /// Which server.
        server: String,
        /// The login's mount.
        mount: String,
        /// What the server said.
        text: String,
    },
    /// 401 before the ticket was looked at: the mount does not pass the header on.
    #[error(
        "Vault {server} did not see our ticket at {mount} ({text}): the mount must let the Authorization header through"
    )]
    HeaderNotSeen {
        /// Which server.
        server: String,
        /// The login's mount.
        mount: String,
        /// What the server said.
        text: String,
    },
    /// 403 at login: there is no such login.
    #[error("Vault {server} has no login {mount} (or none for our address): check issuer and role")]
    MountMissing {
        /// Which server.
        server: String,
        /// The login's mount.
        mount: String,
    },
    /// The server does not take the key, or not for this role; or the nonce was too old by then.
    #[error(
        "Vault {server} does not take this SSH key at {mount} ({text}), or the signature came later than 30 s: register \
         the key, or use another login"
    )]
    SshRefused {
        /// Which server.
        server: String,
        /// The login's mount.
        mount: String,
        /// What the server said.
        text: String,
    },
    /// The ticket was good, but Vault's LDAP server did not do its part.
    #[error("Vault {server} accepted the ticket but cannot use its LDAP server ({text})")]
    LdapDown {
        /// Which server.
        server: String,
        /// What the server said.
        text: String,
    },
    /// The login method lacks its configuration.
    #[error("the Kerberos login {mount} of Vault {server} is not set up ({text}): its operators must do so")]
    MethodBroken {
        /// Which server.
        server: String,
        /// The login's mount.
        mount: String,
        /// What the server said.
        text: String,
    },
    /// A second factor is wanted.
    #[error("Vault {server} wants a second factor at {mount}, which a robot does not have")]
    MfaRequired {
        /// Which server.
        server: String,
        /// The login's mount.
        mount: String,
    },
    /// The login succeeded as somebody else.
    #[error("Vault {server} logged us in as {got:?} where {expected:?} was expected: the token is not used")]
    WrongIdentity {
        /// Which server.
        server: String,
        /// The principal of the ticket.
        expected: String,
        /// Whom the server says we are.
        got: String,
    },

    /// 403 of the first kind: the Vault token is unknown, expired or revoked, or bound to another network.
    #[error(
        "Vault {server} does not accept the Vault token when {doing}: it has expired or was revoked; log in again"
    )]
    TokenInvalid {
        /// Which server.
        server: String,
        /// What was being done.
        doing: Doing,
    },
    /// 403 of the second kind: the token is good, but nothing allows this path.
    #[error(
        "Vault {server} does not let this token use {path}: check credkey, issuer and role{}",
        slash_rule(path)
    )]
    NotPermitted {
        /// Which server.
        server: String,
        /// What was being done.
        doing: Doing,
        /// The path below `/v1/`.
        path: String,
    },
    /// 404: no refresh token is stored there.
    #[error("Vault {server} has no refresh token at {path}: the robot must be authorised once (onboarding)")]
    NotOnboarded {
        /// Which server.
        server: String,
        /// The path below `/v1/`.
        path: String,
    },
    /// The issuer refused the stored refresh token for good.
    #[error(
        "the token issuer behind Vault {server} refuses the refresh token at {path} ({text}): authorise the robot again (onboarding)"
    )]
    RefreshRefused {
        /// Which server.
        server: String,
        /// The path below `/v1/`.
        path: String,
        /// What the server said.
        text: String,
    },
    /// The issuer does not exchange the token for one with these scopes or audiences.
    #[error(
        "the token issuer behind Vault {server} refuses these scopes or this audience for {path} ({text}): ask for \
         what the role has"
    )]
    ExchangeRefused {
        /// Which server.
        server: String,
        /// The path below `/v1/`.
        path: String,
        /// What the server said.
        text: String,
    },
    /// An issuer's public keys could not be had.
    #[error("the keys of the token issuer {issuer} cannot be read ({text})")]
    NoIssuerKeys {
        /// Which issuer.
        issuer: String,
        /// What happened.
        text: String,
        /// Whether it may pass by itself.
        passing: bool,
    },
    /// 400 `token expired`, which says three things (vault.md 4.5).
    #[error(
        "Vault {server} has no bearer token at {path} that lives {minimum_seconds} s: the issuer cannot be reached \
         from there, or it issues shorter tokens, or there is no refresh token; try a smaller minimum"
    )]
    TokenExpired400 {
        /// Which server.
        server: String,
        /// The path below `/v1/`.
        path: String,
        /// The least life asked for, in seconds.
        minimum_seconds: u32,
    },
    /// The issuer was removed from the server's configuration.
    #[error(
        "Vault {server} has lost the configuration of the issuer of {path} ({text}): its operators must restore it"
    )]
    IssuerRemoved {
        /// Which server.
        server: String,
        /// The path below `/v1/`.
        path: String,
        /// What the server said.
        text: String,
    },
    /// A granted life that may not become a file, or none at all.
    #[error(
        "Vault {server} granted a child token of {seconds} s where at most {asked} s were asked for: it is not used"
    )]
    TooLongLived {
        /// Which server.
        server: String,
        /// What was granted.
        seconds: i64,
        /// What was asked for.
        asked: i64,
    },
    /// A child was asked for that could not live, or would live too long to become a file.
    #[error("a child token of {seconds} s cannot be asked for: it must live between 1 and {limit} s")]
    BadLifetime {
        /// What was asked for.
        seconds: i64,
        /// The most there may be.
        limit: i64,
    },

    /// Another refusal of this request.
    #[error("Vault {server} refused {doing} with status {status} ({text})")]
    Rejected {
        /// Which server.
        server: String,
        /// What was being done.
        doing: Doing,
        /// The HTTP status.
        status: u16,
        /// What the server said.
        text: String,
    },
    /// The server failed at this request.
    #[error("Vault {server} failed at {doing} with status {status} ({text})")]
    ServerFailed {
        /// Which server.
        server: String,
        /// What was being done.
        doing: Doing,
        /// The HTTP status.
        status: u16,
        /// What the server said.
        text: String,
    },
    /// 503: nobody has unsealed it.
    #[error("Vault {server} is sealed: its operators must unseal it")]
    Sealed {
        /// Which server.
        server: String,
    },
    /// It was never set up.
    #[error(
        "Vault {server} was never initialised: it is new or has lost its storage; its operators must look at it"
    )]
    Uninitialised {
        /// Which server.
        server: String,
    },
    /// The cluster has no active node, or its standby points at one that is gone.
    #[error("Vault {server} has no active node at the moment ({text})")]
    NoActiveNode {
        /// Which server.
        server: String,
        /// What the server said.
        text: String,
    },
    /// 429: the quota of our address is used up. Nothing gets through until the block ends, by default 5 minutes.
    #[error(
        "Vault {server} blocks our address: its request quota is used up, by us or by others behind the same address"
    )]
    RateLimited {
        /// Which server.
        server: String,
        /// The server's wish, if it has one.
        retry_after: Option<Duration>,
    },

    /// No address of the server could be connected to.
    #[error("Vault {server} cannot be reached ({text})")]
    Unreachable {
        /// Which server.
        server: String,
        /// Each address and what happened.
        text: String,
    },
    /// The server's certificate is not to be believed.
    #[error(
        "Vault {server} shows a certificate we do not believe ({text}): check the CA and the certificate's name"
    )]
    Certificate {
        /// Which server.
        server: String,
        /// The TLS library's words.
        text: String,
    },
    /// No answer in time. The server may have done what was asked.
    #[error("Vault {server} did not answer {doing} within {} s", .after.as_secs())]
    Timeout {
        /// Which server.
        server: String,
        /// What was being done.
        doing: Doing,
        /// For how long we waited.
        after: Duration,
    },
    /// The connection broke after the request was sent. The server may have done what was asked.
    #[error("the connection to Vault {server} broke during {doing} ({text})")]
    Interrupted {
        /// Which server.
        server: String,
        /// What was being done.
        doing: Doing,
        /// The library's words.
        text: String,
    },
    /// The answer is not what it should be.
    #[error("the answer of Vault {server} to {doing} cannot be used: {what}")]
    BadAnswer {
        /// Which server.
        server: String,
        /// What was being done.
        doing: Doing,
        /// What is wrong with it.
        what: String,
    },
}

fn slash_rule(path: &str) -> &'static str {
    // secret/oauth/creds/<issuer>/<credkey>:<role>
    let credkey = path.splitn(5, '/').nth(4).unwrap_or_default();
    if credkey.contains('/') {
        "; if they are right, the server's policy lacks allow_slashes_in_identity_templates (OpenBao 2.6 or newer \
         with htvault-config older than 2.4.1), which a credkey with a slash needs"
    } else {
        ""
    }
}

impl Error {
    /// Whether the same request may succeed later without anybody changing anything.
    /// [`Error::TicketRefused`] is not among them, but asks for one more try where the ticket was old: a new AP-REQ
    /// is needed for every attempt anyway.
    #[must_use]
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Self::LdapDown { .. }
                | Self::TokenExpired400 { .. }
                | Self::ServerFailed { .. }
                | Self::Sealed { .. }
                | Self::NoActiveNode { .. }
                | Self::RateLimited { .. }
                | Self::Unreachable { .. }
                | Self::Timeout { .. }
                | Self::Interrupted { .. }
                | Self::NoIssuerKeys { passing: true, .. }
        )
    }

    /// Who has to act, as far as the answer tells.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::BadServer { .. }
            | Self::BadName { .. }
            | Self::Setup { .. }
            | Self::TicketRefused { .. }
            | Self::MountMissing { .. }
            | Self::SshRefused { .. }
            | Self::TokenInvalid { .. }
            | Self::NotPermitted { .. }
            | Self::BadLifetime { .. }
            | Self::ExchangeRefused { .. }
            | Self::Rejected { .. }
            | Self::Certificate { .. } => Fault::Ours,
            Self::NotOnboarded { .. }
            | Self::RefreshRefused { .. }
            | Self::TokenExpired400 { .. }
            | Self::NoIssuerKeys { .. } => Fault::Issuer,
            Self::HeaderNotSeen { .. }
            | Self::LdapDown { .. }
            | Self::MethodBroken { .. }
            | Self::MfaRequired { .. }
            | Self::WrongIdentity { .. }
            | Self::IssuerRemoved { .. }
            | Self::TooLongLived { .. }
            | Self::ServerFailed { .. }
            | Self::Sealed { .. }
            | Self::Uninitialised { .. }
            | Self::NoActiveNode { .. }
            | Self::RateLimited { .. }
            | Self::BadAnswer { .. } => Fault::Vault,
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Interrupted { .. } => Fault::Network,
        }
    }
}
