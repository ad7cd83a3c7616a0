//! `rustify::client::Client` over reqwest: bounded answers, deadlines, a limit of requests at once, their count, and the
//! change to another address when one is dead (vault.md 8.2, 8.4). No retries beyond that.

use std::{
    error::Error as StdError,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use http::{Request, Response, StatusCode, header};
use reqwest::Url;
use rustify::errors::ClientError;
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    Server,
    refusal::another_node_may_help,
    route::{Dial, Routes},
};

/// An answer of Vault has some kilobytes.
const MAX_BODY: usize = 1024 * 1024;

/// How long the answer to one request may take, as an extension of the request; connecting comes on top.
#[derive(Clone, Copy)]
pub(crate) struct Patience(pub(crate) Duration);

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no connection: {0}")]
    Unreachable(String),
    #[error("certificate: {0}")]
    Certificate(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("connection broken: {0}")]
    Interrupted(String),
    #[error("the answer has more than {MAX_BODY} bytes")]
    TooLarge,
    #[error("setup: {0}")]
    Setup(String),
}

impl From<Failure> for ClientError {
    fn from(failure: Failure) -> Self {
        Self::GenericError {
            source: failure.into(),
        }
    }
}

pub(crate) struct Transport {
    dial: Dial,
    base: String,
    routes: Routes,
    /// For a node a standby sends us to.
    elsewhere: OnceLock<reqwest::Client>,
    slots: Semaphore,
    sent: AtomicU64,
}

/// Counts a request when it ends in any way, also with its future dropped, except where it was never sent.
struct Counted<'a> {
    counter: &'a AtomicU64,
    sent: bool,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if self.sent {
            self.counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Transport {
    pub(crate) fn new(
        server: Server,
        tls: &Arc<ClientConfig>,
        connect_timeout: Duration,
        at_once: usize,
    ) -> Self {
        let mut tls = ClientConfig::clone(tls);
        // both are offered by the server; HTTP/2 needs one connection for everything
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self {
            base: format!("https://{server}"),
            dial: Dial {
                server,
                tls,
                connect_timeout,
            },
            routes: Routes::default(),
            elsewhere: OnceLock::new(),
            slots: Semaphore::new(at_once.clamp(1, 1024)),
            sent: AtomicU64::new(0),
        }
    }

    /// Whether connections can be made at all, before the first is needed.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let http = self.dial.client(None)?;
        self.elsewhere.get_or_init(|| http);
        Ok(())
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    async fn go(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Failure> {
        let _slot = self
            .slots
            .acquire()
            .await
            .map_err(|_| Failure::Setup("the client was closed".to_owned()))?;
        let route = self.routes.get(&self.dial).await?;
        let mut last: Option<Response<Vec<u8>>> = None;
        let mut unreachable = Vec::new();
        for (index, way) in route.in_order() {
            match self.once(&way.http, &request, None).await {
                Ok(answer) if answer.status() == StatusCode::TEMPORARY_REDIRECT => {
                    match self.follow(&answer, &request).await {
                        Some(answer) => {
                            route.stay_on(index);
                            return Ok(answer);
                        }
                        None => last = Some(answer),
                    }
                }
                Ok(answer) if another_node_may_help(&answer) => last = Some(answer),
                Ok(answer) => {
                    route.stay_on(index);
                    return Ok(answer);
                }
                // never sent, so the next address may have it, AP-REQ and all
                Err(Failure::Unreachable(why)) => {
                    tracing::debug!(address = %way.address, why, "an address of Vault cannot be connected to");
                    unreachable.push(format!("{}: {why}", way.address));
                }
                Err(failure) => {
                    // what was sent may have been done: trying again is the caller's decision, on another address
                    route.leave(index);
                    return Err(failure);
                }
            }
        }
        match last {
            Some(answer) => Ok(answer),
            None => {
                self.routes.forget(&route);
                Err(Failure::Unreachable(unreachable.join("; ")))
            }
        }
    }

    /// To the active node, once, where a standby says so: https on our port, same path, and TLS decides on the host.
    async fn follow(
        &self,
        answer: &Response<Vec<u8>>,
        request: &Request<Vec<u8>>,
    ) -> Option<Response<Vec<u8>>> {
        let location = answer.headers().get(header::LOCATION)?.to_str().ok()?;
        let to = Url::parse(location).ok()?;
        let from = Url::parse(&request.uri().to_string()).ok()?;
        let fits = to.scheme() == "https"
            && to.port_or_known_default() == Some(self.dial.server.port())
            && (to.path(), to.query()) == (from.path(), from.query())
            && to.username().is_empty()
            && to.password().is_none();
        if !fits {
            tracing::warn!("a standby of Vault sends us to where we do not follow");
            return None;
        }
        let http = self.elsewhere.get()?;
        match self.once(http, request, Some(to)).await {
            Ok(answer) if another_node_may_help(&answer) => None,
            Ok(answer) => Some(answer),
            Err(failure) => {
                tracing::debug!(%failure, "the active node a standby of Vault named does not answer");
                None
            }
        }
    }

    async fn once(
        &self,
        http: &reqwest::Client,
        request: &Request<Vec<u8>>,
        to: Option<Url>,
    ) -> Result<Response<Vec<u8>>, Failure> {
        let setup = |error: &dyn StdError| Failure::Setup(error.to_string());
        let url = match to {
            Some(url) => url,
            None => Url::parse(&request.uri().to_string()).map_err(|e| setup(&e))?,
        };
        let mut outgoing = reqwest::Request::new(request.method().clone(), url);
        *outgoing.headers_mut() = request.headers().clone();
        if !request.body().is_empty() {
            *outgoing.body_mut() = Some(request.body().clone().into());
        } else if request.method() == http::Method::POST {
            outgoing
                .headers_mut()
                .insert(header::CONTENT_LENGTH, header::HeaderValue::from_static("0"));
        }
        let patience = request
            .extensions()
            .get::<Patience>()
            .map_or(Duration::from_secs(10), |p| p.0);
        let limit = patience.saturating_add(self.dial.connect_timeout);
        let begun = Instant::now();
        let mut counted = Counted {
            counter: &self.sent,
            sent: true,
        };
        let answer = tokio::time::timeout(limit, async {
            let answer = http.execute(outgoing).await.map_err(|e| failure(&e, begun))?;
            bounded(answer, begun).await
        })
        .await
        .unwrap_or(Err(Failure::Timeout(limit)));
        counted.sent = !matches!(
            answer,
            Err(Failure::Unreachable(_) | Failure::Certificate(_) | Failure::Setup(_))
        );
        answer
    }
}

#[async_trait]
impl rustify::client::Client for Transport {
    async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ClientError> {
        Ok(self.go(request).await?)
    }

    fn base(&self) -> &str {
        &self.base
    }

    /// Every status comes back as it is: rustify's own version keeps no headers of a refusal, and would log it.
    async fn execute(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ClientError> {
        self.send(request).await
    }
}

pub(crate) async fn bounded(
    mut answer: reqwest::Response,
    begun: Instant,
) -> Result<Response<Vec<u8>>, Failure> {
    let announced = answer.content_length().unwrap_or(0);
    if announced > MAX_BODY as u64 {
        return Err(Failure::TooLarge);
    }
    // with room from the start, the body does not move and leave tokens behind; it is wiped on every way out
    let room = usize::try_from(announced).unwrap_or(0).max(16 * 1024);
    let mut body = Zeroizing::new(Vec::with_capacity(room));
    while let Some(chunk) = answer.chunk().await.map_err(|e| failure(&e, begun))? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(Failure::TooLarge);
        }
        if body.len() + chunk.len() > body.capacity() {
            let mut larger = Vec::with_capacity((body.capacity() * 2).max(body.len() + chunk.len()));
            larger.extend_from_slice(&body);
            body.zeroize();
            *body = larger;
        }
        body.extend_from_slice(&chunk);
    }
    let mut out = Response::new(std::mem::take(&mut *body));
    *out.status_mut() = answer.status();
    *out.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(out)
}

/// The last of a chain of causes says what happened; those above it say that something did.
pub(crate) fn deepest(error: &dyn StdError) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    crate::answer::clean(&deepest.to_string(), &[])
}

pub(crate) fn failure(error: &reqwest::Error, begun: Instant) -> Failure {
    if error.is_connect() {
        return match certificate(error) {
            Some(text) => Failure::Certificate(text),
            None if error.is_timeout() => Failure::Unreachable("no connection in time".to_owned()),
            None => Failure::Unreachable(deepest(error)),
        };
    }
    if error.is_timeout() {
        // before our own deadline: HTTP/2's pings got no answer
        return Failure::Timeout(begun.elapsed());
    }
    if error.is_builder() {
        return Failure::Setup(deepest(error));
    }
    Failure::Interrupted(deepest(error))
}

/// What TLS has against the server's certificate, if that was the cause.
fn certificate(error: &reqwest::Error) -> Option<String> {
    let mut next: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(cause) = next {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            let about = matches!(
                tls,
                rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented
            );
            return about.then(|| crate::answer::clean(&tls.to_string(), &[]));
        }
        // what an io::Error wraps is not its `source` but beside it, and they are nested
        next = match cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    None
}
