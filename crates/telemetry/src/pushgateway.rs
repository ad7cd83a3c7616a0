//! Handing metrics to a Pushgateway.

use std::{sync::Arc, time::Duration};

use prometheus::{Registry, TEXT_FORMAT};
use reqwest::Url;

use crate::{
    http::{self, Letter, Listener, Untold},
    text,
};

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

/// Replaces the families in `registry` within our own group, and leaves every other family and group alone (`POST`).
///
/// # Errors
/// [`Untold`], never later than the gateway's timeout.
pub async fn push(
    registry: &Registry,
    gateway: &Gateway,
    tls: Arc<rustls::ClientConfig>,
) -> Result<(), Untold> {
    let url = url(gateway)?;
    let letter = Letter {
        who: Listener::Pushgateway,
        timeout: gateway.timeout,
        content_type: TEXT_FORMAT,
        body: text(registry).map_err(Untold::Encode)?,
        bearer: None,
    };
    http::post(letter, url, tls).await
}

fn url(gateway: &Gateway) -> Result<Url, Untold> {
    let mut url = http::parse(Listener::Pushgateway, &gateway.address)?;
    // a name with a slash in it is a path of its own to the gateway, escaped or not
    let word = |text: &str| text.replace('/', "_");
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend([
            "metrics",
            "job",
            &word(&gateway.job),
            "instance",
            &word(&gateway.instance),
        ]);
    }
    Ok(url)
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
        url(&gateway).ok().map(String::from)
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
