//! OIDC: a person agrees in a browser, and what robots live from comes of it (vault.md 5).
//!
//! The order is: begin, show the address, poll until somebody has agreed, exchange the login token for a child, store
//! the refresh token with the child, and give the login back if nothing below it is to live on.

mod error;
mod flow;

use std::{fmt, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use credential::act::{Act, Verb, tell};
use credential::{Lifetime, LongToken, VaultToken};
use jiff::{SignedDuration, Timestamp};
use rustify_derive::Endpoint;
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};
use tokio::time::Instant;

pub use error::OidcError;
pub use flow::{Flow, Mode, OidcLogin, Polled, RefreshToken};

use crate::{Client, Doing, Error, SecretPath, answer::Envelope, grant};

/// A text of a request's body that nobody's Debug shows.
pub(crate) struct Hidden(pub(crate) SecretString);

impl Serialize for Hidden {
    /// Only into the body of the one request it is part of.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

#[derive(Debug, Endpoint)]
#[endpoint(path = "auth/{self.mount}/auth_url", method = "POST")]
struct AuthUrl {
    #[endpoint(skip)]
    mount: String,
    role: String,
    client_nonce: Hidden,
    redirect_uri: String,
}

#[derive(Debug, Endpoint)]
#[endpoint(path = "auth/{self.mount}/poll", method = "POST")]
struct Poll {
    #[endpoint(skip)]
    mount: String,
    state: Hidden,
    client_nonce: Hidden,
}

#[derive(Debug, Endpoint)]
#[endpoint(path = "{self.path}", method = "POST")]
struct StoreRefresh {
    #[endpoint(skip)]
    path: String,
    server: String,
    refresh_token: Hidden,
}

impl Client {
    /// Begins an OIDC login. Nothing comes of it until somebody opens [`Flow::address`] and agrees there.
    ///
    /// # Errors
    /// [`OidcError::NoSuchRole`], [`OidcError::RedirectRefused`], [`OidcError::Issuer`], and what any request may meet.
    pub async fn oidc_start(&self, issuer: &str, role: &str) -> Result<Flow, OidcError> {
        let mount = self.0.places.oidc(issuer, role)?;
        let nonce: SecretString = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()).into();
        let redirect = self.redirect(&mount);
        let request = AuthUrl {
            mount: mount.clone(),
            role: role.to_owned(),
            client_nonce: Hidden(nonce.clone()),
            redirect_uri: redirect.clone(),
        };
        let path = format!("auth/{mount}/auth_url");
        let call = self.without_token(Doing::OidcStart, &path, nonce.expose_secret());
        let heard = self.ask(request, &call).await;
        begun(
            self.of(&call),
            heard,
            issuer,
            role,
            mount,
            &redirect,
            nonce.clone(),
        )
    }

    /// Asks once whether somebody has agreed. Wait [`Flow::pause`] before the next time. `now` is when the token's
    /// life is counted from.
    ///
    /// # Errors
    /// [`OidcError`]; after [`Error::Unreachable`] (never sent) the same flow may be polled on.
    ///
    /// # Cancel safety
    /// Not cancel safe: the login is delivered once, and dropped with the future.
    pub async fn oidc_poll(&self, flow: &mut Flow, now: Timestamp) -> Result<Polled, OidcError> {
        let request = Poll {
            mount: flow.mount.clone(),
            state: Hidden(flow.state.clone()),
            client_nonce: Hidden(flow.nonce.clone()),
        };
        let path = format!("auth/{}/poll", flow.mount);
        let call = self.without_token(Doing::OidcPoll, &path, flow.nonce.expose_secret());
        let heard = self.ask(request, &call).await;
        let polled = polled(self.of(&call), heard, flow, now);
        if let Ok(Polled::Done(login)) = &polled {
            let act = Act::new(Verb::Login, &self.0.shown)
                .by(&login.person)
                .what(&flow.mount);
            let ends = Some(login.lifetime.until());
            tell(&act.accessor(&login.accessor).expires(ends));
        }
        polled
    }

    /// Polls until somebody has agreed, for `patience` at the most.
    ///
    /// # Errors
    /// [`OidcError::TimedOut`], [`OidcError::Denied`], [`OidcError::Expired`], [`OidcError::StateLost`] and the rest.
    ///
    /// # Cancel safety
    /// Not cancel safe: see [`Client::oidc_poll`].
    pub async fn oidc_wait(&self, flow: &mut Flow, patience: Duration) -> Result<OidcLogin, OidcError> {
        let until = Instant::now() + patience;
        loop {
            // an answer that was lost is seen by the next poll: the state is gone then
            match self.oidc_poll(flow, Timestamp::now()).await {
                Ok(Polled::Done(login)) => return Ok(*login),
                Ok(Polled::Pending) => {}
                Err(OidcError::Vault(error)) if error.retryable() => {
                    tracing::info!(%error, "a poll came to nothing; polling on");
                }
                Err(error) => return Err(error),
            }
            if Instant::now() + flow.pause() > until {
                let seconds = patience.as_secs();
                return Err(OidcError::TimedOut { seconds });
            }
            tokio::time::sleep(flow.pause()).await;
        }
    }

    /// Stores a refresh token where a robot will read bearer tokens, in place of the one before. `login` is exchanged
    /// first: what is sent with the refresh token is a child that lives `ttl` and can be handed out afterwards.
    ///
    /// Not tried again by itself: the issuer may have taken the refresh token for a new one already. After a
    /// [`Error::Timeout`] or [`Error::Interrupted`] it may have been stored; a bearer read tells.
    ///
    /// # Errors
    /// [`OidcError::NotYours`], [`OidcError::RefreshRefused`], and what any request may meet.
    pub async fn store_refresh_token(
        &self,
        login: &OidcLogin,
        path: &SecretPath,
        ttl: SignedDuration,
    ) -> Result<crate::Child, OidcError> {
        let child = self
            .create_child(&login.token, login.lifetime, ttl, Timestamp::now())
            .await?;
        let act = Act::new(Verb::Child, &self.0.shown)
            .by(&login.person)
            .accessor(&child.accessor)
            .parent(&login.accessor)
            .expires(Some(child.token.lifetime().until()));
        tell(&act);
        let stored = self.put(&child.token, path, login).await;
        let below = path.path();
        let act = Act::new(Verb::Onboard, &self.0.shown)
            .by(&login.person)
            .what(&below)
            .accessor(&child.accessor);
        tell(&match &stored {
            Ok(()) => act,
            Err(error) => act.failed(error),
        });
        stored.map(|()| child)
    }

    async fn put(
        &self,
        token: &dyn VaultToken,
        path: &SecretPath,
        login: &OidcLogin,
    ) -> Result<(), OidcError> {
        let below = path.path();
        let refresh = &login.refresh_token;
        let request = StoreRefresh {
            path: below.clone(),
            server: path.issuer().to_owned(),
            refresh_token: Hidden(refresh.expose().to_owned().into()),
        };
        let mut call = self.with_token(Doing::StoreRefresh, &below, token);
        call.patience = self.0.bearer_timeout;
        match self.ask(request, &call).await {
            Ok(_) => Ok(()),
            Err(Error::Rejected {
                status: 400, text, ..
            }) if text.contains("refresh failed") => {
                let path = below.clone();
                Err(OidcError::RefreshRefused { path, text })
            }
            Err(error) => Err(error::not_stored(error, &login.person)),
        }
    }

    /// Where a browser would be sent in direct mode; the server compares it letter by letter.
    fn redirect(&self, mount: &str) -> String {
        let base = match &self.0.alias {
            Some(alias) => format!("{alias}:{}", self.server().port()),
            None => self.0.shown.clone(),
        };
        format!("https://{base}/v1/auth/{mount}/callback")
    }
}

/// What an OIDC login begins with.
pub(crate) fn begun(
    of: grant::Of<'_>,
    heard: Result<Envelope, Error>,
    issuer: &str,
    role: &str,
    mount: String,
    redirect: &str,
    nonce: SecretString,
) -> Result<Flow, OidcError> {
    let mut envelope = heard.map_err(|e| error::not_begun(e, issuer, role))?;
    let mut data = envelope.data.take().ok_or_else(|| of.bad("it has no data"))?;
    let text = data.auth_url.take().unwrap_or_default();
    if text.is_empty() {
        return Err(OidcError::RedirectRefused {
            server: of.server.to_owned(),
            redirect: redirect.to_owned(),
        });
    }
    let address = flow::address(&text).map_err(|why| of.bad(why))?;
    let state = data.state.take().filter(|state| !state.is_empty());
    let mut state = state.ok_or_else(|| of.bad("it has no state to poll for"))?;
    Ok(Flow {
        issuer: issuer.to_owned(),
        mount,
        role: role.to_owned(),
        address,
        state: std::mem::take(&mut *state).into(),
        nonce,
        pause: flow::pause(data.poll_interval.as_ref()),
    })
}

/// What one poll says.
pub(crate) fn polled(
    of: grant::Of<'_>,
    heard: Result<Envelope, Error>,
    flow: &mut Flow,
    now: Timestamp,
) -> Result<Polled, OidcError> {
    match heard {
        Ok(envelope) => {
            let login = agreed(of, of.server, envelope, now)?;
            Ok(Polled::Done(Box::new(login)))
        }
        Err(error) => match error::polled(error) {
            error::Answer::Pending => Ok(Polled::Pending),
            error::Answer::SlowDown => {
                flow.slow_down();
                Ok(Polled::Pending)
            }
            error::Answer::Over(error) => Err(error),
        },
    }
}

fn agreed(
    of: grant::Of<'_>,
    server: &str,
    mut envelope: Envelope,
    now: Timestamp,
) -> Result<OidcLogin, OidcError> {
    let mut auth = envelope.auth.take().ok_or_else(|| of.bad("it has no auth"))?;
    if auth.lease_duration <= 0 {
        return Err(of.bad("the token has no life").into());
    }
    let mut metadata = auth.metadata.take().unwrap_or_default();
    let server = server.to_owned();
    let refresh = metadata.remove("oauth2_refresh_token").unwrap_or_default();
    let refresh_token = RefreshToken::new(refresh).ok_or(OidcError::NoRefreshToken { server })?;
    let token = LongToken::new(std::mem::take(&mut *auth.client_token)).map_err(|e| of.bad(e))?;
    let person = metadata.remove("credkey").unwrap_or_default();
    Ok(OidcLogin {
        token,
        accessor: auth.accessor,
        lifetime: Lifetime::new(now, SignedDuration::from_secs(auth.lease_duration)),
        person: crate::answer::clean(&person, &[]),
        refresh_token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: grant::Of<'static> = grant::Of {
        server: "v:8200",
        doing: Doing::OidcPoll,
    };

    fn of(body: &str) -> Result<OidcLogin, OidcError> {
        let envelope = Envelope::parse(body.as_bytes()).unwrap();
        agreed(OF, "v:8200", envelope, Timestamp::UNIX_EPOCH)
    }

    const AGREED: &str = r#"{"auth":{"client_token":"s.LOGIN","accessor":"a","lease_duration":2419200,"renewable":true,
        "metadata":{"credkey":"dunepro","role":"production","oauth2_refresh_token":"REFRESH"}}}"#;

    #[test]
    fn an_agreement_gives_both_tokens_and_shows_neither() {
        let login = of(AGREED).unwrap();
        assert_eq!(login.person, "dunepro");
        assert_eq!(login.token.expose(), "s.LOGIN");
        assert_eq!(login.refresh_token.expose(), "REFRESH");
        let shown = format!("{login:?}");
        assert!(!shown.contains("LOGIN") && !shown.contains("REFRESH"), "{shown}");
    }

    #[test]
    fn an_agreement_without_a_refresh_token_is_of_no_use() {
        for body in [
            AGREED.replace("REFRESH", ""),
            AGREED.replace("oauth2_refresh_token", "x"),
        ] {
            assert!(matches!(of(&body), Err(OidcError::NoRefreshToken { .. })));
        }
        assert!(of(&AGREED.replace("s.LOGIN", "")).is_err());
        assert!(of(&AGREED.replace("2419200", "0")).is_err());
    }

    #[test]
    fn bodies_hold_their_secrets_and_debug_does_not() {
        use rustify::Endpoint;
        let poll = Poll {
            mount: "oidc-dune/oidc".into(),
            state: Hidden("STATE".to_owned().into()),
            client_nonce: Hidden("NONCE".to_owned().into()),
        };
        assert!(!format!("{poll:?}").contains("STATE"));
        let request = poll.request("https://vault.test:8200").unwrap();
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"state": "STATE", "client_nonce": "NONCE"})
        );
        assert_eq!(request.uri().path(), "/auth/oidc-dune/oidc/poll");
    }
}
