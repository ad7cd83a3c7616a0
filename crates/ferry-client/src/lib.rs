//! FERRY, the registry of a site's people and accounts: which UID has an account?
//!
//! One question, `getUserInfo`, over HTTPS with the host's certificate or a bearer token. An [`Answer`] is believed only
//! if it is whole: right status, right form, a UID that can be an account's.
//!
//! Left to others: where certificates and tokens come from, caching, what to do about a UID that changed.
//!
//! ```no_run
//! # async fn ask() -> Result<(), Box<dyn std::error::Error>> {
//! let tls = tls::client_config(&tls::Trust::default())?;
//! let host = ferry_client::HostCertificate::read("/etc/grid-security/hostcert.pem".as_ref(), "/etc/grid-security/hostkey.pem".as_ref())?;
//! let ferry = ferry_client::Client::new("ferry.example.org", 8445, &tls, ferry_client::Login::Certificate(host))?;
//! println!("{}", ferry.user_info("dunepro").await?.uid);
//! # Ok(()) }
//! ```

mod answer;
mod certificate;

use std::{sync::Arc, time::Duration};

use credential::BearerToken;
use reqwest::{Url, header};
use tls::ClientConfig;

pub use answer::{Answer, Bad, MAX_ANSWER};
pub use certificate::{BadCertificate, HostCertificate};

/// How long one question may take unless something else is said: the Go service's `ferryRequestTimeout`.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How FERRY knows who asks.
#[derive(Debug, Clone)]
pub enum Login {
    /// By a certificate in the TLS handshake.
    Certificate(HostCertificate),
    /// By a bearer token.
    Bearer(BearerToken),
}

/// A FERRY server.
#[derive(Debug, Clone)]
pub struct Client {
    base: Url,
    http: reqwest::Client,
    bearer: Option<BearerToken>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configured address is none.
    #[error("{host:?} and port {port} make no address of a FERRY server: https and a host are wanted")]
    Address {
        /// As configured.
        host: String,
        /// As configured.
        port: u16,
    },
    /// HTTP cannot be set up. Ours.
    #[error("HTTPS to {peer} cannot be set up")]
    Setup {
        /// The server.
        peer: String,
        /// Why.
        source: reqwest::Error,
    },
    /// No connection, no TLS, no answer in time. The network's, or FERRY's.
    #[error(
        "{peer} cannot be asked; see that it is up, that its CA is in ferry.caPath, and that the host's certificate is good"
    )]
    Unreachable {
        /// The server.
        peer: String,
        /// Why.
        source: reqwest::Error,
    },
    /// FERRY does not let this host or robot ask.
    #[error(
        "{peer} does not let us ask (HTTP {status}); the host's certificate or the robot has to be registered there"
    )]
    Forbidden {
        /// The server.
        peer: String,
        /// 401 or 403.
        status: u16,
    },
    /// Another HTTP status than 200.
    #[error("{peer} answers HTTP {status}")]
    Status {
        /// The server.
        peer: String,
        /// The status.
        status: u16,
    },
    /// FERRY says that it failed, mostly because it does not know the account.
    #[error("{peer} says: {says}")]
    Refused {
        /// The server.
        peer: String,
        /// Its words, cut and cleaned.
        says: String,
    },
    /// An answer that is none.
    #[error("{peer} answers what getUserInfo does not")]
    Malformed {
        /// The server.
        peer: String,
        /// What is wrong with it.
        source: Bad,
    },
}

impl Error {
    /// Whether the same question may be answered later without anybody changing anything.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }
}

impl Client {
    /// A client of the FERRY server at `host` (with or without `https://` before it), which believes what `tls` says.
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::Setup`].
    pub fn new(host: &str, port: u16, tls: &Arc<ClientConfig>, login: Login) -> Result<Self, Error> {
        let bad = || Error::Address {
            host: host.to_owned(),
            port,
        };
        let name = host.trim().trim_end_matches('/');
        let name = name.strip_prefix("https://").unwrap_or(name);
        if name.is_empty() || name.contains(['/', '@', '?', '#', ' ']) {
            return Err(bad());
        }
        let base: Url = format!("https://{name}:{port}/").parse().map_err(|_| bad())?;
        let mut config = ClientConfig::clone(tls);
        // a resumed session would carry the identity it was made with
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let bearer = match login {
            Login::Certificate(certificate) => {
                config.client_auth_cert_resolver = certificate.resolver();
                None
            }
            Login::Bearer(token) => Some(token),
        };
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .https_only(true)
            .no_proxy()
            // a registry that sends a bearer token elsewhere is not obeyed
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .map_err(|source| Error::Setup {
                peer: peer(&base),
                source,
            })?;
        Ok(Self { base, http, bearer })
    }

    /// The server, for messages.
    #[must_use]
    pub fn peer(&self) -> String {
        peer(&self.base)
    }

    /// What FERRY knows of an account, asked once, for at most [`PATIENCE`].
    ///
    /// # Errors
    /// [`Error`].
    pub async fn user_info(&self, account: &str) -> Result<Answer, Error> {
        self.user_info_within(account, PATIENCE).await
    }

    /// The same with a deadline of its own.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn user_info_within(&self, account: &str, patience: Duration) -> Result<Answer, Error> {
        let unreachable = |source: reqwest::Error| Error::Unreachable {
            peer: self.peer(),
            source: source.without_url(),
        };
        let mut url = self.base.clone();
        url.set_path("getUserInfo");
        url.query_pairs_mut().append_pair("username", account);
        let mut request = self.http.get(url).timeout(patience);
        if let Some(token) = &self.bearer {
            // it goes to FERRY alone: redirects are not followed
            let mut value =
                header::HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| {
                    Error::Forbidden {
                        peer: self.peer(),
                        status: 0,
                    }
                })?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let mut response = request.send().await.map_err(unreachable)?;
        match response.status().as_u16() {
            200 => {}
            status @ (401 | 403) => {
                return Err(Error::Forbidden {
                    peer: self.peer(),
                    status,
                });
            }
            status => {
                return Err(Error::Status {
                    peer: self.peer(),
                    status,
                });
            }
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                return Err(self.malformed(Bad::TooLong));
            }
        }
        match Answer::parse(&body) {
            Ok(answer) => Ok(answer),
            Err(Bad::Failure(says)) => Err(Error::Refused {
                peer: self.peer(),
                says,
            }),
            Err(bad) => Err(self.malformed(bad)),
        }
    }

    fn malformed(&self, source: Bad) -> Error {
        Error::Malformed {
            peer: self.peer(),
            source,
        }
    }
}

fn peer(base: &Url) -> String {
    let host = base.host_str().unwrap_or_default();
    format!("FERRY at {host}:{}", base.port().unwrap_or(443))
}
