//! How a budget stands, for whoever looks at it.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::{
    Quota, file,
    ledger::{Ledger, Verdict},
};
use crate::Server;

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

pub(super) fn show(mut ledger: Ledger, server: &Server, quota: &Quota, now: Timestamp) -> Standing {
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
