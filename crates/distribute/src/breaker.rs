//! Whether a node answers at all: found out by one session for all.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::Error;

/// How long a node that did not answer is left alone, the first time and at most: doubled by each failed attempt.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Lets sessions to a node that answers pass; of all others one at a time, and none for a while after it failed.
#[derive(Default)]
pub(crate) struct Breaker {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    answers: Answers,
    probing: bool,
}

#[derive(Default)]
enum Answers {
    #[default]
    Unknown,
    Yes,
    No {
        error: Error,
        until: Instant,
        pause: Duration,
    },
}

/// Held by the session that finds out; whoever waits goes on when it is dropped, if not before.
pub(crate) struct Probe(Arc<Breaker>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.lock().probing = false;
        self.0.changed.notify_waiters();
    }
}

impl Breaker {
    /// Waits until it is known that the node answers, or until it is the caller's turn to find out.
    ///
    /// # Errors
    /// What the last session found out, while it is too early to try again.
    pub(crate) async fn admit(self: &Arc<Self>) -> Result<Option<Probe>, Error> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            {
                let mut state = self.lock();
                match &state.answers {
                    Answers::Yes => return Ok(None),
                    Answers::No { error, until, .. } if Instant::now() < *until => {
                        return Err(error.clone());
                    }
                    Answers::Unknown | Answers::No { .. } if !state.probing => {
                        state.probing = true;
                        return Ok(Some(Probe(Arc::clone(self))));
                    }
                    Answers::Unknown | Answers::No { .. } => {}
                }
            }
            changed.await;
        }
    }

    /// The node has exchanged keys with us: from here on an account may fail, not the node.
    pub(crate) fn answered(&self) {
        self.lock().answers = Answers::Yes;
        self.changed.notify_waiters();
    }

    /// No account would get further just now.
    pub(crate) fn failed(&self, error: &Error) {
        let mut state = self.lock();
        let pause = match &state.answers {
            Answers::No { pause, .. } => pause.saturating_mul(2).min(LONGEST_PAUSE),
            Answers::Unknown | Answers::Yes => FIRST_PAUSE,
        };
        state.answers = Answers::No {
            error: error.clone(),
            until: Instant::now() + pause,
            pause,
        };
        drop(state);
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Error {
        Error::Refused {
            node: "n".into(),
            port: 22,
        }
    }

    #[tokio::test]
    async fn one_finds_out_for_all() {
        let breaker = Arc::new(Breaker::default());
        let probe = breaker.admit().await.unwrap();
        assert!(probe.is_some());
        let waiting: Vec<_> = (0..5)
            .map(|_| {
                let breaker = Arc::clone(&breaker);
                tokio::spawn(async move { breaker.admit().await.map(|probe| probe.is_some()) })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(20)).await;
        breaker.failed(&refused());
        drop(probe);
        for waiting in waiting {
            assert!(matches!(waiting.await.unwrap(), Err(Error::Refused { .. })));
        }
        // who comes a little later costs no attempt either
        assert!(breaker.admit().await.is_err());
        breaker.answered();
        assert!(breaker.admit().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn one_that_gave_up_leaves_its_turn_to_the_next() {
        let breaker = Arc::new(Breaker::default());
        drop(breaker.admit().await.unwrap());
        assert!(breaker.admit().await.unwrap().is_some());
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let breaker = Breaker::default();
        for _ in 0..20 {
            breaker.failed(&refused());
        }
        let state = breaker.lock();
        assert!(matches!(state.answers, Answers::No { pause, .. } if pause == LONGEST_PAUSE));
    }
}
