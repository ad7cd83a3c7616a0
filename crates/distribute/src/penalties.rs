//! How near this host is to being kept out by a node's sshd, as far as our own sessions brought it about.
//!
//! Since 9.8 OpenSSH counts seconds against an address for every session that is refused or leaves without a login
//! (`PerSourcePenalties` of sshd_config(5)), and from 15 s on it turns that address away: with all its accounts. So what
//! may be refused goes in small numbers, and waits while too much is counted; accounts that were let in once never wait.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::{Error, Stage};

/// What sshd counts for a refused login (`authfail`) and for leaving without one (`noauth`), and the sum below which it
/// does nothing (`min`), less a second for the way there.
const REFUSED: Duration = Duration::from_secs(5);
const LEFT: Duration = Duration::from_secs(1);
const BEARABLE: Duration = Duration::from_secs(14);

/// More sshd never counts (`max`): ten minutes.
const LONGEST: Duration = Duration::from_secs(600);

/// How many times sshd's usual seconds are assumed where it kept us out all the same.
const DEAR: u32 = 2;

/// The first version of OpenSSH that counts.
const SINCE: (u32, u32) = (9, 8);

/// What one node counts.
pub(crate) struct Penalties {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    /// Whether it counts at all.
    counts: bool,
    /// When nothing is counted against us any more.
    until: Instant,
    /// Sessions whose login may yet be refused.
    open: u32,
    /// How many times the usual seconds it counts.
    factor: u32,
    welcome: HashSet<String>,
}

impl State {
    /// How long until one more refusal is bearable beside `open` others; zero if it is now.
    fn wait(&self, open: u32) -> Duration {
        let one = REFUSED * self.factor;
        let counted = self.until.saturating_duration_since(Instant::now());
        (counted + one * (open + 1)).saturating_sub(BEARABLE)
    }

    fn count(&mut self, seconds: Duration) {
        let now = Instant::now();
        self.until = (self.until.max(now) + seconds * self.factor).min(now + LONGEST);
    }
}

impl Default for Penalties {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                counts: false,
                until: Instant::now(),
                open: 0,
                factor: 1,
                welcome: HashSet::new(),
            }),
            changed: Notify::new(),
        }
    }
}

impl Penalties {
    /// What the node says it is.
    pub(crate) fn meet(&self, banner: &str) {
        self.lock().counts = counts(banner);
    }

    /// Waits until the node bears one more session of `account`, for `patience` at the most.
    ///
    /// # Errors
    /// How long it would be at least, as soon as that is known to be too long.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        account: &str,
        patience: Duration,
    ) -> Result<Entry, Duration> {
        let came = Instant::now();
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            let left = patience.saturating_sub(came.elapsed());
            let wait = {
                let mut state = self.lock();
                let welcome = !state.counts || state.welcome.contains(account);
                let wait = state.wait(state.open);
                // With none open one may always go once the count is down, however dear it is.
                let first = state.open == 0 && state.until <= Instant::now();
                if welcome || wait.is_zero() || first {
                    let open = !welcome;
                    state.open += u32::from(open);
                    return Ok(Entry {
                        penalties: Arc::clone(self),
                        account: account.to_owned(),
                        open: Mutex::new(open),
                        knocked: AtomicBool::new(false),
                    });
                }
                // the open ones may yet be let in
                let least = state.wait(0);
                if least >= left {
                    return Err(least);
                }
                wait
            };
            tracing::debug!(
                account,
                ?wait,
                "held back, so that the node does not keep us all out"
            );
            let _ = tokio::time::timeout(wait.min(REFUSED).min(left), changed).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A session that may be counted against us, from its first connection on; one that is dropped undecided left without
/// a login.
pub(crate) struct Entry {
    penalties: Arc<Penalties>,
    account: String,
    /// Whether it is among the open ones.
    open: Mutex<bool>,
    /// Whether the node may have heard of it.
    knocked: AtomicBool,
}

impl Entry {
    /// From here on the node may count it.
    pub(crate) fn knocked(&self) {
        self.knocked.store(true, Ordering::Relaxed);
    }

    /// It came to nothing elsewhere: the node has nothing to count.
    pub(crate) fn forgone(&self) {
        self.close(Duration::ZERO);
    }

    /// The account was let in: nothing is counted, now or later.
    pub(crate) fn welcomed(&self) {
        self.penalties.lock().welcome.insert(self.account.clone());
        self.close(Duration::ZERO);
    }

    /// What the session came to.
    pub(crate) fn failed(&self, error: &Error) {
        match error {
            Error::KeptOut { .. } => self.penalties.lock().factor = DEAR,
            Error::AuthRefused { .. } => {
                self.penalties.lock().welcome.remove(&self.account);
            }
            _ => {}
        }
        self.close(cost(error));
    }

    /// A connection of this session came to that; another follows.
    pub(crate) fn goes_on_after(&self, error: &Error) {
        self.count(cost(error));
    }

    /// A connection of this session ends without a login; another follows.
    pub(crate) fn left(&self) {
        self.count(LEFT);
    }

    fn count(&self, seconds: Duration) {
        if !seconds.is_zero() && self.knocked.load(Ordering::Relaxed) {
            self.penalties.lock().count(seconds);
        }
    }

    fn close(&self, counted: Duration) {
        let open = std::mem::take(&mut *lock(&self.open));
        self.count(counted);
        let mut state = self.penalties.lock();
        state.open = state.open.saturating_sub(u32::from(open));
        drop(state);
        self.penalties.changed.notify_waiters();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if *lock(&self.open) {
            self.close(LEFT);
        }
    }
}

/// What sshd counts for a connection that ended so.
fn cost(error: &Error) -> Duration {
    match error {
        // it never heard of it, or lets nobody in anyway
        Error::Resolve { .. }
        | Error::Unreachable { .. }
        | Error::Refused { .. }
        | Error::KeyFile { .. }
        | Error::KeptOut { .. } => Duration::ZERO,
        Error::GssFailed { .. } | Error::Agent { .. } => LEFT,
        _ if error.stage() == Stage::Authentication => REFUSED,
        _ if error.stage() > Stage::Authentication => Duration::ZERO,
        _ => LEFT,
    }
}

/// Whether this is an OpenSSH that counts.
fn counts(banner: &str) -> bool {
    let Some(version) = banner.split("OpenSSH_").nth(1) else {
        return false;
    };
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= SINCE,
        _ => false,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal() -> Error {
        Error::AuthRefused {
            node: "n".into(),
            account: "a".into(),
            offered: vec![],
            accepted: vec![],
            unheard: false,
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    /// A session that has come as far as the node.
    async fn knock(penalties: &Arc<Penalties>, account: &str) -> Entry {
        let entry = penalties.admit(account, LONG).await.unwrap();
        entry.knocked();
        entry
    }

    async fn is_held(penalties: &Arc<Penalties>, account: &str) -> bool {
        tokio::time::timeout(Duration::from_millis(20), penalties.admit(account, LONG))
            .await
            .is_err()
    }

    fn counted(penalties: &Penalties) -> u64 {
        let until = penalties.lock().until;
        // a little of it has passed already
        (until.saturating_duration_since(Instant::now()) + Duration::from_millis(900)).as_secs()
    }

    #[test]
    fn versions_that_count_are_told_from_those_that_do_not() {
        for banner in [
            "SSH-2.0-OpenSSH_9.8",
            "SSH-2.0-OpenSSH_10.0p2 Debian-7",
            "SSH-2.0-OpenSSH_9.9p1",
        ] {
            assert!(counts(banner), "{banner}");
        }
        for banner in [
            "SSH-2.0-OpenSSH_8.7",
            "SSH-2.0-OpenSSH_9.7p1",
            "SSH-2.0-dropbear",
            "SSH-2.0-OpenSSH_x",
            "",
        ] {
            assert!(!counts(banner), "{banner}");
        }
    }

    #[tokio::test]
    async fn two_refusals_are_borne_and_a_third_waits() {
        let penalties = Arc::new(Penalties::default());
        penalties.meet("SSH-2.0-OpenSSH_10.0");
        let one = knock(&penalties, "a").await;
        let two = knock(&penalties, "b").await;
        assert!(
            is_held(&penalties, "c").await,
            "a third beside two undecided ones"
        );
        one.welcomed();
        assert!(!is_held(&penalties, "c").await);
        two.failed(&refusal());
        knock(&penalties, "c").await.failed(&refusal());
        assert!(is_held(&penalties, "c").await);
        // who was let in does not wait
        assert!(!is_held(&penalties, "a").await);
    }

    #[tokio::test]
    async fn who_does_not_count_is_not_waited_for() {
        let penalties = Arc::new(Penalties::default());
        penalties.meet("SSH-2.0-OpenSSH_8.7");
        for _ in 0..10 {
            knock(&penalties, "a").await.failed(&refusal());
        }
        assert!(!is_held(&penalties, "a").await);
    }

    #[tokio::test]
    async fn what_is_dropped_undecided_gives_its_turn_back() {
        let penalties = Arc::new(Penalties::default());
        penalties.meet("SSH-2.0-OpenSSH_9.8");
        for _ in 0..4 {
            drop(knock(&penalties, "a").await);
        }
        assert_eq!(penalties.lock().open, 0);
        assert_eq!(counted(&penalties), 4);
    }

    #[tokio::test]
    async fn what_never_came_to_the_node_is_not_counted() {
        let penalties = Arc::new(Penalties::default());
        penalties.meet("SSH-2.0-OpenSSH_9.8");
        drop(penalties.admit("a", LONG).await.unwrap());
        penalties.admit("a", LONG).await.unwrap().failed(&refusal());
        knock(&penalties, "a").await.forgone();
        assert_eq!((counted(&penalties), penalties.lock().open), (0, 0));
    }

    #[tokio::test]
    async fn a_connection_costs_the_same_whether_it_is_the_last_or_not() {
        let gss = Error::GssFailed {
            node: "n".into(),
            principal: "p".into(),
            source: Box::new(kerberos::Error::KdcSilent {
                realm: "R".into(),
                silent: LONG,
            }),
        };
        for (error, cost) in [(gss, 1), (refusal(), 5)] {
            let penalties = Arc::new(Penalties::default());
            let entry = knock(&penalties, "a").await;
            entry.goes_on_after(&error);
            assert_eq!(counted(&penalties), cost, "{error}");
            entry.failed(&error);
            assert_eq!(counted(&penalties), 2 * cost, "{error}");
        }
    }

    #[tokio::test]
    async fn no_more_is_counted_than_sshd_does_and_too_long_a_wait_is_said_at_once() {
        let penalties = Arc::new(Penalties::default());
        let entry = knock(&penalties, "a").await;
        for _ in 0..1000 {
            entry.goes_on_after(&refusal());
        }
        drop(entry);
        assert_eq!(counted(&penalties), LONGEST.as_secs());
        penalties.meet("SSH-2.0-OpenSSH_9.8");
        let too_long = tokio::time::timeout(LONG, penalties.admit("a", LONG))
            .await
            .unwrap();
        assert!(too_long.is_err_and(|wait| wait > LONG && wait < LONGEST));
        // and one that only others may shorten ends
        let penalties = Arc::new(Penalties::default());
        penalties.meet("SSH-2.0-OpenSSH_9.8");
        let _open = (knock(&penalties, "a").await, knock(&penalties, "b").await);
        let ended = penalties.admit("c", Duration::from_millis(20)).await;
        assert!(ended.is_err());
    }
}
