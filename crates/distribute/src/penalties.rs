//! How near this host is to being kept out by a node's sshd, as far as our own sessions brought it about.
//!
//! Since 9.8 OpenSSH counts seconds against an address for every session that is refused or leaves without a login
//! (`PerSourcePenalties` of sshd_config(5)), and from 15 s on it turns that address away: with all its accounts. So what
//! may be refused goes in small numbers, and waits while too much is counted; accounts that were let in once never wait.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::{Error, Stage};

/// What sshd counts for a refused login (`authfail`) and for leaving without one (`noauth`), and the sum below which it
/// does nothing (`min`), less a second for the way there.
const REFUSED: Duration = Duration::from_secs(5);
const LEFT: Duration = Duration::from_secs(1);
const BEARABLE: Duration = Duration::from_secs(14);

/// How many times sshd's usual seconds are assumed at most, where it kept us out all the same.
const DEAREST: u32 = 2;

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
    /// How long until one more refusal is bearable; zero if it is now.
    fn wait(&self) -> Duration {
        let one = REFUSED * self.factor;
        let counted = self.until.saturating_duration_since(Instant::now());
        (counted + one * (self.open + 1)).saturating_sub(BEARABLE)
    }

    fn count(&mut self, seconds: Duration) {
        self.until = self.until.max(Instant::now()) + seconds * self.factor;
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

    /// Waits until the node bears one more session of `account`.
    pub(crate) async fn admit(self: &Arc<Self>, account: &str) -> Entry {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            let wait = {
                let mut state = self.lock();
                let welcome = !state.counts || state.welcome.contains(account);
                let wait = state.wait();
                // With none open one may always go once the count is down, however dear it is.
                let first = state.open == 0 && state.until <= Instant::now();
                if welcome || wait.is_zero() || first {
                    let open = !welcome;
                    state.open += u32::from(open);
                    return Entry {
                        penalties: Arc::clone(self),
                        account: account.to_owned(),
                        open: Mutex::new(open),
                    };
                }
                wait
            };
            tracing::debug!(
                account,
                ?wait,
                "held back, so that the node does not keep us all out"
            );
            let _ = tokio::time::timeout(wait.min(REFUSED), changed).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A session that may be counted against us; one that is dropped undecided left without a login.
pub(crate) struct Entry {
    penalties: Arc<Penalties>,
    account: String,
    /// Whether it is among the open ones.
    open: Mutex<bool>,
}

impl Entry {
    /// The account was let in: nothing is counted, now or later.
    pub(crate) fn welcomed(&self) {
        self.penalties.lock().welcome.insert(self.account.clone());
        self.close(Duration::ZERO);
    }

    /// What the session came to.
    pub(crate) fn failed(&self, error: &Error) {
        match error {
            Error::KeptOut { .. } => {
                let mut state = self.penalties.lock();
                state.factor = (state.factor * 2).min(DEAREST);
                drop(state);
                self.close(Duration::ZERO);
            }
            Error::AuthRefused { .. } => {
                self.penalties.lock().welcome.remove(&self.account);
                self.refused();
                self.close(Duration::ZERO);
            }
            // sshd never heard of it
            Error::Resolve { .. }
            | Error::Unreachable { .. }
            | Error::Refused { .. }
            | Error::KeyFile { .. } => {
                self.close(Duration::ZERO);
            }
            Error::GssFailed { .. } | Error::Agent { .. } => self.close(LEFT),
            _ if error.stage() == Stage::Authentication => self.close(REFUSED),
            _ if error.stage() > Stage::Authentication => self.close(Duration::ZERO),
            _ => self.close(LEFT),
        }
    }

    /// A connection of this session ends with its login refused; another may follow.
    pub(crate) fn refused(&self) {
        self.penalties.lock().count(REFUSED);
    }

    /// A connection of this session ends without a login; another may follow.
    pub(crate) fn left(&self) {
        self.penalties.lock().count(LEFT);
    }

    fn close(&self, counted: Duration) {
        let open = std::mem::take(&mut *lock(&self.open));
        let mut state = self.penalties.lock();
        if !counted.is_zero() {
            state.count(counted);
        }
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
        }
    }

    async fn is_held(penalties: &Arc<Penalties>, account: &str) -> bool {
        let admitted = tokio::time::timeout(Duration::from_millis(20), penalties.admit(account)).await;
        if let Ok(entry) = &admitted {
            entry.close(Duration::ZERO);
        }
        admitted.is_err()
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
        let one = penalties.admit("a").await;
        let two = penalties.admit("b").await;
        assert!(
            is_held(&penalties, "c").await,
            "a third beside two undecided ones"
        );
        one.welcomed();
        assert!(!is_held(&penalties, "c").await);
        two.failed(&refusal());
        penalties.admit("c").await.failed(&refusal());
        assert!(is_held(&penalties, "c").await);
        // who was let in does not wait
        assert!(!is_held(&penalties, "a").await);
    }

    #[tokio::test]
    async fn who_does_not_count_is_not_waited_for() {
        let penalties = Arc::new(Penalties::default());
        penalties.meet("SSH-2.0-OpenSSH_8.7");
        for _ in 0..10 {
            penalties.admit("a").await.failed(&refusal());
        }
        assert!(!is_held(&penalties, "a").await);
    }

    #[tokio::test]
    async fn what_is_dropped_undecided_gives_its_turn_back() {
        let penalties = Arc::new(Penalties::default());
        penalties.meet("SSH-2.0-OpenSSH_9.8");
        for _ in 0..4 {
            drop(penalties.admit("a").await);
        }
        let state = penalties.lock();
        assert_eq!(state.open, 0);
        let counted = state.until.saturating_duration_since(Instant::now());
        assert!(
            counted > Duration::from_secs(3) && counted <= Duration::from_secs(4),
            "{counted:?}"
        );
    }
}
