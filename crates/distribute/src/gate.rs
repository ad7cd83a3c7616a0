//! How many sessions may be open at once: to one node, and altogether.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    Error, Method,
    breaker::{Breaker, Probe},
    penalties::{Entry, Penalties},
};

/// Limits sessions per node and altogether. Clones share the limits.
///
/// sshd drops connections at random from the tenth unauthenticated one on (`MaxStartups 10:30:100`), and other people
/// log in too: hence four per node by default. A node that hangs holds its own four places only, and whoever waits at
/// it when it turns out to be down is told so at once instead of finding out one after another.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    per_node: usize,
    altogether: Arc<Semaphore>,
    nodes: Mutex<HashMap<(String, u16), Arc<AtNode>>>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("per_node", &self.0.per_node)
            .finish_non_exhaustive()
    }
}

impl Default for Gate {
    /// Four sessions per node, 128 altogether.
    fn default() -> Self {
        Self::new(4, 128)
    }
}

impl Gate {
    /// At most `per_node` sessions to one node and `altogether` to all of them; at least one each.
    #[must_use]
    pub fn new(per_node: usize, altogether: usize) -> Self {
        Self(Arc::new(Inner {
            per_node: per_node.max(1),
            altogether: Arc::new(Semaphore::new(altogether.clamp(1, Semaphore::MAX_PERMITS))),
            nodes: Mutex::default(),
        }))
    }

    /// Tells what a node took before, in another process: [`Login::Auto`](crate::Login::Auto) then goes that way without
    /// asking, and asks only if it is refused.
    pub fn recall(&self, host: &str, port: u16, method: Method) {
        self.node(host, port).remember(Some(method));
    }

    /// What every node takes that was recalled or met, as far as it is known by now.
    #[must_use]
    pub fn known(&self) -> Vec<(String, u16, Option<Method>)> {
        let nodes = lock(&self.0.nodes);
        let known = nodes.iter();
        known
            .map(|((host, port), node)| (host.clone(), *port, node.accepts()))
            .collect()
    }

    /// Waits for a place; for `patience` at the most where the node would keep us out.
    ///
    /// # Errors
    /// What another session found out about the whole node while this one waited; [`Error::HeldBack`].
    pub(crate) async fn enter(
        &self,
        host: &str,
        port: u16,
        account: &str,
        patience: Duration,
    ) -> Result<Pass, Error> {
        let came = Instant::now();
        let node = self.node(host, port);
        // Before the places: who waits for another to find out takes none, nor who is held back; and who is held back
        // keeps nobody waiting for what it would find out.
        let entry = node.penalties.admit(account, patience).await;
        let entry = entry.map_err(|wait| Error::HeldBack {
            node: host.to_owned(),
            account: account.to_owned(),
            wait,
        })?;
        let probe = node.breaker.admit().await?;
        let place = acquire(&node.places).await;
        node.failed_since(came)?;
        // The node's place first: those waiting for a slow node must not hold places others could use.
        let altogether = acquire(&self.0.altogether).await;
        node.failed_since(came)?;
        Ok(Pass {
            node,
            entry: Arc::new(entry),
            place,
            _altogether: altogether,
            _probe: probe,
        })
    }

    fn node(&self, host: &str, port: u16) -> Arc<AtNode> {
        let mut nodes = lock(&self.0.nodes);
        let entry = nodes.entry((host.to_ascii_lowercase(), port));
        Arc::clone(entry.or_insert_with(|| Arc::new(AtNode::new(self.0.per_node))))
    }
}

/// How many left-over files are remembered per account: a node that breaks more often than that has other troubles.
const MAX_LITTER: usize = 32;

/// How often an account's directory on a node is looked through for what dead runs left.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// How long drops may lie apart to be of one burst.
const ONE_BURST: Duration = Duration::from_millis(200);

/// After how many sessions that were not turned away one more is tried at once.
const CALM: u32 = 64;

/// The places at a node.
#[derive(Default)]
struct Room {
    places: usize,
    at_most: usize,
    /// Places to be taken away when they are given back.
    owed: usize,
    drop_at: Option<Instant>,
    /// Sessions since the last drop.
    calm: u32,
}

/// What sessions to one node share.
pub(crate) struct AtNode {
    places: Arc<Semaphore>,
    /// How many there are by now, and how that came.
    room: Mutex<Room>,
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) penalties: Arc<Penalties>,
    failure: Mutex<Option<(Instant, Error)>>,
    /// When it last let one of us in as far as its banner.
    greeted: Mutex<Option<Instant>>,
    accepts: Mutex<Option<Method>>,
    /// Temporary files of sessions that broke, by account: removed by its next session here.
    litter: Mutex<HashMap<String, Vec<String>>>,
    /// When each account's directories were last swept here.
    swept: Mutex<HashMap<(String, String), Instant>>,
    /// Held by the one session that finds out what the node accepts: a connection that asks and leaves counts
    /// against us at sshd (PerSourcePenalties), so one asks for all.
    pub(crate) asking: tokio::sync::Mutex<()>,
}

impl AtNode {
    fn new(places: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            room: Mutex::new(Room {
                places,
                at_most: places,
                ..Room::default()
            }),
            breaker: Arc::default(),
            penalties: Arc::default(),
            failure: Mutex::default(),
            greeted: Mutex::default(),
            accepts: Mutex::default(),
            litter: Mutex::default(),
            swept: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    fn failed_since(&self, came: Instant) -> Result<(), Error> {
        match &*lock(&self.failure) {
            Some((at, error)) if *at >= came => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Tells those who wait that it is no use now.
    pub(crate) fn failed(&self, error: &Error) {
        if error.concerns_the_whole_node() {
            *lock(&self.failure) = Some((Instant::now(), error.clone()));
            self.breaker.failed(error);
        }
    }

    /// It let one of us in as far as its banner.
    pub(crate) fn greeted(&self) {
        *lock(&self.greeted) = Some(Instant::now());
    }

    /// OpenSSH says the same to those it keeps out and to those beyond `MaxStartups`; but whom it keeps out is none of
    /// our address, so where another of us was let in meanwhile it was the latter.
    pub(crate) fn tell_apart(&self, error: Error, began: Instant) -> Error {
        match error {
            Error::KeptOut { node, said } if lock(&self.greeted).is_some_and(|at| at >= began) => {
                Error::TooManyConnections { node, said }
            }
            other => other,
        }
    }

    /// One place less, but never the last: sshd lets in fewer than we thought. Those turned away together count once.
    pub(crate) fn give_way(&self) {
        let mut room = lock(&self.room);
        room.calm = 0;
        if room.places > 1 && room.drop_at.is_none_or(|at| at.elapsed() > ONE_BURST) {
            room.drop_at = Some(Instant::now());
            room.places -= 1;
            if self.places.forget_permits(1) == 0 {
                // All are taken: the next to be given back is not.
                room.owed += 1;
            }
        }
    }

    /// Gives a place back, unless there are too many by now; after many sessions without one turned away there is one
    /// more again.
    fn leave(&self, place: Option<OwnedSemaphorePermit>) {
        let mut room = lock(&self.room);
        if room.owed > 0 {
            room.owed -= 1;
            if let Some(place) = place {
                place.forget();
            }
            return;
        }
        room.calm += 1;
        if room.places < room.at_most && room.calm >= CALM {
            room.calm = 0;
            room.places += 1;
            self.places.add_permits(1);
        }
    }

    /// The method that worked here last.
    pub(crate) fn accepts(&self) -> Option<Method> {
        *lock(&self.accepts)
    }

    pub(crate) fn litter(&self, account: &str, path: String) {
        let mut litter = lock(&self.litter);
        let paths = litter.entry(account.to_owned()).or_default();
        if paths.len() < MAX_LITTER {
            paths.push(path);
        }
    }

    pub(crate) fn take_litter(&self, account: &str) -> Vec<String> {
        lock(&self.litter).remove(account).unwrap_or_default()
    }

    /// Whether it is time to sweep an account's directory; if so, the caller does it.
    pub(crate) fn sweep_is_due(&self, account: &str, directory: &str) -> bool {
        let mut swept = lock(&self.swept);
        let key = (account.to_owned(), directory.to_owned());
        let due = swept.get(&key).is_none_or(|last| last.elapsed() > SWEEP_EVERY);
        if due {
            swept.insert(key, Instant::now());
        }
        due
    }

    pub(crate) fn remember(&self, method: Option<Method>) {
        *lock(&self.accepts) = method;
    }
}

/// A place; given back when dropped.
pub(crate) struct Pass {
    pub(crate) node: Arc<AtNode>,
    pub(crate) entry: Arc<Entry>,
    place: Option<OwnedSemaphorePermit>,
    _altogether: Option<OwnedSemaphorePermit>,
    _probe: Option<Probe>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.node.leave(self.place.take());
    }
}

async fn acquire(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    // These semaphores are never closed, so there always is a permit in the end.
    Arc::clone(places).acquire_owned().await.ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_node_has_its_places_and_others_have_theirs() {
        let gate = Gate::new(2, 8);
        let _a = gate.enter("n", 22, "a", LONG).await.unwrap();
        _a.node.breaker.answered();
        let _b = gate.enter("N", 22, "a", LONG).await.unwrap();
        let third = tokio::time::timeout(Duration::from_millis(50), gate.enter("n", 22, "a", LONG)).await;
        assert!(third.is_err(), "a third session got in");
        gate.enter("other", 22, "a", LONG).await.unwrap();
        gate.enter("n", 2222, "a", LONG).await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_at_a_dead_node_is_told_and_so_is_who_comes_soon_after() {
        let gate = Gate::new(1, 8);
        let first = gate.enter("n", 22, "a", LONG).await.unwrap();
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter("n", 22, "a", LONG).await.map(drop) }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        first.node.failed(&Error::Refused {
            node: "n".into(),
            port: 22,
        });
        drop(first);
        assert!(matches!(waiting.await.unwrap(), Err(Error::Refused { .. })));
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(matches!(
            gate.enter("n", 22, "a", LONG).await.map(drop),
            Err(Error::Refused { .. })
        ));
        gate.enter("other", 22, "a", LONG).await.unwrap();
    }

    #[tokio::test]
    async fn what_concerns_one_account_is_not_shared() {
        let gate = Gate::new(1, 8);
        let first = gate.enter("n", 22, "a", LONG).await.unwrap();
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter("n", 22, "a", LONG).await.map(drop) }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        let refused = Error::AuthRefused {
            node: "n".into(),
            account: "a".into(),
            offered: vec![],
            accepted: vec![],
            unheard: false,
        };
        first.node.failed(&refused);
        drop(first);
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn places_shrink_where_sshd_turns_sessions_away_and_one_is_left() {
        let gate = Gate::new(3, 8);
        let pass = gate.enter("n", 22, "a", LONG).await.unwrap();
        pass.node.breaker.answered();
        // two more are taken, and given back only after the drops
        let others = [
            gate.enter("n", 22, "a", LONG).await.unwrap(),
            gate.enter("n", 22, "a", LONG).await.unwrap(),
        ];
        for _ in 0..4 {
            pass.node.give_way();
            // a burst counts once
            pass.node.give_way();
            tokio::time::sleep(ONE_BURST + Duration::from_millis(20)).await;
        }
        drop(others);
        let full = tokio::time::timeout(Duration::from_millis(50), gate.enter("n", 22, "a", LONG)).await;
        assert!(full.is_err(), "a second session got in");
        drop(pass);
        // and they come back where nobody is turned away any more
        for _ in 0..=CALM {
            gate.enter("n", 22, "a", LONG).await.unwrap();
        }
        let _one = gate.enter("n", 22, "a", LONG).await.unwrap();
        let _two = gate.enter("n", 22, "a", LONG).await.unwrap();
        let third = tokio::time::timeout(Duration::from_millis(50), gate.enter("n", 22, "a", LONG)).await;
        assert!(third.is_err(), "a third session got in");
    }

    #[tokio::test]
    async fn who_is_turned_away_while_another_is_let_in_is_not_kept_out() {
        let pass = Gate::default().enter("n", 22, "a", LONG).await.unwrap();
        let away = || Error::KeptOut {
            node: "n".into(),
            said: "Not allowed at this time".into(),
        };
        pass.node.greeted();
        tokio::time::sleep(Duration::from_millis(5)).await;
        let began = Instant::now();
        let alone = pass.node.tell_apart(away(), began);
        assert!(matches!(alone, Error::KeptOut { .. }), "{alone:?}");
        pass.node.greeted();
        let beside = pass.node.tell_apart(away(), began);
        assert!(matches!(beside, Error::TooManyConnections { .. }), "{beside:?}");
    }

    #[tokio::test]
    async fn litter_is_handed_to_the_accounts_next_session_only() {
        let gate = Gate::default();
        let pass = gate.enter("n", 22, "a", LONG).await.unwrap();
        for index in 0..100 {
            pass.node.litter("a", format!("/tmp/{index}"));
        }
        assert!(pass.node.take_litter("b").is_empty());
        assert_eq!(pass.node.take_litter("a").len(), MAX_LITTER);
        assert!(pass.node.take_litter("a").is_empty());
    }

    #[tokio::test]
    async fn who_is_held_back_keeps_no_probe() {
        let gate = Gate::default();
        let pass = gate.enter("n", 22, "welcome", LONG).await.unwrap();
        pass.node.penalties.meet("SSH-2.0-OpenSSH_10.0");
        pass.entry.welcomed();
        for account in ["a", "b"] {
            let entry = pass.node.penalties.admit(account, LONG).await.unwrap();
            entry.knocked();
            entry.failed(&Error::AuthRefused {
                node: "n".into(),
                account: account.into(),
                offered: vec![],
                accepted: vec![],
                unheard: false,
            });
        }
        drop(pass);
        let held = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter("n", 22, "c", LONG).await.map(drop) }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!held.is_finished(), "it is not held back");
        let welcome = gate.enter("n", 22, "welcome", LONG);
        let welcome = tokio::time::timeout(Duration::from_millis(500), welcome).await;
        welcome.expect("it waits behind one that is held back").unwrap();
        held.abort();
        let little = gate
            .enter("n", 22, "c", Duration::from_millis(10))
            .await
            .map(drop);
        assert!(matches!(little, Err(Error::HeldBack { .. })), "{little:?}");
    }
}
