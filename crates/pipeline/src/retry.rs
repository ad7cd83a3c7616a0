//! Again, or not: one rule for every step.

use std::{future::Future, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::{failure::Failure, stop::Stop};

/// How often and how long one step is tried in one run.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Tries at the most, the first one included.
    pub tries: u32,
    /// No new try begins after this much time.
    pub total: Duration,
    /// The first pause; it doubles, with jitter.
    pub pause: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            tries: 3,
            total: Duration::from_secs(20),
            pause: Duration::from_millis(250),
        }
    }
}

impl Budget {
    /// What the configuration says of a step, where it says anything: our own default otherwise.
    #[must_use]
    pub fn configured(retry: config::Retry, timeout: Duration) -> Self {
        let default = Self::default();
        if retry.retries == 0 {
            return default;
        }
        Self {
            tries: default.tries.max(retry.retries.saturating_add(1)),
            total: timeout.max(Duration::from_secs(1)),
            pause: retry.pause.max(default.pause),
        }
    }
}

/// Calls `step` until it succeeds, fails for good, or the budget is used up. The pauses grow and jitter, so that
/// many edges failing at one peer do not come back to it at once.
///
/// # Errors
/// The last failure, with the number of tries.
pub(crate) async fn retry<T, F, Fut>(budget: Budget, stop: &Stop, step: F) -> Result<T, Failure>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Failure>>,
{
    retry_beside(budget, stop, || Duration::ZERO, step).await
}

/// The same where a step may wait for its turn: `waited` says for how long it has done so in all, and none of that counts
/// in the budget's total. Somebody who waited out a block of five minutes has not tried for five minutes.
///
/// # Errors
/// The last failure, with the number of tries.
pub(crate) async fn retry_beside<T, F, Fut>(
    budget: Budget,
    stop: &Stop,
    waited: impl Fn() -> Duration,
    mut step: F,
) -> Result<T, Failure>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Failure>>,
{
    let waited_before = waited();
    let began = tokio::time::Instant::now();
    let mut pauses = ExponentialBuilder::default()
        .with_min_delay(budget.pause)
        .with_max_delay(Duration::from_secs(8))
        .with_max_times(budget.tries.saturating_sub(1) as usize)
        .with_jitter()
        .build();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let failure = match step().await {
            Ok(value) => return Ok(value),
            Err(failure) => Failure { attempts, ..failure },
        };
        let Some(pause) = pauses.next().filter(|_| failure.retryable && !stop.asked()) else {
            return Err(failure);
        };
        let idle = waited().saturating_sub(waited_before);
        if began.elapsed().saturating_sub(idle) + pause > budget.total {
            return Err(failure);
        }
        tracing::debug!(peer = %failure.peer, stage = ?failure.stage, attempts, ?pause, "trying again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.wait() => return Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::{failure::Stage, stop};

    fn failure(retryable: bool) -> Failure {
        Failure {
            retryable,
            ..Failure::text(Stage::Login, "x", "vault", "no")
        }
    }

    #[test]
    fn retries_that_are_configured_are_kept_to_and_none_means_our_own() {
        let timeout = Duration::from_secs(30);
        let none = Budget::configured(config::Retry::default(), timeout);
        assert_eq!((none.tries, none.total), (3, Duration::from_secs(20)));
        let five = config::Retry {
            retries: 5,
            pause: Duration::from_secs(2),
        };
        let five = Budget::configured(five, timeout);
        assert_eq!(
            (five.tries, five.total, five.pause),
            (6, timeout, Duration::from_secs(2))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn passing_trouble_is_tried_again_within_the_budget() {
        let (_keep, stop) = stop::pair();
        let calls = Cell::new(0);
        let out = retry(Budget::default(), &stop, || {
            calls.set(calls.get() + 1);
            let n = calls.get();
            async move { if n < 3 { Err(failure(true)) } else { Ok(n) } }
        })
        .await;
        assert_eq!(out, Ok(3));
    }

    #[tokio::test(start_paused = true)]
    async fn lasting_trouble_is_not() {
        let (_keep, stop) = stop::pair();
        let out = retry(Budget::default(), &stop, || async {
            Err::<(), _>(failure(false))
        })
        .await;
        assert_eq!(out.unwrap_err().attempts, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn no_try_begins_after_the_total() {
        let (_keep, stop) = stop::pair();
        let budget = Budget {
            tries: 10,
            total: Duration::from_secs(1),
            pause: Duration::from_millis(400),
        };
        let began = tokio::time::Instant::now();
        let out = retry(budget, &stop, || async { Err::<(), _>(failure(true)) }).await;
        assert!(out.unwrap_err().attempts < 10);
        assert!(began.elapsed() <= Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_waited_for_a_turn_is_no_trying() {
        let (_keep, stop) = stop::pair();
        let block = Duration::from_secs(300);
        let waited = Cell::new(Duration::from_secs(1000));
        let calls = Cell::new(0);
        let out = retry_beside(
            Budget::default(),
            &stop,
            || waited.get(),
            || {
                calls.set(calls.get() + 1);
                let (n, waited) = (calls.get(), &waited);
                async move {
                    tokio::time::sleep(block).await;
                    waited.set(waited.get() + block);
                    if n < 3 { Err(failure(true)) } else { Ok(n) }
                }
            },
        )
        .await;
        assert_eq!(out, Ok(3));
        // without such an account, the same is too long for a second try
        let out = retry(Budget::default(), &stop, || async {
            tokio::time::sleep(block).await;
            Err::<(), _>(failure(true))
        })
        .await;
        assert_eq!(out.unwrap_err().attempts, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_pause() {
        let (stopper, stop) = stop::pair();
        stopper.stop();
        let out = retry(Budget::default(), &stop, || async { Err::<(), _>(failure(true)) }).await;
        assert_eq!(out.unwrap_err().attempts, 1);
    }
}
