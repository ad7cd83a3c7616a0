//! A token issuer's public keys, read from the issuer itself: the one peer here that is not Vault.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use credential::IssuerKeys;
use http::Response;
use reqwest::Url;
use rustls::ClientConfig;
use serde::Deserialize;

use crate::{
    Error,
    answer::clean,
    route::plain_client,
    wire::{Failure, bounded, failure},
};

/// For each of the two answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is used of the discovery document (OpenID Connect Discovery, section 3; RFC 8414, section 2).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Reads the public keys of `issuer` (the `iss` of its tokens, an https URL) as its discovery document says. Only
/// https is spoken, no redirect is followed, and each answer has at most 1 MiB.
///
/// # Errors
/// [`Error::NoIssuerKeys`].
pub async fn issuer_keys(issuer: &str, tls: &Arc<ClientConfig>) -> Result<IssuerKeys, Error> {
    let failed = |text: String, passing| Error::NoIssuerKeys {
        issuer: clean(issuer, &[]),
        text,
        passing,
    };
    let trouble = |failure: Failure| {
        let passing = matches!(
            failure,
            Failure::Unreachable(_) | Failure::Timeout(_) | Failure::Interrupted(_)
        );
        failed(failure.to_string(), passing)
    };
    let url = |text: &str| {
        Url::parse(text)
            .ok()
            .filter(|url| url.scheme() == "https" && url.username().is_empty() && url.password().is_none())
            .ok_or_else(|| failed(format!("{:?} is no https URL", clean(text, &[])), false))
    };
    let http = plain_client(ClientConfig::clone(tls), Duration::from_secs(2)).map_err(trouble)?;
    let base = url(issuer)?;
    let well_known = format!(
        "{}/.well-known/openid-configuration",
        base.as_str().trim_end_matches('/')
    );
    let get = async |url: Url| {
        let begun = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, async {
            let answer = http.get(url).send().await.map_err(|e| failure(&e, begun))?;
            bounded(answer, begun).await
        })
        .await
        .unwrap_or(Err(Failure::Timeout(PATIENCE)))
        .map_err(trouble)?;
        ok(answer).map_err(|status| failed(format!("status {status}"), status >= 500))
    };
    let document = get(url(&well_known)?).await?;
    let discovery: Discovery = serde_json::from_slice(&document)
        .map_err(|_| failed("its discovery document is none".to_owned(), false))?;
    // another's document would name another's keys
    if discovery.issuer != issuer {
        let text = format!(
            "its discovery document is that of {:?}",
            clean(&discovery.issuer, &[])
        );
        return Err(failed(text, false));
    }
    let keys = get(url(&discovery.jwks_uri)?).await?;
    IssuerKeys::parse(issuer, &keys).map_err(|error| failed(error.to_string(), false))
}

fn ok(answer: Response<Vec<u8>>) -> Result<Vec<u8>, u16> {
    match answer.status().as_u16() {
        200 => Ok(answer.into_body()),
        other => Err(other),
    }
}
