//! One POST to somebody who is told after a run.

use std::{fmt, sync::Arc, time::Duration};

use reqwest::{StatusCode, Url, header::CONTENT_TYPE};

/// How much of an answer is kept for the error.
const WORDS: usize = 300;

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// A Pushgateway.
    Pushgateway,
    /// Loki.
    Loki,
    /// A receiver of traces.
    Traces,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pushgateway => "the Pushgateway",
            Self::Loki => "Loki",
            Self::Traces => "the receiver of traces",
        })
    }
}

/// Why somebody was not told. Nothing depends on it: the next run tells again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Untold {
    /// The address is none.
    #[error("{address} is no address of {who}: http://host:port is wanted")]
    Address {
        /// Who.
        who: Listener,
        /// As configured.
        address: String,
    },
    /// What is to be told cannot be written in their form.
    #[error("the metrics cannot be written as text")]
    Encode(#[source] prometheus::Error),
    /// They could not be asked, or did not answer in time.
    #[error(
        "{who} at {address} does not answer; see whether it runs and is reachable from here. The next run tells it again"
    )]
    Unreachable {
        /// Who.
        who: Listener,
        /// As configured.
        address: String,
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
    /// They did not want it.
    #[error("{who} at {address} refused what it was told: {status}: {words}")]
    Refused {
        /// Who.
        who: Listener,
        /// As configured.
        address: String,
        /// Their status.
        status: StatusCode,
        /// The beginning of what they said.
        words: String,
    },
}

/// Where to, and how long to wait.
pub(crate) struct Letter<'a> {
    pub(crate) who: Listener,
    pub(crate) address: &'a str,
    pub(crate) timeout: Duration,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

/// An absolute address, or none of theirs.
pub(crate) fn parse(who: Listener, address: &str) -> Result<Url, Untold> {
    let url: Option<Url> = address.parse().ok();
    url.filter(|u| matches!(u.scheme(), "http" | "https") && u.host_str().is_some())
        .ok_or_else(|| Untold::Address {
            who,
            address: address.to_owned(),
        })
}

/// Sends the letter to `url`. Proxies and redirects are not followed: what is told is for the one that is named.
pub(crate) async fn post(letter: Letter<'_>, url: Url, tls: Arc<rustls::ClientConfig>) -> Result<(), Untold> {
    let (who, address) = (letter.who, letter.address.to_owned());
    let unreachable = |source: reqwest::Error| Untold::Unreachable {
        who,
        address: letter.address.to_owned(),
        // an address may hold a password
        source: source.without_url(),
    };
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(Arc::unwrap_or_clone(tls))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(letter.timeout)
        .build()
        .map_err(unreachable)?;
    let mut answer = client
        .post(url)
        .header(CONTENT_TYPE, letter.content_type)
        .body(letter.body)
        .send()
        .await
        .map_err(unreachable)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let mut words = Vec::new();
    while words.len() < WORDS
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        words.extend(chunk.iter().take(WORDS - words.len()));
    }
    let words = String::from_utf8_lossy(&words)
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    Err(Untold::Refused {
        who,
        address,
        status,
        words,
    })
}
