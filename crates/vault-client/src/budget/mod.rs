//! The budget of requests at one server: who goes next, and when.
//!
//! Waiting requests stand in the order of what ends first; only the first of them asks the ledger. The ledger lies in
//! a file where one is named, so that every mtk on the host counts in it; without it, or while it cannot be used,
//! this process counts alone.

mod file;
mod ledger;

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
use serde::Serialize;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

pub use ledger::Quota;
use ledger::{Ledger, Verdict};

use crate::Server;

/// How long another process may hold the ledger's file before we count alone.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// Whose request it is: what ends first goes first, and of two that end together the one that came first, with all
/// its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Urgency {
    /// `None`, before any moment, if there is nothing that could end: something is missing now.
    ends: Option<Timestamp>,
    serial: u64,
}

/// Somebody in the queue, with all the requests it sends.
#[derive(Clone)]
pub(crate) struct Queuer {
    urgency: Urgency,
    /// For how long its requests have waited for their turns so far, in ms.
    waited: Arc<AtomicU64>,
}

impl Queuer {
    pub(crate) fn new(urgency: Urgency) -> Self {
        Self {
            urgency,
            waited: Arc::default(),
        }
    }

    pub(crate) fn waited(&self) -> Duration {
        Duration::from_millis(self.waited.load(Ordering::Relaxed))
    }
}

/// A waiting request's place: a service may have several.
type Place = (Urgency, u64);

/// How a server's budget stands, for showing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// `host:port`.
    pub server: String,
    /// Requests of this host that count now.
    pub used: u32,
    /// How many may count.
    pub allowed: u32,
    /// Length of the server's window, in seconds.
    pub window_seconds: u64,
    /// When the server's block of our address ends, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_until: Option<Timestamp>,
    /// Until when less than our share is used, because of a block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cautious_until: Option<Timestamp>,
    /// Blocks seen so far.
    pub blocks: u32,
}

/// How the budget of `server` stands at `now` by the file in the state directory `dir`, without waiting and without
/// changing anything. `None` if nothing was ever sent from this host.
///
/// # Errors
/// The file is there and cannot be read.
pub fn standing(
    dir: &Path,
    server: &Server,
    quota: &Quota,
    now: Timestamp,
) -> Result<Option<Standing>, std::io::Error> {
    Ok(file::peek(&file::path(dir, server))?.map(|ledger| show(ledger, server, quota, now)))
}

/// What somebody's file says: how many requests may count, when the next one may go, and whether what would be written
/// of it is read as the same.
pub(crate) fn peruse(text: &str, quota: &Quota, now: i64) -> Option<(u32, i64, bool)> {
    let mut ledger = file::parse(text)?;
    let next = match ledger.take(quota, now) {
        Verdict::Go(_) => now,
        Verdict::Wait(until) => until,
    };
    let same = file::parse(&file::format(&ledger)).as_ref() == Some(&ledger);
    Some((ledger.allowance(quota, now), next, same))
}

fn show(mut ledger: Ledger, server: &Server, quota: &Quota, now: Timestamp) -> Standing {
    let millis = now.as_millisecond();
    ledger.forget(quota, millis);
    let moment = |at: i64| {
        (at > millis)
            .then(|| Timestamp::from_millisecond(at).ok())
            .flatten()
    };
    Standing {
        server: server.to_string(),
        used: ledger.used(),
        allowed: ledger.allowance(quota, millis),
        window_seconds: quota.window.as_secs(),
        blocked_until: moment(ledger.blocked_until),
        cautious_until: ledger.cautious.and_then(|(_, until)| moment(until)),
        blocks: ledger.blocks,
    }
}

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

fn whole(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The first of the queue waits: counted as if to the end, what is left is taken back when it ends sooner.
struct HeldBack<'a> {
    shared: &'a Shared,
    begun: Instant,
    pause: u64,
}

impl<'a> HeldBack<'a> {
    fn new(shared: &'a Shared, pause: Duration) -> Self {
        let pause = whole(pause);
        shared.held_back.fetch_add(pause, Ordering::Relaxed);
        Self {
            shared,
            begun: Instant::now(),
            pause,
        }
    }
}

impl Drop for HeldBack<'_> {
    fn drop(&mut self) {
        let left = self.pause.saturating_sub(whole(self.begun.elapsed()));
        self.shared.held_back.fetch_sub(left, Ordering::Relaxed);
    }
}

/// A request in the queue; leaving it in any way wakes the next.
struct Waiting<'a> {
    shared: &'a Shared,
    place: Place,
    bell: Arc<Notify>,
}

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared, urgency: Urgency) -> Self {
        let place = (urgency, shared.serial.fetch_add(1, Ordering::Relaxed));
        let bell = Arc::new(Notify::new());
        let mut waiting = guard(&shared.waiting);
        let was_first = waiting.first_key_value().map(|(_, bell)| Arc::clone(bell));
        waiting.insert(place, Arc::clone(&bell));
        let first = waiting
            .first_key_value()
            .is_some_and(|(first, _)| *first == place);
        drop(waiting);
        if first && let Some(was_first) = was_first {
            was_first.notify_one();
        }
        Self { shared, place, bell }
    }

    fn is_first(&self) -> bool {
        guard(&self.shared.waiting)
            .first_key_value()
            .is_some_and(|(first, _)| *first == self.place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        guard(&self.shared.waiting).remove(&self.place);
        self.shared.wake_first();
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
mod tests {
    use super::*;

    fn quota(requests: u32, window: u64) -> Quota {
        Quota {
            requests,
            share: 100,
            window: Duration::from_millis(window),
            block: Duration::from_millis(window),
            patience: Duration::from_secs(5),
        }
    }

    fn budget(quota: Quota, dir: Option<&Path>) -> Budget {
        Budget::new(&"vault.test".parse().unwrap(), quota, dir, 8)
    }

    fn at(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(second).unwrap())
    }

    async fn send(budget: &Budget, urgency: Urgency) {
        let (mut leave, _slot) = budget.turn(urgency).await.unwrap();
        leave.sent();
    }

    #[tokio::test]
    async fn what_ends_first_goes_first_with_all_its_requests() {
        let budget = budget(quota(1, 60), None);
        let begun = Instant::now();
        send(&budget, budget.urgency(None)).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for (name, ends) in [
            ("late", at(900)),
            ("soon", at(10)),
            ("missing", None),
            ("soon too", at(10)),
        ] {
            let (budget, order) = (budget.clone(), Arc::clone(&order));
            let urgency = budget.urgency(ends);
            tasks.spawn(async move {
                for _ in 0..2 {
                    send(&budget, urgency).await;
                    guard(&order).push(name);
                }
            });
            tokio::task::yield_now().await;
        }
        while tasks.join_next().await.is_some() {}
        let order = guard(&order).clone();
        assert_eq!(
            order,
            [
                "missing", "missing", "soon", "soon", "soon too", "soon too", "late", "late"
            ]
        );
        assert!(begun.elapsed() >= Duration::from_millis(8 * 60));
    }

    #[tokio::test]
    async fn what_was_waited_for_is_on_the_account_of_who_waited() {
        let budget = budget(quota(1, 300), None);
        let queuer = |ends| Queuer::new(budget.urgency(ends));
        let (first, second) = (queuer(None), queuer(at(10)));
        budget.turn_of(&first).await.unwrap().0.sent();
        assert!(budget.held_back().is_zero() && first.waited() < Duration::from_millis(100));
        budget.turn_of(&second.clone()).await.unwrap().0.sent();
        assert!(
            second.waited() >= Duration::from_millis(250),
            "{:?}",
            second.waited()
        );
        assert!(
            first.waited() < Duration::from_millis(100),
            "{:?}",
            first.waited()
        );
        // one who gives up was held back no longer than it waited
        let before = budget.held_back();
        let given_up = tokio::time::timeout(Duration::from_millis(20), budget.turn_of(&second)).await;
        assert!(given_up.is_err());
        assert!(budget.held_back() < before + Duration::from_millis(250));
    }

    #[tokio::test]
    async fn processes_count_in_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (
            budget(quota(4, 400), Some(dir.path())),
            budget(quota(4, 400), Some(dir.path())),
        );
        let begun = Instant::now();
        for _ in 0..2 {
            send(&one, one.urgency(None)).await;
            send(&other, other.urgency(None)).await;
        }
        assert!(begun.elapsed() < Duration::from_millis(300));
        send(&other, other.urgency(None)).await;
        assert!(begun.elapsed() >= Duration::from_millis(400));
        one.refused(Some(Duration::from_secs(9)));
        let late = other.turn(other.urgency(None)).await.err().unwrap();
        assert!(late.after > Duration::from_secs(8));
        let server = "vault.test".parse().unwrap();
        let shown = standing(dir.path(), &server, &quota(4, 400), Timestamp::now())
            .unwrap()
            .unwrap();
        assert_eq!((shown.blocks, shown.blocked_until.is_some()), (1, true));
    }

    #[tokio::test]
    async fn a_turn_not_used_is_somebody_elses() {
        let long = Quota {
            patience: Duration::from_secs(120),
            ..quota(1, 60_000)
        };
        let budget = budget(long, None);
        let (leave, slot) = budget.turn(budget.urgency(None)).await.unwrap();
        let waiting = {
            let budget = budget.clone();
            tokio::spawn(async move { budget.turn(budget.urgency(None)).await.is_ok() })
        };
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop((leave, slot));
        let left = tokio::time::timeout(Duration::from_secs(5), waiting).await;
        assert!(left.unwrap().unwrap());
        assert_eq!(guard(&budget.0.waiting).len(), 0);
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_used_is_no_reason_to_stop() {
        let budget = budget(quota(2, 1000), Some(Path::new("/nonexistent")));
        send(&budget, budget.urgency(None)).await;
        assert_eq!(budget.standing(Timestamp::now()).used, 1);
    }
}
