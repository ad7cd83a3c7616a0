//! What a token issuer publishes, read from the issuer itself: the one peer here that is not Vault.

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
    Error, Flow, Mode,
    answer::clean,
    route::plain_client,
    wire::{Failure, bounded, failure},
};

/// For each answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How deep below a host an issuer is looked for, and how many scopes of it count.
const DEPTH: usize = 4;
const MOST_SCOPES: usize = 1000;

/// What is used of the discovery document (OpenID Connect Discovery, section 3; RFC 8414, section 2).
#[derive(Deserialize)]
pub(crate) struct Discovery {
    issuer: String,
    jwks_uri: String,
    #[serde(default)]
    authorization_endpoint: String,
    #[serde(default)]
    scopes_supported: Vec<String>,
}

impl Discovery {
    pub(crate) fn parse(issuer: &str, document: &[u8]) -> Result<Self, Error> {
        let discovery: Self = serde_json::from_slice(document)
            .map_err(|_| no_keys(issuer, "its discovery document is none".to_owned(), false))?;
        // another's document would name another's keys
        if discovery.issuer != issuer {
            let text = format!(
                "its discovery document is that of {:?}",
                clean(&discovery.issuer, &[])
            );
            return Err(no_keys(issuer, text, false));
        }
        Ok(discovery)
    }

    /// Fit to be shown, and not too many.
    pub(crate) fn scopes(&self) -> Vec<String> {
        let scopes = self.scopes_supported.iter().take(MOST_SCOPES);
        scopes.map(|scope| clean(scope, &[])).collect()
    }
}

/// Reads the public keys of `issuer` (the `iss` of its tokens, an https URL) as its discovery document says. Only
/// https is spoken, no redirect is followed, and each answer has at most 1 MiB.
///
/// # Errors
/// [`Error::NoIssuerKeys`].
pub async fn issuer_keys(issuer: &str, tls: &Arc<ClientConfig>) -> Result<IssuerKeys, Error> {
    let reader = Reader::new(issuer, tls)?;
    let discovery = reader.discovery().await?;
    let keys = reader.get(reader.url(&discovery.jwks_uri)?).await?;
    IssuerKeys::parse(issuer, &keys).map_err(|error| reader.failed(error.to_string(), false))
}

/// The scopes that the issuer of an OIDC login publishes, as far as that can be found before anybody has agreed: it is
/// `issuer`, where that is known (the `iss` of a token it gave), else the one whose authorization endpoint a browser is sent
/// to (direct mode). Empty if nothing can be found out: whoever cannot be asked is no failure of the login.
pub async fn published_scopes(flow: &Flow, issuer: Option<&str>, tls: &Arc<ClientConfig>) -> Vec<String> {
    let mut endpoint = None;
    let mut candidates: Vec<String> = issuer.map(str::to_owned).into_iter().collect();
    if flow.mode() == Mode::Direct
        && let Ok(mut address) = Url::parse(flow.address())
    {
        address.set_query(None);
        address.set_fragment(None);
        if candidates.is_empty() {
            candidates = above(&address);
        }
        endpoint = Some(address);
    }
    for candidate in candidates {
        let read = async { Reader::new(&candidate, tls)?.discovery().await };
        match read.await {
            Ok(found) if fits(&found, endpoint.as_ref()) => return found.scopes(),
            Ok(_) => tracing::debug!(issuer = candidate, "this is not the issuer of the login"),
            Err(error) => tracing::debug!(%error, "what the issuer publishes is not known"),
        }
    }
    Vec::new()
}

/// Whether these are the words of the issuer a browser is sent to, where that is known.
fn fits(found: &Discovery, endpoint: Option<&Url>) -> bool {
    endpoint
        .is_none_or(|endpoint| Url::parse(&found.authorization_endpoint).is_ok_and(|url| url == *endpoint))
}

/// Whose endpoint an address may be: everything above it, the nearest first.
fn above(endpoint: &Url) -> Vec<String> {
    let host = endpoint.origin().ascii_serialization();
    let parts: Vec<&str> = endpoint
        .path()
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    (0..parts.len().min(DEPTH + 1))
        .rev()
        .filter_map(|depth| parts.get(..depth))
        .flat_map(|parts| {
            let issuer = [&[host.as_str()], parts].concat().join("/");
            // some write their own name with a slash at its end
            [issuer.clone(), issuer + "/"]
        })
        .collect()
}

/// One issuer, asked.
struct Reader<'a> {
    issuer: &'a str,
    http: reqwest::Client,
}

impl<'a> Reader<'a> {
    fn new(issuer: &'a str, tls: &Arc<ClientConfig>) -> Result<Self, Error> {
        let http = plain_client(ClientConfig::clone(tls), Duration::from_secs(2));
        http.map(|http| Self { issuer, http })
            .map_err(|failure| no_keys(issuer, failure.to_string(), false))
    }

    fn failed(&self, text: String, passing: bool) -> Error {
        no_keys(self.issuer, text, passing)
    }

    fn url(&self, text: &str) -> Result<Url, Error> {
        Url::parse(text)
            .ok()
            .filter(|url| url.scheme() == "https" && url.username().is_empty() && url.password().is_none())
            .ok_or_else(|| self.failed(format!("{:?} is no https URL", clean(text, &[])), false))
    }

    async fn get(&self, url: Url) -> Result<Vec<u8>, Error> {
        let begun = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, async {
            let answer = self.http.get(url).send().await.map_err(|e| failure(&e, begun))?;
            bounded(answer, begun).await
        })
        .await
        .unwrap_or(Err(Failure::Timeout(PATIENCE)))
        .map_err(|failure| {
            let passing = matches!(
                failure,
                Failure::Unreachable(_) | Failure::Timeout(_) | Failure::Interrupted(_)
            );
            self.failed(failure.to_string(), passing)
        })?;
        ok(answer).map_err(|status| self.failed(format!("status {status}"), status >= 500))
    }

    async fn discovery(&self) -> Result<Discovery, Error> {
        let base = self.url(self.issuer)?;
        let well_known = format!(
            "{}/.well-known/openid-configuration",
            base.as_str().trim_end_matches('/')
        );
        let document = self.get(self.url(&well_known)?).await?;
        Discovery::parse(self.issuer, &document)
    }
}

fn no_keys(issuer: &str, text: String, passing: bool) -> Error {
    Error::NoIssuerKeys {
        issuer: clean(issuer, &[]),
        text,
        passing,
    }
}

fn ok(answer: Response<Vec<u8>>) -> Result<Vec<u8>, u16> {
    match answer.status().as_u16() {
        200 => Ok(answer.into_body()),
        other => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_looked_for_above_its_endpoint() {
        let of = |text: &str| above(&Url::parse(text).unwrap());
        assert_eq!(of("https://i.test/auth"), ["https://i.test", "https://i.test/"]);
        assert_eq!(
            of("https://i.test:8443/realms/x/auth").first().unwrap(),
            "https://i.test:8443/realms/x"
        );
        assert_eq!(of("https://i.test/a/b/c/d/e/f/g/auth").len(), 2 * (DEPTH + 1));
        assert!(of("https://i.test/").is_empty());
    }

    #[test]
    fn only_the_issuer_a_browser_is_sent_to_counts() {
        let found = |endpoint: &str| Discovery {
            issuer: String::new(),
            jwks_uri: String::new(),
            authorization_endpoint: endpoint.to_owned(),
            scopes_supported: Vec::new(),
        };
        let sent = Url::parse("https://i.test/auth").unwrap();
        assert!(fits(&found("https://i.test/auth"), Some(&sent)));
        assert!(!fits(&found("https://i.test/other"), Some(&sent)) && !fits(&found(""), Some(&sent)));
        assert!(fits(&found(""), None));
    }
}
