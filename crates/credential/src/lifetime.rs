//! From when to when something is good, as pure functions of `now`.

use jiff::{SignedDuration, Timestamp};

/// A span of validity by our own clock: when it was issued and when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    issued: Timestamp,
    until: Timestamp,
}

impl Lifetime {
    /// What was granted at `issued` for `granted`. A life beyond the calendar ends with the calendar.
    #[must_use]
    pub fn new(issued: Timestamp, granted: SignedDuration) -> Self {
        let until = issued.checked_add(granted).unwrap_or(Timestamp::MAX);
        Self { issued, until }
    }

    /// From two known moments.
    #[must_use]
    pub fn between(issued: Timestamp, until: Timestamp) -> Self {
        Self { issued, until }
    }

    /// When it was issued.
    #[must_use]
    pub fn issued(self) -> Timestamp {
        self.issued
    }

    /// When it ends.
    #[must_use]
    pub fn until(self) -> Timestamp {
        self.until
    }

    /// The whole life, as granted.
    #[must_use]
    pub fn granted(self) -> SignedDuration {
        self.until.duration_since(self.issued)
    }

    /// What is left at `now`; negative once it is over.
    #[must_use]
    pub fn remaining(self, now: Timestamp) -> SignedDuration {
        self.until.duration_since(now)
    }

    /// The same life, ended no later than its parent: a Vault token dies with the one it hangs below, whatever
    /// the server says of its ttl (vault.md 3.3).
    #[must_use]
    pub fn within(self, parent: Lifetime) -> Self {
        Self {
            until: self.until.min(parent.until),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_never_outlives_its_parent() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let parent = Lifetime::between(at(0), at(100));
        let child = Lifetime::new(at(90), SignedDuration::from_secs(50)).within(parent);
        assert_eq!(child.until(), at(100));
        assert_eq!(child.remaining(at(99)), SignedDuration::from_secs(1));
    }
}
