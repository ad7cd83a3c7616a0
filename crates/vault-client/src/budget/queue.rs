//! Who stands before whom, and for how long somebody stood.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::Notify, time::Instant};

use super::{Shared, guard};

/// Whose request it is: what ends first goes first, and of two that end together the one that came first, with all
/// its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Urgency {
    /// `None`, before any moment, if there is nothing that could end: something is missing now.
    pub(super) ends: Option<Timestamp>,
    pub(super) serial: u64,
}

/// Somebody in the queue, with all the requests it sends.
#[derive(Clone)]
pub(crate) struct Queuer {
    pub(super) urgency: Urgency,
    /// For how long its requests have waited for their turns so far, in ms.
    pub(super) waited: Arc<AtomicU64>,
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
pub(super) type Place = (Urgency, u64);

pub(super) fn whole(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The first of the queue waits: counted as if to the end, what is left is taken back when it ends sooner.
pub(super) struct HeldBack<'a> {
    shared: &'a Shared,
    begun: Instant,
    pause: u64,
}

impl<'a> HeldBack<'a> {
    pub(super) fn new(shared: &'a Shared, pause: Duration) -> Self {
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
pub(super) struct Waiting<'a> {
    shared: &'a Shared,
    place: Place,
    pub(super) bell: Arc<Notify>,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(shared: &'a Shared, urgency: Urgency) -> Self {
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

    pub(super) fn is_first(&self) -> bool {
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
