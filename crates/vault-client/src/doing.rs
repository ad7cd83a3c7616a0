//! What is asked of Vault, as messages call it.

use std::fmt;

/// What was being done when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Doing {
    /// Kerberos login.
    Login,
    /// Exchanging a Vault token for a child.
    Child,
    /// Reading a bearer token.
    Bearer,
    /// Exchanging a bearer token for one with less.
    Exchange,
    /// Deleting a refresh token.
    Delete,
    /// Looking a token up by itself.
    Lookup,
    /// Revoking a token by itself.
    Revoke,
    /// Beginning an OIDC login.
    OidcStart,
    /// Asking whether somebody has agreed to an OIDC login.
    OidcPoll,
    /// Storing a refresh token.
    StoreRefresh,
    /// Looking up or revoking another token by its accessor.
    Accessor,
    /// Getting a nonce for a login with a key of an SSH agent.
    SshNonce,
    /// Logging in with a key of an SSH agent.
    SshLogin,
    /// Asking how the server is.
    Health,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Login => "the Kerberos login",
            Self::Child => "creating a child token",
            Self::Bearer => "reading a bearer token",
            Self::Exchange => "reading a bearer token with fewer scopes or another audience",
            Self::Delete => "deleting a refresh token",
            Self::Lookup => "looking up a token",
            Self::Revoke => "revoking a token",
            Self::OidcStart => "beginning an OIDC login",
            Self::OidcPoll => "waiting for the OIDC login",
            Self::StoreRefresh => "storing a refresh token",
            Self::Accessor => "using an accessor",
            Self::SshNonce => "beginning a login with an SSH key",
            Self::SshLogin => "the login with an SSH key",
            Self::Health => "asking how it is",
        })
    }
}
