//! The addresses behind a server's name, and which of them is used (vault.md 8.2).
//!
//! All requests of a client stay on one address for as long as it works: a token just made may be unknown to
//! another node of a cluster. Each address has its own pool of connections, so that changing over is explicit.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::redirect;
use rustls::ClientConfig;

use crate::{Server, wire::Failure};

/// After this long the name is looked up again, as HTCondor's credmon does.
const FRESH: Duration = Duration::from_secs(300);
/// After this long a node that took over knows what there is to know.
const SETTLED: Duration = Duration::from_secs(10);
/// More addresses than any cluster has.
const MAX_ADDRESSES: usize = 8;

/// One address and the connections to it.
pub(crate) struct Way {
    pub(crate) address: SocketAddr,
    pub(crate) http: reqwest::Client,
}

pub(crate) struct Route {
    pub(crate) ways: Vec<Way>,
    current: AtomicUsize,
    /// Which way answered last, and since when it has been that one.
    answered: Mutex<Option<(usize, Instant)>>,
    found: Instant,
}

impl Route {
    /// All ways once, beginning with the one that worked last.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (usize, &Way)> {
        let start = self.current.load(Ordering::Relaxed);
        self.ways
            .iter()
            .enumerate()
            .cycle()
            .skip(start)
            .take(self.ways.len())
    }

    /// This one answers. Whether another one did so lately.
    pub(crate) fn stay_on(&self, index: usize) -> bool {
        self.current.store(index, Ordering::Relaxed);
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = |since: Instant| since.elapsed() < SETTLED;
        match *answered {
            Some((last, since)) if last == index => lately(since),
            Some(_) => {
                *answered = Some((index, Instant::now()));
                true
            }
            None => {
                // the first one there is: nobody else can know more, and it counts as long settled
                *answered = Instant::now()
                    .checked_sub(SETTLED)
                    .map(|long_ago| (index, long_ago));
                false
            }
        }
    }

    /// The next request begins elsewhere.
    pub(crate) fn leave(&self, index: usize) {
        let next = (index + 1) % self.ways.len().max(1);
        // somebody else may have moved on already
        let _ = self
            .current
            .compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// How connections are made.
pub(crate) struct Dial {
    pub(crate) server: Server,
    pub(crate) tls: ClientConfig,
    pub(crate) connect_timeout: Duration,
}

impl Dial {
    /// A client that resolves names itself, or one bound to one address of our server.
    pub(crate) fn client(&self, address: Option<SocketAddr>) -> Result<reqwest::Client, Failure> {
        let builder = builder(self.tls.clone(), self.connect_timeout);
        let builder = match address {
            Some(address) => builder.resolve(self.server.lookup(), address),
            None => builder,
        };
        build(builder)
    }

    async fn look_up(&self) -> Result<Vec<SocketAddr>, Failure> {
        let unreachable =
            |why: String| Failure::Unreachable(format!("looking up {}: {why}", self.server.lookup()));
        let limit = self.connect_timeout;
        let found = tokio::time::timeout(
            limit,
            tokio::net::lookup_host((self.server.lookup(), self.server.port())),
        )
        .await
        .map_err(|_| unreachable(format!("no answer within {} s", limit.as_secs())))?
        .map_err(|error| unreachable(error.to_string()))?;
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in found {
            if !addresses.contains(&address) && addresses.len() < MAX_ADDRESSES {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(unreachable("it has no address".to_owned()));
        }
        Ok(addresses)
    }
}

/// A client that resolves names itself, for any https server.
pub(crate) fn plain_client(tls: ClientConfig, connect_timeout: Duration) -> Result<reqwest::Client, Failure> {
    build(builder(tls, connect_timeout))
}

fn builder(tls: ClientConfig, connect_timeout: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .user_agent(concat!("mtk/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .pool_idle_timeout(Duration::from_secs(30))
        // a server that vanished without a word must not hold a multiplexed connection until the deadline
        .http2_keep_alive_interval(Duration::from_secs(5))
        .http2_keep_alive_timeout(Duration::from_secs(5))
}

fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, Failure> {
    builder
        .build()
        .map_err(|error| Failure::Setup(crate::wire::deepest(&error)))
}

/// The route in use, found when it is first needed and again when it is old or dead.
#[derive(Default)]
pub(crate) struct Routes {
    used: Mutex<Option<Arc<Route>>>,
    /// One lookup at a time.
    finding: tokio::sync::Mutex<()>,
}

impl Routes {
    fn fresh(&self) -> Option<Arc<Route>> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.as_ref()
            .filter(|route| route.found.elapsed() < FRESH)
            .map(Arc::clone)
    }

    pub(crate) async fn get(&self, dial: &Dial) -> Result<Arc<Route>, Failure> {
        if let Some(route) = self.fresh() {
            return Ok(route);
        }
        let _one = self.finding.lock().await;
        if let Some(route) = self.fresh() {
            return Ok(route);
        }
        let found = dial.look_up().await;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let old = used.take();
        let addresses = match (found, &old) {
            (Ok(addresses), _) => addresses,
            // a name server's bad moment is no reason to leave a server that works
            (Err(_), Some(old)) => old.ways.iter().map(|way| way.address).collect(),
            (Err(failure), None) => return Err(failure),
        };
        let kept = |address| {
            old.as_ref()
                .and_then(|old| old.ways.iter().find(|way| way.address == address))
                .map(|way| way.http.clone())
        };
        let ways = addresses
            .iter()
            .map(|&address| {
                let http = kept(address).map_or_else(|| dial.client(Some(address)), Ok)?;
                Ok(Way { address, http })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let stay = old
            .as_ref()
            .and_then(|old| old.in_order().next())
            .and_then(|(_, way)| addresses.iter().position(|address| *address == way.address));
        let route = Arc::new(Route {
            ways,
            current: AtomicUsize::new(stay.unwrap_or(0)),
            answered: Mutex::default(),
            found: Instant::now(),
        });
        *used = Some(Arc::clone(&route));
        Ok(route)
    }

    /// As if the name had just been found to have these addresses, for trying it without a name service.
    pub(crate) fn pin(&self, dial: &Dial, addresses: &[SocketAddr]) -> Result<(), Failure> {
        let ways = addresses
            .iter()
            .map(|&address| dial.client(Some(address)).map(|http| Way { address, http }))
            .collect::<Result<Vec<_>, Failure>>()?;
        let route = Route {
            ways,
            current: AtomicUsize::new(0),
            answered: Mutex::default(),
            found: Instant::now(),
        };
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(route));
        Ok(())
    }

    /// The name is looked up anew next time: none of its addresses could be connected to.
    pub(crate) fn forget(&self, dead: &Arc<Route>) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.as_ref().is_some_and(|route| Arc::ptr_eq(route, dead)) {
            *used = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_begins_where_it_worked() {
        let way = |last: u8| Way {
            address: ([127, 0, 0, last], 1).into(),
            http: reqwest_client(),
        };
        let route = Route {
            ways: vec![way(1), way(2), way(3)],
            current: AtomicUsize::new(0),
            answered: Mutex::default(),
            found: Instant::now(),
        };
        let order = || route.in_order().map(|(index, _)| index).collect::<Vec<_>>();
        assert_eq!(order(), [0, 1, 2]);
        assert!(!route.stay_on(2));
        assert_eq!(order(), [2, 0, 1]);
        route.leave(2);
        route.leave(2);
        assert_eq!(order(), [0, 1, 2]);
        assert!(!route.stay_on(2), "the same one as ever");
        assert!(route.stay_on(1) && route.stay_on(1), "a new one may be behind");
    }

    fn reqwest_client() -> reqwest::Client {
        let tls =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
        let dial = Dial {
            server: "localhost".parse().unwrap(),
            tls,
            connect_timeout: Duration::from_secs(1),
        };
        dial.client(None).unwrap()
    }
}
