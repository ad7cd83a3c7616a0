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
    /// Slack.
    Slack,
    /// A web hook.
    Webhook,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pushgateway => "the Pushgateway",
            Self::Loki => "Loki",
            Self::Traces => "the receiver of traces",
            Self::Slack => "Slack",
            Self::Webhook => "the web hook",
        })
    }
}

/// Why somebody was not told. Nothing depends on it: the next run tells again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Untold {
    /// The address is none.
    // not shown: what cannot be parsed may hold a password all the same
    #[error("what is configured for {who} is no address: http://host:port is wanted")]
    Address {
        /// Who.
        who: Listener,
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
        /// Scheme, host and port: the rest may hold a password.
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
        /// Scheme, host and port: the rest may hold a password.
        address: String,
        /// Their status.
        status: StatusCode,
        /// The beginning of what they said.
        words: String,
    },
}

/// What somebody is told, and how long they are waited for.
pub struct Letter {
    /// Who.
    pub who: Listener,
    /// How long, connection included.
    pub timeout: Duration,
    /// What the body is.
    pub content_type: &'static str,
    /// What is said.
    pub body: Vec<u8>,
    /// What proves us to them, if they want it.
    pub bearer: Option<String>,
}

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letter")
            .field("who", &self.who)
            .finish_non_exhaustive()
    }
}

/// Tells it to whoever is at `address`, of which no more than scheme, host and port is ever shown.
///
/// # Errors
/// [`Untold`].
pub async fn tell(letter: Letter, address: &str, tls: Arc<rustls::ClientConfig>) -> Result<(), Untold> {
    let url = parse(letter.who, address)?;
    post(letter, url, tls).await
}

/// An absolute address, or none of theirs.
pub(crate) fn parse(who: Listener, address: &str) -> Result<Url, Untold> {
    let url: Option<Url> = address.parse().ok();
    url.filter(|u| matches!(u.scheme(), "http" | "https") && u.host_str().is_some())
        .ok_or(Untold::Address { who })
}

/// Sends the letter to `url`. Proxies and redirects are not followed: what is told is for the one that is named.
pub(crate) async fn post(letter: Letter, url: Url, tls: Arc<rustls::ClientConfig>) -> Result<(), Untold> {
    let (who, address) = (letter.who, url.origin().ascii_serialization());
    let unreachable = |source: reqwest::Error| Untold::Unreachable {
        who,
        address: address.clone(),
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
    let mut request = client.post(url).header(CONTENT_TYPE, letter.content_type);
    if let Some(bearer) = letter.bearer {
        request = request.bearer_auth(bearer);
    }
    let mut answer = request.body(letter.body).send().await.map_err(unreachable)?;
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

#[cfg(test)]
mod tests {
    use std::{
        error::Error,
        io::{Read, Write},
        net::TcpListener,
    };

    use super::*;

    /// All that is said of an error.
    fn said(error: &Untold) -> String {
        let mut text = format!("{error} {error:?}");
        let mut next = error.source();
        while let Some(source) = next {
            text.push_str(&format!("; {source} {source:?}"));
            next = source.source();
        }
        text
    }

    async fn untold(address: &str) -> Untold {
        let url = match parse(Listener::Loki, address) {
            Ok(url) => url,
            Err(error) => return error,
        };
        let tls = tls::client_config(&tls::Trust::default()).unwrap();
        let letter = Letter {
            who: Listener::Loki,
            timeout: Duration::from_secs(20),
            content_type: "application/json",
            body: Vec::new(),
            bearer: None,
        };
        post(letter, url, tls).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_password_in_an_address_is_told_to_nobody() {
        let refusing = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = refusing.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = refusing.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        });
        for (address, shown) in [
            (
                format!("http://user:s3cret@{at}/s3cret?s3cret"),
                format!("http://{at}"),
            ),
            (
                "http://user:s3cret@127.0.0.1:1/s3cret".into(),
                "http://127.0.0.1:1".into(),
            ),
            ("ftp://user:s3cret@host".into(), "Loki".into()),
            ("user:s3cret@host:99999999".into(), "Loki".into()),
        ] {
            let said = said(&untold(&address).await);
            assert!(
                !said.contains("s3cret") && said.contains(&shown),
                "{address}: {said}"
            );
        }
    }
}
