//! When the next request may go: a state machine without a clock, a file or a network of its own.
//!
//! A server counts in windows whose beginning we do not know, so no more than the allowance may fall into *any*
//! window. A request is counted from before it is sent, and until a window after its answer came: the server counted
//! it somewhere in between. That holds for fixed windows (OpenBao) and for leaking buckets alike.

use std::{collections::BTreeMap, time::Duration};

/// Windows for which less is sent after a block: what else is behind our address will not have gone in one.
const CAUTIOUS_WINDOWS: i64 = 12;
/// Stamps are rounded up to a window's hundredth: bounds the number of them, and costs 1 % of a window.
const GRAINS: i64 = 100;
/// Longest block that is believed, in ms, whatever a peer or a damaged file says.
const LONGEST_BLOCK: i64 = 3_600_000;

/// A server's limit of requests from one address, and how much of it is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Requests in a window.
    pub requests: u32,
    /// The window.
    pub window: Duration,
    /// For how long a server that does not say (no Retry-After) blocks who goes beyond the limit.
    pub block: Duration,
    /// Percent of the requests that mtk may use; the rest is for others behind the same address.
    pub share: u8,
    /// No request waits longer than this for its turn; it fails as [`crate::Error::RateLimited`].
    pub patience: Duration,
}

impl Default for Quota {
    /// What htvault-config's documentation sets: 360 requests in 5 minutes, else a block of 5 minutes. Of it 95 %;
    /// nobody waits longer than half an hour.
    fn default() -> Self {
        Self {
            requests: 360,
            window: Duration::from_secs(300),
            block: Duration::from_secs(300),
            share: 95,
            patience: Duration::from_secs(1800),
        }
    }
}

impl Quota {
    /// Requests of ours in a window, at least one.
    #[must_use]
    pub fn allowance(&self) -> u32 {
        let share = u64::from(self.share.min(100));
        let allowed = u64::from(self.requests) * share / 100;
        u32::try_from(allowed).unwrap_or(u32::MAX).max(1)
    }

    fn window_ms(&self) -> i64 {
        millis(self.window).max(1)
    }

    fn grain(&self) -> i64 {
        (self.window_ms() / GRAINS).max(1)
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 4)
}

/// Whether a request may go. All moments are milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Now; it is counted under this stamp.
    Go(i64),
    /// Not before then.
    Wait(i64),
}

/// What was sent to one server from this host, and what it said about too much.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// How many requests ended by when.
    pub(crate) stamps: BTreeMap<i64, u32>,
    /// Nothing gets through before then; 0 if never blocked.
    pub(crate) blocked_until: i64,
    /// Blocks seen since the file was begun.
    pub(crate) blocks: u32,
    /// After a block: so many requests in a window, until then.
    pub(crate) cautious: Option<(u32, i64)>,
}

impl Ledger {
    /// Asks for leave to send one request.
    pub(crate) fn take(&mut self, quota: &Quota, now: i64) -> Verdict {
        self.forget(quota, now);
        if now < self.blocked_until {
            return Verdict::Wait(self.blocked_until);
        }
        let allowed = self.allowance(quota, now);
        let mut left = self.used();
        if left < allowed {
            return Verdict::Go(self.count(quota, now));
        }
        for (stamp, count) in &self.stamps {
            left = left.saturating_sub(*count);
            if left < allowed {
                return Verdict::Wait(stamp.saturating_add(quota.window_ms()));
            }
        }
        // an allowance is never nothing, so something must have been in the way
        Verdict::Wait(now.saturating_add(quota.window_ms()))
    }

    /// Counts a request that does not ask.
    pub(crate) fn count(&mut self, quota: &Quota, now: i64) -> i64 {
        let grain = quota.grain();
        let stamp = now.saturating_add(grain - now.rem_euclid(grain));
        *self.stamps.entry(stamp).or_default() += 1;
        stamp
    }

    /// The request counted under `stamp` has its answer: it counts from now on.
    pub(crate) fn done(&mut self, quota: &Quota, stamp: i64, now: i64) {
        self.undo(stamp);
        self.count(quota, now);
    }

    /// The request counted under `stamp` was never sent.
    pub(crate) fn undo(&mut self, stamp: i64) {
        if let Some(count) = self.stamps.get_mut(&stamp) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.stamps.remove(&stamp);
            }
        }
    }

    /// The server said 429. Whether that is a new block, and not one more answer from within the same.
    pub(crate) fn refused(&mut self, quota: &Quota, now: i64, retry_after: Option<Duration>) -> bool {
        self.forget(quota, now);
        if now < self.blocked_until {
            return false;
        }
        // somebody else sends, too: what we had sent was too much already, and half of what we thought is theirs. Who had
        // hardly sent anything is not left with nothing: if that is still too much, the next block halves it again
        let sent = self.used();
        let allowed = self.allowance(quota, now);
        let cautious = (allowed / 2).min((sent - sent / 10).max(allowed / 8)).max(1);
        // without a word from the server both must be over: the block, and the window that was used up
        let wait = retry_after.unwrap_or(quota.block.max(quota.window));
        self.blocked_until = now.saturating_add(millis(wait).clamp(1, LONGEST_BLOCK));
        self.blocks = self.blocks.saturating_add(1);
        let until = self
            .blocked_until
            .saturating_add(quota.window_ms().saturating_mul(CAUTIOUS_WINDOWS));
        self.cautious = Some((cautious, until));
        true
    }

    /// Requests that count now; after [`Ledger::forget`].
    pub(crate) fn used(&self) -> u32 {
        self.stamps
            .values()
            .fold(0, |sum: u32, count| sum.saturating_add(*count))
    }

    /// Requests in a window at the moment.
    pub(crate) fn allowance(&self, quota: &Quota, now: i64) -> u32 {
        let allowed = quota.allowance();
        match self.cautious {
            // nothing at all can only stand in a damaged file
            Some((cautious, until)) if now < until => cautious.clamp(1, allowed),
            _ => allowed,
        }
    }

    /// Lets go of what no longer counts, and of what a clock set back left in the future.
    pub(crate) fn forget(&mut self, quota: &Quota, now: i64) {
        let window = quota.window_ms();
        self.stamps = self
            .stamps
            .split_off(&now.saturating_sub(window).saturating_add(1));
        let latest = now.saturating_add(quota.grain());
        let ahead = self.stamps.split_off(&latest.saturating_add(1));
        let count = ahead
            .values()
            .fold(0, |sum: u32, count| sum.saturating_add(*count));
        if count > 0 {
            let there = self.stamps.entry(latest).or_default();
            *there = there.saturating_add(count);
        }
        self.blocked_until = self.blocked_until.min(now.saturating_add(LONGEST_BLOCK));
        let longest = LONGEST_BLOCK.saturating_add(window.saturating_mul(CAUTIOUS_WINDOWS));
        self.cautious = self
            .cautious
            .map(|(allowed, until)| (allowed, until.min(now.saturating_add(longest))))
            .filter(|(_, until)| now < *until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(requests: u32, share: u8) -> Quota {
        Quota {
            requests,
            share,
            window: Duration::from_secs(300),
            block: Duration::from_secs(300),
            ..Quota::default()
        }
    }

    /// OpenBao's limiter: windows from a beginning of its own, and a block for who goes beyond.
    struct Server {
        rate: u32,
        begin: i64,
        window: i64,
        block: i64,
        tick: i64,
        left: u32,
        blocked: Option<i64>,
        blocks: u32,
    }

    impl Server {
        fn new(rate: u32, begin: i64) -> Self {
            Self {
                rate,
                begin,
                window: 300_000,
                block: 300_000,
                tick: -1,
                left: 0,
                blocked: None,
                blocks: 0,
            }
        }

        fn take(&mut self, now: i64) -> bool {
            if let Some(at) = self.blocked {
                if now - at < self.block {
                    return false;
                }
                self.blocked = None;
            }
            let tick = (now - self.begin).div_euclid(self.window);
            if tick != self.tick {
                (self.tick, self.left) = (tick, self.rate);
            }
            if self.left == 0 {
                self.blocked = Some(now);
                self.blocks += 1;
                return false;
            }
            self.left -= 1;
            true
        }
    }

    /// Sends `all` requests as fast as the ledger lets go, each answered after `latency`; `other` is how many somebody
    /// else sends in a window, evenly. When the last one was answered.
    fn run(quota: &Quota, server: &mut Server, all: u32, latency: i64, other: i64) -> i64 {
        let mut ledger = Ledger::default();
        let mut now = 1_000_000;
        let start = now;
        let mut next_other = now;
        let mut done = 0;
        while done < all {
            while other > 0 && next_other <= now {
                server.take(next_other);
                next_other += server.window / other;
            }
            match ledger.take(quota, now) {
                Verdict::Go(stamp) => {
                    let granted = server.take(now + latency / 2);
                    now += latency;
                    ledger.done(quota, stamp, now);
                    if granted {
                        done += 1;
                    } else {
                        ledger.refused(quota, now, None);
                    }
                }
                Verdict::Wait(until) => {
                    assert!(until > now);
                    // the other one goes on meanwhile
                    now = until.min(now + 1000);
                }
            }
        }
        now - start
    }

    #[test]
    fn the_whole_quota_is_used_and_never_more_wherever_the_windows_begin() {
        for begin in (0..300_000).step_by(17_001) {
            for latency in [2, 50, 700] {
                let mut server = Server::new(360, begin);
                let took = run(&quota(360, 100), &mut server, 800, latency, 0);
                assert_eq!(server.blocks, 0, "windows from {begin}, {latency} ms");
                // two windows must pass, unless the requests themselves take longer
                let least = 2 * 300_000;
                assert!(
                    took <= least * 11 / 10 || latency > 50,
                    "{took} ms where {least} were enough"
                );
            }
        }
    }

    #[test]
    fn somebody_elses_half_costs_one_block() {
        for begin in (0..300_000).step_by(17_001) {
            let mut server = Server::new(360, begin);
            run(&quota(360, 95), &mut server, 900, 20, 180);
            assert!(
                server.blocks <= 1,
                "{} blocks, windows from {begin}",
                server.blocks
            );
        }
    }

    #[test]
    fn answers_from_within_one_block_are_one_block() {
        let quota = quota(10, 100);
        let mut ledger = Ledger::default();
        let now = 5_000_000;
        for _ in 0..10 {
            assert!(matches!(ledger.take(&quota, now), Verdict::Go(_)));
        }
        assert!(ledger.refused(&quota, now, Some(Duration::from_secs(7))));
        assert!(!ledger.refused(&quota, now + 10, None));
        assert_eq!(ledger.take(&quota, now + 20), Verdict::Wait(now + 7000));
        assert_eq!((ledger.blocks, ledger.allowance(&quota, now)), (1, 5));
        // long after, all is as before
        assert_eq!(ledger.allowance(&quota, now + 8000 + 12 * 300_000), 10);
    }

    #[test]
    fn a_block_that_others_caused_leaves_us_something_and_more_of_them_less() {
        let quota = quota(360, 95);
        let mut ledger = Ledger::default();
        let mut now = 5_000_000;
        assert!(matches!(ledger.take(&quota, now), Verdict::Go(_)));
        let mut last = u32::MAX;
        for allowed in [42, 21, 10, 5, 2, 1, 1] {
            assert!(ledger.refused(&quota, now, None));
            assert_eq!(ledger.allowance(&quota, now), allowed);
            assert!(allowed <= last);
            last = allowed;
            now += 310_000;
            while matches!(ledger.take(&quota, now), Verdict::Go(_)) {}
        }
        // an hour without a block, and all is as before
        assert_eq!(ledger.allowance(&quota, now + 13 * 300_000), 342);
    }

    #[test]
    fn what_was_never_sent_is_given_back() {
        let quota = quota(1, 100);
        let mut ledger = Ledger::default();
        let Verdict::Go(stamp) = ledger.take(&quota, 1000) else {
            panic!("refused")
        };
        assert!(matches!(ledger.take(&quota, 1001), Verdict::Wait(_)));
        ledger.undo(stamp);
        ledger.undo(stamp);
        assert!(matches!(ledger.take(&quota, 1002), Verdict::Go(_)));
    }

    #[test]
    fn a_clock_set_back_blocks_nobody_for_long() {
        let quota = quota(2, 100);
        let mut ledger = Ledger {
            stamps: [(i64::MAX - 5, 2)].into(),
            blocked_until: i64::MAX,
            blocks: 1,
            cautious: Some((1, i64::MAX)),
        };
        let now = 1_000_000;
        assert_eq!(ledger.take(&quota, now), Verdict::Wait(now + LONGEST_BLOCK));
        ledger.blocked_until = 0;
        ledger.cautious = None;
        let Verdict::Wait(until) = ledger.take(&quota, now) else {
            panic!("let go")
        };
        assert!(until <= now + 303_000 + 1, "{until}");
    }

    #[test]
    fn an_allowance_is_never_nothing() {
        for (requests, share) in [(0, 95), (1, 0), (u32::MAX, 255)] {
            assert!(quota(requests, share).allowance() >= 1);
        }
    }
}
