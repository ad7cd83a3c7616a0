//! Threads for calls that block and cannot be cancelled: one lane per realm, so that a silent KDC holds up nobody
//! else's realm, and a breaker in each lane, so that it does not eat threads for ever either.
//!
//! A caller that drops its future abandons the wait. While an abandoned call has been hanging for longer than
//! [`GRACE`] the lane refuses new calls at once; when it has come back with "no KDC answered", one call at a time is
//! let through until one of them is answered.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use futures_channel::oneshot;

use crate::Error;

/// A KDC answers in milliseconds; a call that takes longer than this waits for silence to end.
const GRACE: Duration = Duration::from_secs(2);
/// Calls waiting per realm; the next one is refused.
const QUEUE: usize = 4096;
/// A thread without work ends after this long.
const IDLE: Duration = Duration::from_secs(60);

type Work = Box<dyn FnOnce(Result<(), Error>) -> bool + Send>;

struct Job {
    id: u64,
    /// Run it (`Ok`) or give it its refusal; answers whether the KDC kept silent.
    work: Work,
}

struct Running {
    since: Instant,
    abandoned: bool,
}

#[derive(Default)]
struct State {
    next: u64,
    queue: VecDeque<Job>,
    running: HashMap<u64, Running>,
    threads: usize,
    idle: usize,
    /// The last call of the lane met silence: one at a time until one is answered.
    suspect: bool,
}

/// The calls of one realm.
pub(crate) struct Lane {
    realm: String,
    limit: usize,
    state: Mutex<State>,
    wake: Condvar,
}

impl Lane {
    pub(crate) fn new(realm: &str, threads: usize) -> Arc<Self> {
        Arc::new(Self {
            realm: realm.to_owned(),
            limit: threads.max(1),
            state: Mutex::default(),
            wake: Condvar::new(),
        })
    }

    /// Runs `call` on a thread of this lane.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a call that has begun to itself and takes one that has not out of the queue.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        call: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (tell, told) = oneshot::channel();
        let work: Work = Box::new(move |go| {
            let answer = go.and_then(|()| call());
            let silent = answer.as_ref().is_err_and(Error::is_silence);
            // nobody may be waiting any more
            drop(tell.send(answer));
            silent
        });
        let id = self.submit(work)?;
        Wait {
            lane: Arc::clone(self),
            id,
            told,
            done: false,
        }
        .await
        .unwrap_or_else(|| {
            Err(Error::Thread {
                text: "the thread of a Kerberos call was lost".to_owned(),
            })
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self, state: &State) -> Option<Error> {
        let hanging = state
            .running
            .values()
            .filter(|r| r.abandoned)
            .map(|r| r.since.elapsed())
            .max()?;
        (hanging >= GRACE).then(|| Error::KdcSilent {
            realm: self.realm.clone(),
            silent: hanging,
        })
    }

    fn submit(self: &Arc<Self>, work: Work) -> Result<u64, Error> {
        let mut state = self.lock();
        if let Some(refusal) = self.refusal(&state) {
            return Err(refusal);
        }
        if state.queue.len() >= QUEUE {
            return Err(Error::Busy {
                realm: self.realm.clone(),
                waiting: state.queue.len(),
            });
        }
        if state.idle <= state.queue.len() && state.threads < self.limit {
            let lane = Arc::clone(self);
            let started = thread::Builder::new()
                .name("mtk-gss".to_owned())
                .spawn(move || lane.serve());
            match started {
                Ok(_detached) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    return Err(Error::Thread {
                        text: error.to_string(),
                    });
                }
                Err(_) => {}
            }
        }
        let id = state.next;
        state.next += 1;
        state.queue.push_back(Job { id, work });
        drop(state);
        self.wake.notify_one();
        Ok(id)
    }

    /// The life of one thread.
    fn serve(&self) {
        let mut state = self.lock();
        loop {
            let may_start = !state.suspect || state.running.is_empty();
            if let Some(job) = may_start.then(|| state.queue.pop_front()).flatten() {
                state.running.insert(
                    job.id,
                    Running {
                        since: Instant::now(),
                        abandoned: false,
                    },
                );
                drop(state);
                let silent = catch_unwind(AssertUnwindSafe(|| (job.work)(Ok(())))).unwrap_or(false);
                state = self.finish(job.id, silent);
                continue;
            }
            state.idle += 1;
            let (woken, timeout) = self
                .wake
                .wait_timeout(state, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }

    fn finish(&self, id: u64, silent: bool) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let took = state
            .running
            .remove(&id)
            .map(|r| r.since.elapsed())
            .unwrap_or_default();
        let was_suspect = state.suspect;
        state.suspect = silent && (was_suspect || took >= GRACE);
        if state.suspect {
            // those who queued behind a call that met silence would each meet it in turn
            state = self.refuse_all(state, took);
        }
        self.wake.notify_all();
        state
    }

    fn refuse_all<'a>(&'a self, mut state: MutexGuard<'a, State>, silent: Duration) -> MutexGuard<'a, State> {
        let queue = std::mem::take(&mut state.queue);
        // outside the lock: waking a waiter may run its code
        drop(state);
        for job in queue {
            (job.work)(Err(Error::KdcSilent {
                realm: self.realm.clone(),
                silent,
            }));
        }
        self.lock()
    }

    fn abandon(&self, id: u64) {
        let mut state = self.lock();
        let Some(running) = state.running.get_mut(&id) else {
            let removed = state
                .queue
                .iter()
                .position(|job| job.id == id)
                .and_then(|at| state.queue.remove(at));
            drop(state);
            drop(removed);
            return;
        };
        running.abandoned = true;
        let age = running.since.elapsed();
        if age >= GRACE {
            tracing::warn!(
                realm = self.realm,
                seconds = age.as_secs(),
                "a Kerberos call hangs and was abandoned"
            );
            drop(self.refuse_all(state, age));
        }
    }
}

/// The wait for one call; dropping it abandons the call.
struct Wait<T> {
    lane: Arc<Lane>,
    id: u64,
    told: oneshot::Receiver<Result<T, Error>>,
    done: bool,
}

impl<T> Future for Wait<T> {
    type Output = Option<Result<T, Error>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.told).poll(context);
        if answer.is_ready() {
            self.done = true;
        }
        answer.map(Result::ok)
    }
}

impl<T> Drop for Wait<T> {
    fn drop(&mut self) {
        if !self.done {
            self.lane.abandon(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::mpsc,
        task::{Wake, Waker},
    };

    use super::*;

    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    /// Polls for at most `limit`, then drops the future: a runtime with a deadline in a few lines.
    fn wait_for<T>(future: impl Future<Output = T>, limit: Duration) -> Option<T> {
        let mut future = pin!(future);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let end = Instant::now() + limit;
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Some(value);
            }
            let left = end.checked_duration_since(Instant::now())?;
            thread::park_timeout(left);
        }
    }

    const LONG: Duration = Duration::from_secs(10);

    fn silence() -> Error {
        Error::KdcUnreachable {
            realm: "R".into(),
            text: String::new(),
        }
    }

    #[test]
    fn a_call_is_answered_and_a_panic_is_an_error() {
        let lane = Lane::new("R", 1);
        assert_eq!(wait_for(lane.run(|| Ok(7)), LONG).unwrap().unwrap(), 7);
        let lost = wait_for(lane.run::<()>(|| panic!("boom")), LONG).unwrap();
        assert!(matches!(lost, Err(Error::Thread { .. })));
        assert_eq!(wait_for(lane.run(|| Ok(8)), LONG).unwrap().unwrap(), 8);
    }

    #[test]
    fn an_abandoned_hanging_call_refuses_the_next_until_it_ends() {
        let lane = Lane::new("R", 4);
        let (release, held) = mpsc::channel::<()>();
        let stuck = lane.run(move || {
            held.recv().ok();
            Err::<(), _>(silence())
        });
        assert!(wait_for(stuck, GRACE + Duration::from_millis(200)).is_none());
        let before = Instant::now();
        let next = wait_for(lane.run(|| Ok(())), LONG).unwrap();
        assert!(matches!(next, Err(Error::KdcSilent { .. })), "{next:?}");
        assert!(before.elapsed() < Duration::from_millis(500));

        release.send(()).unwrap();
        while !lane.lock().running.is_empty() {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(lane.lock().suspect);
        assert!(wait_for(lane.run(|| Ok(())), LONG).unwrap().is_ok());
        // the answer comes before the thread has booked it
        while lane.lock().suspect {
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn those_who_queue_behind_a_hanging_call_are_told_when_it_is_given_up() {
        let lane = Lane::new("R", 1);
        let (release, held) = mpsc::channel::<()>();
        let stuck = Arc::clone(&lane);
        let giver = thread::spawn(move || {
            let call = stuck.run(move || {
                held.recv().ok();
                Ok(())
            });
            wait_for(call, GRACE + Duration::from_millis(200)).is_none()
        });
        while lane.lock().running.is_empty() {
            thread::sleep(Duration::from_millis(5));
        }
        let queued = wait_for(lane.run(|| Ok(())), LONG).unwrap();
        assert!(matches!(queued, Err(Error::KdcSilent { .. })), "{queued:?}");
        assert!(giver.join().unwrap());
        release.send(()).unwrap();
    }

    #[test]
    fn a_call_that_has_not_begun_is_taken_back() {
        let lane = Lane::new("R", 1);
        let (release, held) = mpsc::channel::<()>();
        let slow = Arc::clone(&lane);
        let first = thread::spawn(move || {
            let call = slow.run(move || {
                held.recv().ok();
                Ok(())
            });
            wait_for(call, LONG)
        });
        while lane.lock().running.is_empty() {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(wait_for(lane.run(|| Ok(())), Duration::from_millis(20)).is_none());
        assert!(lane.lock().queue.is_empty());
        release.send(()).unwrap();
        assert!(first.join().unwrap().unwrap().is_ok());
    }
}
