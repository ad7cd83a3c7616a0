//! What is known of an OIDC login while it is under way: no network here.

use std::{fmt, time::Duration};

use credential::{Lifetime, LongToken};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use super::OidcError;
use crate::Error;

/// How the person's agreement comes to Vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The issuer shows a page where a code stands or is typed; any browser will do (RFC 8628).
    Device,
    /// The browser is sent on to Vault, which it must be able to reach.
    Direct,
}

/// An OIDC login somebody has still to agree to.
pub struct Flow {
    pub(super) issuer: String,
    /// What its calls hang below.
    pub(super) mount: String,
    pub(super) role: String,
    pub(super) address: Url,
    pub(super) state: SecretString,
    pub(super) nonce: SecretString,
    pub(super) pause: Duration,
}

/// What RFC 8628 adds to the pause when it is told to slow down.
const SLOWER: Duration = Duration::from_secs(5);
/// A server that names another pause is not believed beyond these.
const PAUSES: (u64, u64) = (1, 60);

impl Flow {
    /// One that no server began, for reading polls without one.
    pub(crate) fn new(issuer: &str, role: &str, nonce: SecretString) -> Result<Self, OidcError> {
        let address = address("https://issuer.example.org/device").map_err(|why| Error::BadName {
            text: String::new(),
            why,
        })?;
        Ok(Self {
            issuer: issuer.to_owned(),
            mount: "oidc-offline/oidc".to_owned(),
            role: role.to_owned(),
            address,
            state: nonce.clone(),
            nonce,
            pause: pause(None),
        })
    }

    /// The address to open in a browser. Only printable ASCII, so that it may be shown on a terminal.
    #[must_use]
    pub fn address(&self) -> &str {
        self.address.as_str()
    }

    /// The code that stands on the page or is to be typed there, if the address carries one.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        let code = self.parameter("user_code")?;
        let fine = code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        fine.then_some(code)
    }

    /// How the agreement comes to Vault.
    #[must_use]
    pub fn mode(&self) -> Mode {
        if self.parameter("redirect_uri").is_some() {
            Mode::Direct
        } else {
            Mode::Device
        }
    }

    /// The scopes that are asked for, where the address says so (direct mode).
    #[must_use]
    pub fn scopes(&self) -> Vec<String> {
        let scopes = self.parameter("scope").unwrap_or_default();
        scopes.split_ascii_whitespace().map(str::to_owned).collect()
    }

    /// How long to wait before the next poll.
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.pause
    }

    pub(super) fn slow_down(&mut self) {
        self.pause += SLOWER;
    }

    fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = self.address.query_pairs();
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow")
            .field("issuer", &self.issuer)
            .field("role", &self.role)
            .field("pause", &self.pause)
            .finish_non_exhaustive()
    }
}

/// An address fit to be shown and opened, or what is wrong with it.
pub(super) fn address(text: &str) -> Result<Url, &'static str> {
    if text.len() > 8192 {
        return Err("its address is longer than 8192 characters");
    }
    // parsing escapes whatever a terminal could take for more than text
    let url = Url::parse(text).map_err(|_| "its address is none")?;
    let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1"));
    if url.scheme() != "https" && !(url.scheme() == "http" && local) {
        return Err("its address is not https");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its address carries a user");
    }
    Ok(url)
}

/// The pause between polls: a number, or a string of one.
pub(super) fn pause(said: Option<&serde_json::Value>) -> Duration {
    let seconds = match said {
        Some(serde_json::Value::String(text)) => text.trim().parse().ok(),
        Some(value) => value.as_u64(),
        None => None,
    };
    Duration::from_secs(seconds.unwrap_or(5).clamp(PAUSES.0, PAUSES.1))
}

/// A refresh token on its way from the issuer to Vault's secrets engine. There is no way from here to a file.
#[derive(Clone)]
pub struct RefreshToken(SecretString);

impl RefreshToken {
    pub(super) fn new(text: String) -> Option<Self> {
        let fine = !text.is_empty() && text.len() <= 64 * 1024 && !text.chars().any(char::is_control);
        fine.then(|| Self(text.into()))
    }

    /// For the request that stores it, and nothing else.
    pub(super) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken(..)")
    }
}

/// What a person's agreement gave.
///
/// Whoever holds `token` can read the refresh token back (vault.md 3.5): exchange it before anything of it is stored.
#[derive(Debug, Clone)]
pub struct OidcLogin {
    /// The token at the root of a tree.
    pub token: LongToken,
    /// Names the token to an operator without being it.
    pub accessor: String,
    /// From the moment of the poll, for what was granted.
    pub lifetime: Lifetime,
    /// Who agreed: the credkey Vault has for this person.
    pub person: String,
    /// What bearer tokens are minted from.
    pub refresh_token: RefreshToken,
}

/// What a poll said.
#[derive(Debug)]
pub enum Polled {
    /// Nobody has agreed yet; the flow knows how long to wait.
    Pending,
    /// Somebody has. This is delivered once.
    Done(Box<OidcLogin>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(text: &str) -> Flow {
        Flow {
            issuer: "dune".into(),
            mount: "oidc-dune/oidc".into(),
            role: "production".into(),
            address: address(text).unwrap(),
            state: "s".to_owned().into(),
            nonce: "n".to_owned().into(),
            pause: pause(None),
        }
    }

    #[test]
    fn the_address_says_how_it_goes() {
        let device = flow("https://issuer.test/device?user_code=ABCD-EFGH");
        assert_eq!(
            (device.code().as_deref(), device.mode()),
            (Some("ABCD-EFGH"), Mode::Device)
        );
        let direct =
            flow("https://i.test/auth?redirect_uri=https%3A%2F%2Fv&scope=openid+wlcg.groups%3A%2Fdune");
        assert_eq!(direct.mode(), Mode::Direct);
        assert_eq!(direct.scopes(), ["openid", "wlcg.groups:/dune"]);
        assert_eq!(flow("https://issuer.test/device?user_code=%1b[2J").code(), None);
    }

    #[test]
    fn what_could_harm_a_terminal_or_lead_elsewhere_is_no_address() {
        for text in [
            "",
            "javascript:alert(1)",
            "http://issuer.test/x",
            "https://u:p@issuer.test/",
            "file:///etc",
        ] {
            assert!(address(text).is_err(), "{text}");
        }
        let shown = address("https://issuer.test/a\u{1b}[2Jb")
            .map(|url| url.to_string())
            .unwrap();
        assert!(shown.bytes().all(|b| b.is_ascii_graphic()), "{shown:?}");
    }

    #[test]
    fn pauses_are_read_and_bounded() {
        let seconds = |value: serde_json::Value| pause(Some(&value)).as_secs();
        assert_eq!(seconds("3".into()), 3);
        assert_eq!(seconds(7.into()), 7);
        assert_eq!(seconds(0.into()), 1);
        assert_eq!(seconds(100_000.into()), 60);
        assert_eq!(seconds("x".into()), 5);
        let mut flow = flow("https://issuer.test/");
        flow.slow_down();
        assert_eq!(flow.pause().as_secs(), 10);
    }

    #[test]
    fn a_refresh_token_is_not_shown_and_not_empty() {
        assert!(RefreshToken::new(String::new()).is_none());
        assert!(!format!("{:?}", RefreshToken::new("secret".into())).contains("secret"));
    }
}
