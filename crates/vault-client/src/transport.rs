//! `rustify::client::Client` over reqwest: bounded answers, deadlines, a limit of requests at once, their count, and the
//! change to another address when one is dead (vault.md 8.2, 8.4). Each request waits for its turn in the budget. No
//! retries beyond that.

use std::{
    error::Error as StdError,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use http::{Request, Response, StatusCode, header};
use reqwest::Url;
use rustify::errors::ClientError;
use rustls::ClientConfig;

use crate::{
    Server,
    budget::{Budget, Leave, Queuer},
    refusal::Stands,
    refusal::{retry_after, stands},
    route::{Dial, Route, Routes},
    wire::{Failure, bounded, failure},
};

/// Between two questions to a cluster that is choosing its leader.
const ELECTION_PAUSE: Duration = Duration::from_millis(500);
/// After a change of nodes the new one may not know yet what the old one just did.
const STALE: Duration = Duration::from_secs(3);

/// How long the answer to one request may take, as an extension of the request; connecting comes on top.
#[derive(Clone, Copy)]
pub(crate) struct Patience(pub(crate) Duration);

/// Whose turn a request waits for, as an extension of the request. Without it, the request stands outside the budget.
#[derive(Clone)]
pub(crate) enum Turn {
    /// It has to wait.
    Of(Queuer),
    /// It has waited already.
    Had(Arc<Mutex<Option<Leave>>>),
}

impl Turn {
    pub(crate) fn had(leave: Leave) -> Self {
        Self::Had(Arc::new(Mutex::new(Some(leave))))
    }
}

pub(crate) struct Transport {
    dial: Dial,
    base: String,
    routes: Routes,
    /// For a node a standby sends us to.
    elsewhere: OnceLock<reqwest::Client>,
    budget: Budget,
    /// How long a cluster without a leader is waited for.
    election: Duration,
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
        budget: Budget,
        election: Duration,
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
            budget,
            election,
            sent: AtomicU64::new(0),
        }
    }

    /// Whether connections can be made at all, before the first is needed.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let http = self.dial.client(None)?;
        self.elsewhere.get_or_init(|| http);
        Ok(())
    }

    pub(crate) fn pin(&self, addresses: &[SocketAddr]) -> Result<(), Failure> {
        self.routes.pin(&self.dial, addresses)
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    async fn go(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Failure> {
        let route = self.routes.get(&self.dial).await?;
        let had = match request.extensions().get::<Turn>() {
            Some(Turn::Had(leave)) => leave.lock().unwrap_or_else(PoisonError::into_inner).take(),
            _ => None,
        };
        let (mut leave, _slot) = match (had, request.extensions().get::<Turn>()) {
            (Some(leave), _) => (Some(leave), self.budget.slot().await),
            (None, Some(Turn::Of(queuer))) => {
                let turn = self.budget.turn_of(queuer).await;
                let (leave, slot) = turn.map_err(|late| Failure::NotSoon(late.after))?;
                (Some(leave), Some(slot))
            }
            // used up by another try of the same request, or outside the budget
            (None, _) => (None, self.budget.slot().await),
        };
        let counted = request.extensions().get::<Turn>().is_some();
        let begun = Instant::now();
        loop {
            let (outcome, pause) = match self.round(&route, &request, &mut leave, counted).await? {
                Round::Answer { answer, moved } if moved && stale(&answer) && begun.elapsed() < STALE => {
                    tracing::debug!("a node of Vault that was not asked before may be behind; asking again");
                    (answer, ELECTION_PAUSE / 2)
                }
                Round::Answer { answer, .. } => return Ok(answer),
                Round::NoLeader(answer) => (answer, ELECTION_PAUSE),
            };
            if begun.elapsed() + pause > self.election {
                return Ok(outcome);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks the nodes in turn until one has an answer of its own.
    async fn round(
        &self,
        route: &Arc<Route>,
        request: &Request<Vec<u8>>,
        leave: &mut Option<Leave>,
        counted: bool,
    ) -> Result<Round, Failure> {
        let mut without_leader: Option<Response<Vec<u8>>> = None;
        let mut sealed = None;
        let mut unreachable = Vec::new();
        for (index, way) in route.in_order() {
            let asked = self
                .counted(&way.http, request, None, leave.take(), counted)
                .await;
            let answer = match asked {
                Ok(answer) => answer,
                // never sent, so the next address may have it, AP-REQ and all
                Err(Failure::Unreachable(why)) => {
                    tracing::debug!(address = %way.address, why, "an address of Vault cannot be connected to");
                    unreachable.push(format!("{}: {why}", way.address));
                    continue;
                }
                Err(failure) => {
                    // what was sent may have been done: trying again is the caller's decision, on another address
                    route.leave(index);
                    return Err(failure);
                }
            };
            let answer = match stands(&answer) {
                Stands::Answers => answer,
                Stands::Sealed => {
                    sealed = Some(answer);
                    continue;
                }
                Stands::WithoutLeader => {
                    without_leader = Some(answer);
                    continue;
                }
                Stands::SendsElsewhere => match self.follow(&answer, request, counted).await {
                    Some(answer) => answer,
                    None => {
                        without_leader = Some(answer);
                        continue;
                    }
                },
            };
            let moved = route.stay_on(index);
            return Ok(Round::Answer { answer, moved });
        }
        match (without_leader, sealed) {
            // nobody did what was asked, so it may be asked again, as it is
            (Some(answer), _) => Ok(Round::NoLeader(answer)),
            (None, Some(answer)) => Ok(Round::Answer { answer, moved: false }),
            (None, None) => {
                self.routes.forget(route);
                Err(Failure::Unreachable(unreachable.join("; ")))
            }
        }
    }

    /// To the active node, once, where a standby says so: https on our port, same path, and TLS decides on the host.
    async fn follow(
        &self,
        answer: &Response<Vec<u8>>,
        request: &Request<Vec<u8>>,
        counted: bool,
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
        match self.counted(http, request, Some(to), None, counted).await {
            Ok(answer) if stands(&answer) == Stands::Answers => Some(answer),
            Ok(_) => None,
            Err(failure) => {
                tracing::debug!(%failure, "the active node a standby of Vault named does not answer");
                None
            }
        }
    }

    /// One request to one node, in the budget: with the leave that was waited for, or as one more that cannot wait.
    async fn counted(
        &self,
        http: &reqwest::Client,
        request: &Request<Vec<u8>>,
        to: Option<Url>,
        leave: Option<Leave>,
        counted: bool,
    ) -> Result<Response<Vec<u8>>, Failure> {
        let mut leave = leave.or_else(|| counted.then(|| self.budget.one_more()));
        if let Some(leave) = &mut leave {
            // also when we are dropped while it is under way
            leave.sent();
        }
        let answer = self.once(http, request, to).await;
        if let (Err(Failure::Unreachable(_) | Failure::Certificate(_) | Failure::Setup(_)), Some(leave)) =
            (&answer, &mut leave)
        {
            leave.never_sent();
        }
        if let Ok(answer) = &answer
            && counted
            && answer.status() == StatusCode::TOO_MANY_REQUESTS
        {
            // before the leave ends, which wakes the next
            self.budget.refused(retry_after(answer));
        }
        answer
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

/// What a round through the nodes came to.
enum Round {
    /// A node answered for itself; `moved` if a node that was not in use before.
    Answer { answer: Response<Vec<u8>>, moved: bool },
    /// The nodes are there, and have no leader or one that is gone.
    NoLeader(Response<Vec<u8>>),
}

/// Whether an answer may come from a node that is behind: it knows no such token, or no such secret.
fn stale(answer: &Response<Vec<u8>>) -> bool {
    match answer.status() {
        StatusCode::FORBIDDEN => !String::from_utf8_lossy(answer.body()).contains("error occurred"),
        // HashiCorp's performance standbys say so of themselves
        StatusCode::NOT_FOUND | StatusCode::PRECONDITION_FAILED => true,
        _ => false,
    }
}
