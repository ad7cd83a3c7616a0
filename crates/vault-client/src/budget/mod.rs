//! The budget of requests at one server: who goes next, and when.
//!
//! Waiting requests stand in the order of what ends first; only the first of them asks the ledger. The ledger lies in
//! a file where one is named, so that every mtk on the host counts in it; without it, or while it cannot be used,
//! this process counts alone.

mod file;
mod ledger;
mod queue;
mod standing;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

pub use ledger::Quota;
use ledger::{Ledger, Verdict};
pub(crate) use queue::Queuer;
use queue::{HeldBack, Place, Urgency, Waiting, whole};
pub(crate) use standing::peruse;
use standing::show;
pub use standing::{Standing, standing};

use crate::Server;

/// How long another process may hold the ledger's file before we count alone.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// The turn would come later than anybody wants to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLate {
    /// How much longer it would be.
    pub(crate) after: Duration,
}

/// The budget of one server in this process. Clones are the same budget.
#[derive(Clone)]
pub(crate) struct Budget(Arc<Shared>);

struct Shared {
    quota: Quota,
    server: Server,
    file: Option<PathBuf>,
    /// What is known here: all there is without a file, else what the file last said.
    known: Mutex<Ledger>,
    alone: AtomicBool,
    waiting: Mutex<BTreeMap<Place, Arc<Notify>>>,
    serial: AtomicU64,
    /// For how long nothing could be sent because the quota was used up, in ms.
    held_back: AtomicU64,
    slots: Arc<Semaphore>,
}

/// Leave to send one request. Dropped unsent it is given back.
pub(crate) struct Leave {
    budget: Budget,
    stamp: i64,
    sent: bool,
}

impl Leave {
    /// From here on it counts, whatever becomes of it.
    pub(crate) fn sent(&mut self) {
        self.sent = true;
    }

    /// There was no connection to send it on.
    pub(crate) fn never_sent(&mut self) {
        self.sent = false;
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        let (stamp, sent) = (self.stamp, self.sent);
        let shared = &self.budget.0;
        shared.change_now(|ledger| {
            if sent {
                ledger.done(&shared.quota, stamp, now());
            } else {
                ledger.undo(stamp);
            }
        });
        if !sent {
            shared.wake_first();
        }
    }
}

fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Budget {
    pub(crate) fn new(server: &Server, quota: Quota, dir: Option<&Path>, at_once: usize) -> Self {
        Self(Arc::new(Shared {
            quota,
            server: server.clone(),
            file: dir.map(|dir| file::path(dir, server)),
            known: Mutex::default(),
            alone: AtomicBool::new(false),
            waiting: Mutex::default(),
            serial: AtomicU64::new(0),
            held_back: AtomicU64::new(0),
            slots: Arc::new(Semaphore::new(at_once.clamp(1, 1024))),
        }))
    }

    /// The place of somebody whose credential ends then.
    pub(crate) fn urgency(&self, ends: Option<Timestamp>) -> Urgency {
        let serial = self.0.serial.fetch_add(1, Ordering::Relaxed);
        Urgency { ends, serial }
    }

    /// For how long nothing could be sent because the quota was used up; what is waited for now is counted to its end.
    pub(crate) fn held_back(&self) -> Duration {
        Duration::from_millis(self.0.held_back.load(Ordering::Relaxed))
    }

    /// [`Self::turn`], with the time it took on the account of who waited.
    pub(crate) async fn turn_of(&self, queuer: &Queuer) -> Result<(Leave, OwnedSemaphorePermit), TooLate> {
        let begun = Instant::now();
        let turn = self.turn(queuer.urgency).await;
        queuer.waited.fetch_add(whole(begun.elapsed()), Ordering::Relaxed);
        turn
    }

    /// Waits for leave to send a request and for one of the places of requests at once.
    pub(crate) async fn turn(&self, urgency: Urgency) -> Result<(Leave, OwnedSemaphorePermit), TooLate> {
        let shared = &self.0;
        let begun = Instant::now();
        let here = Waiting::new(shared, urgency);
        loop {
            if !here.is_first() {
                here.bell.notified().await;
                continue;
            }
            let slot = tokio::select! {
                slot = Arc::clone(&shared.slots).acquire_owned() => slot,
                // somebody more urgent may have come
                () = here.bell.notified() => continue,
            };
            // the semaphore is never closed
            let Ok(slot) = slot else {
                return Err(TooLate {
                    after: Duration::ZERO,
                });
            };
            if !here.is_first() {
                continue;
            }
            let until = match shared.change(|ledger| ledger.take(&shared.quota, now())).await {
                Verdict::Go(stamp) => {
                    let leave = Leave {
                        budget: self.clone(),
                        stamp,
                        sent: false,
                    };
                    return Ok((leave, slot));
                }
                Verdict::Wait(until) => until,
            };
            drop(slot);
            let pause = Duration::from_millis(u64::try_from(until - now()).unwrap_or(0).max(1));
            let left = shared.quota.patience.saturating_sub(begun.elapsed());
            if pause > left {
                return Err(TooLate { after: pause });
            }
            tracing::debug!(server = %shared.server, ?pause, "the budget of requests is used up");
            let _held = HeldBack::new(shared, pause);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = here.bell.notified() => {}
            }
        }
    }

    /// One of the places of requests at once, for a request that has its leave.
    pub(crate) async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.slots).acquire_owned().await.ok()
    }

    /// A request that must go at once, such as one more for another node.
    pub(crate) fn one_more(&self) -> Leave {
        let shared = &self.0;
        let stamp = shared.change_now(|ledger| ledger.count(&shared.quota, now()));
        Leave {
            budget: self.clone(),
            stamp,
            sent: true,
        }
    }

    /// The server said 429.
    pub(crate) fn refused(&self, retry_after: Option<Duration>) {
        let shared = &self.0;
        let (new, standing) = shared.change_now(|ledger| {
            let new = ledger.refused(&shared.quota, now(), retry_after);
            let standing = show(ledger.clone(), &shared.server, &shared.quota, Timestamp::now());
            (new, standing)
        });
        if new {
            tracing::warn!(
                server = %shared.server,
                used = standing.used,
                blocked_until = standing.blocked_until.map(tracing::field::display),
                "Vault blocks our address: others behind it use the same quota; less is sent for a while"
            );
        }
    }

    pub(crate) fn standing(&self, now: Timestamp) -> Standing {
        let shared = &self.0;
        show(guard(&shared.known).clone(), &shared.server, &shared.quota, now)
    }
}

impl Shared {
    fn wake_first(&self) {
        if let Some((_, bell)) = guard(&self.waiting).first_key_value() {
            bell.notify_one();
        }
    }

    /// Changes the ledger, waiting a little for another process that is at it.
    async fn change<R>(&self, mut change: impl FnMut(&mut Ledger) -> R) -> R {
        let begun = Instant::now();
        loop {
            if let Some(done) = self.in_file(&mut change, begun.elapsed() > LOCK_PATIENCE) {
                return done;
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    /// The same where nobody can wait: another process holds the file for microseconds, or it is stopped.
    fn change_now<R>(&self, mut change: impl FnMut(&mut Ledger) -> R) -> R {
        for _ in 0..100 {
            if let Some(done) = self.in_file(&mut change, false) {
                return done;
            }
            std::thread::yield_now();
        }
        change(&mut guard(&self.known))
    }

    /// `None` while another process is at it, unless `anyway`.
    fn in_file<R>(&self, change: &mut impl FnMut(&mut Ledger) -> R, anyway: bool) -> Option<R> {
        let mut known = guard(&self.known);
        let Some(path) = self.file.as_ref().filter(|_| !self.alone.load(Ordering::Relaxed)) else {
            return Some(change(&mut known));
        };
        let tried = file::lock(path).and_then(|locked| {
            let Some(mut locked) = locked else { return Ok(None) };
            *known = locked.read()?;
            let done = change(&mut known);
            locked.write(&known)?;
            Ok(Some(done))
        });
        match tried {
            Ok(Some(done)) => Some(done),
            Ok(None) if !anyway => None,
            Ok(None) => Some(change(&mut known)),
            Err(error) => {
                if !self.alone.swap(true, Ordering::Relaxed) {
                    tracing::warn!(path = %path.display(), %error, "the budget of Vault requests cannot be shared with other processes");
                }
                Some(change(&mut known))
            }
        }
    }
}

#[cfg(test)]
mod tests;
