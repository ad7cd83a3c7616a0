//! Answers without a server: what `fuzz/` and tests hand in goes the way an answer off the wire goes. No part of the
//! interface others may use.

use std::net::{IpAddr, SocketAddr};

use credential::{Lifetime, Principal};
use http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use secrecy::SecretString;

use crate::{
    Bearer, Child, Client, Doing, Error, Flow, Login, Lookup, OidcError, Polled, Quota,
    ask::{failed, heard, remarks},
    budget, grant,
    issuer::Discovery,
    oidc::{begun, polled},
    refusal::{Asked, retry_after},
    upkeep::{self, Alive, Health},
};

/// What an answer was made into.
#[derive(Debug)]
pub enum Made {
    /// Nothing is expected of it, such as of a revocation.
    Nothing,
    /// A login.
    Login(Login),
    /// A child token.
    Child(Child),
    /// A bearer token.
    Bearer(Bearer),
    /// What a token says of itself.
    Lookup(Lookup),
    /// What an operator is told of a token.
    Alive(Alive),
    /// How the server is.
    Health(Health),
    /// An OIDC login under way.
    Flow(Flow),
    /// What a poll said.
    Polled(Polled),
}

/// A question that was asked at `now`, by `principal`, with `secret` in its header.
#[derive(Debug)]
pub struct Question<'a> {
    /// What was being done.
    pub doing: Doing,
    /// Whose ticket it was.
    pub principal: &'a Principal,
    /// The life a child was to have, in seconds, and its parent's.
    pub child: (i64, Lifetime),
    /// What may not be in any message.
    pub secret: &'a str,
    /// When.
    pub now: Timestamp,
}

/// Lets a client believe that its server's name has these addresses, in this order; the port is the server's.
///
/// # Errors
/// [`Error::Setup`].
pub fn at(client: &Client, addresses: &[IpAddr]) -> Result<(), Error> {
    let port = client.server().port();
    let addresses: Vec<SocketAddr> = addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
    let pinned = client.0.transport.pin(&addresses);
    pinned.map_err(|failure| failed(failure, &client.0.shown, Doing::Health))
}

/// What a client would make of this answer to `question`.
///
/// # Errors
/// What the client's own functions would say.
pub fn answered(question: &Question<'_>, response: Response<Vec<u8>>) -> Result<Made, OidcError> {
    let Question {
        doing, secret, now, ..
    } = *question;
    let server = "vault.example.org:8200";
    let path = match doing {
        Doing::Login => "kerberos-dune_production",
        _ => "secret/oauth/creds/dune/dunepro/managedtokens/mtk.example.org:production",
    };
    let of = grant::Of { server, doing };
    let secrets = [secret];
    let asked = Asked {
        server,
        doing,
        path,
        minimum_seconds: 60,
        secrets: &secrets,
    };
    let heard = heard(response, &asked);
    let nonce = || SecretString::from("nonce".to_owned());
    if doing == Doing::OidcStart {
        let mount = "oidc-dune/oidc".to_owned();
        return begun(
            of,
            heard,
            "dune",
            "production",
            mount,
            "https://x/callback",
            nonce(),
        )
        .map(Made::Flow);
    }
    if doing == Doing::OidcPoll {
        let mut flow = Flow::new("dune", "production", nonce())?;
        return polled(of, heard, &mut flow, now).map(Made::Polled);
    }
    let envelope = heard?;
    let warnings = remarks(&envelope, &secrets);
    Ok(match doing {
        Doing::Login => Made::Login(grant::login(
            of,
            envelope,
            warnings,
            path,
            question.principal,
            now,
        )?),
        Doing::Child => {
            let (asked, parent) = question.child;
            Made::Child(grant::child(of, envelope, warnings, asked, parent, now)?)
        }
        Doing::Bearer | Doing::Exchange => Made::Bearer(grant::bearer(of, envelope, warnings)?),
        Doing::SshNonce => {
            grant::nonce(of, envelope)?;
            Made::Nothing
        }
        Doing::SshLogin => Made::Login(grant::token(of, envelope, warnings, now)?),
        Doing::Lookup => Made::Lookup(grant::lookup(of, envelope)?),
        Doing::Accessor => Made::Alive(upkeep::alive(of, envelope)?),
        Doing::Health => Made::Health(upkeep::health(of, envelope)?),
        _ => Made::Nothing,
    })
}

/// An answer of this status, body and Retry-After.
#[must_use]
pub fn response(status: u16, retry: Option<&[u8]>, body: &[u8]) -> Response<Vec<u8>> {
    let mut response = Response::new(body.to_vec());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    if let Some(value) = retry.and_then(|value| HeaderValue::from_bytes(value).ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

/// The longest wait an answer can talk us into, in seconds.
#[must_use]
pub fn wait(response: &Response<Vec<u8>>) -> u64 {
    retry_after(response).map_or(0, |wait| wait.as_secs())
}

/// The scopes that the discovery document of `issuer` publishes.
///
/// # Errors
/// [`Error::NoIssuerKeys`] for what is no document of that issuer.
pub fn published(issuer: &str, document: &[u8]) -> Result<Vec<String>, Error> {
    Discovery::parse(issuer, document).map(|found| found.scopes())
}

/// The file of a budget, whoever wrote it: how many requests may count in it at `now`, when the next may go, in ms since
/// the epoch, and whether it is written and read again as the same. `None` if it is not one.
#[must_use]
pub fn ledger(text: &str, now: Timestamp) -> Option<(u32, i64, bool)> {
    budget::peruse(text, &Quota::default(), now.as_millisecond())
}
