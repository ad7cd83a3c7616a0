//! Handing metrics to a Pushgateway.

use std::{sync::Arc, time::Duration};

use prometheus::{Registry, TEXT_FORMAT};
use reqwest::{StatusCode, Url, header::CONTENT_TYPE};

use crate::text;

/// How much of an answer is kept for the error.
const WORDS: usize = 300;

/// A Pushgateway, and our place at it.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// `http://host:port` or `https://host:port`.
    pub address: String,
    /// The job.
    pub job: String,
    /// The instance: nothing outside (job, instance) is ever touched, so that two hosts do not erase each other.
    pub instance: String,
    /// How long it is waited for, connection included.
    pub timeout: Duration,
}

/// Why nothing was pushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The address is none.
    #[error("{address} is not the address of a Pushgateway; http://host:port is wanted")]
    Address {
        /// As configured.
        address: String,
    },
    /// The metrics could not be written as text.
    #[error("the metrics cannot be written as text")]
    Encode(#[source] prometheus::Error),
    /// It could not be asked, or did not answer in time.
    #[error(
        "the Pushgateway at {address} does not answer; see whether it runs and is reachable from here. The next run pushes again"
    )]
    Unreachable {
        /// As configured.
        address: String,
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
    /// It did not want them.
    #[error("the Pushgateway at {address} refused the metrics: {status}: {words}")]
    Refused {
        /// As configured.
        address: String,
        /// Its status.
        status: StatusCode,
        /// The beginning of what it said.
        words: String,
    },
}

/// Replaces the families in `registry` within our own group, and leaves every other family and group alone (`POST`).
///
/// # Errors
/// [`PushError`], never later than the gateway's timeout.
pub async fn push(
    registry: &Registry,
    gateway: &Gateway,
    tls: Arc<rustls::ClientConfig>,
) -> Result<(), PushError> {
    let address = || gateway.address.clone();
    let url = url(gateway).ok_or_else(|| PushError::Address { address: address() })?;
    let body = text(registry).map_err(PushError::Encode)?;
    let unreachable = |source| PushError::Unreachable {
        address: address(),
        source,
    };
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(Arc::unwrap_or_clone(tls))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(gateway.timeout)
        .build()
        .map_err(unreachable)?;
    let mut answer = client
        .post(url)
        .header(CONTENT_TYPE, TEXT_FORMAT)
        .body(body)
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
    let words: String = String::from_utf8_lossy(&words)
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    Err(PushError::Refused {
        address: address(),
        status,
        words,
    })
}

fn url(gateway: &Gateway) -> Option<Url> {
    let mut url: Url = gateway.address.parse().ok()?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return None;
    }
    // a name with a slash in it is a path of its own to the gateway, escaped or not
    let word = |text: &str| text.replace('/', "_");
    url.path_segments_mut().ok()?.pop_if_empty().extend([
        "metrics",
        "job",
        &word(&gateway.job),
        "instance",
        &word(&gateway.instance),
    ]);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Option<String> {
        let gateway = Gateway {
            address: address.into(),
            job: "managed_tokens".into(),
            instance: "a/b".into(),
            timeout: Duration::from_secs(1),
        };
        url(&gateway).map(String::from)
    }

    #[test]
    fn the_group_is_job_and_instance() {
        let end = "metrics/job/managed_tokens/instance/a_b";
        assert_eq!(of("http://p:9091"), Some(format!("http://p:9091/{end}")));
        assert_eq!(of("https://p/behind/"), Some(format!("https://p/behind/{end}")));
        assert_eq!(of("ftp://p"), None);
        assert_eq!(of("p:9091"), None);
    }
}
