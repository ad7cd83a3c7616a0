//! Every wait has an end.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout_at};

/// The end of one call of this crate, from which each stage takes its share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    end: Instant,
}

/// The time a stage was given is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elapsed(pub(crate) Duration);

impl Deadline {
    pub(crate) fn after(total: Duration) -> Self {
        Self {
            end: Instant::now() + total,
        }
    }

    /// A stage of at most `limit`, ending no later than the whole.
    pub(crate) fn stage(self, limit: Duration) -> Stretch {
        let start = Instant::now();
        Stretch {
            start,
            end: self.end.min(start + limit),
        }
    }
}

/// One stage's share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    start: Instant,
    end: Instant,
}

impl Stretch {
    /// Waits for `work` until the stage is over.
    pub(crate) async fn run<T>(self, work: impl Future<Output = T>) -> Result<T, Elapsed> {
        timeout_at(self.end, work)
            .await
            .map_err(|_| Elapsed(self.end - self.start))
    }

    /// Whole seconds left, for servers that want to know.
    pub(crate) fn seconds(self) -> i64 {
        let left = self.end.saturating_duration_since(Instant::now()).as_secs();
        i64::try_from(left).unwrap_or(i64::MAX)
    }
}
