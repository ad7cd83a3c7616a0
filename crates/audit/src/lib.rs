//! What was done with credentials, by whom and where: what [`credential::act`] tells, written down.
//!
//! A [`Log`] is lines of JSON, each with the SHA-256 of the line before it, so that [`verify()`] finds what was changed,
//! taken out or cut off. The lines, the chain and how it outlives rotation and kills: docs/audit.md.
//!
//! Appending never fails and never waits long: what could not be written is kept in memory, tried again with the next
//! act, and [`Log::settle`] says in the end what is missing and why.

mod chain;
mod file;
mod log;
mod verify;

use std::sync::OnceLock;

use credential::act;

pub use chain::{Anchor, Hash, NotAnAnchor};
pub use file::Error;
pub use log::{Log, Unkept, Who};
pub use verify::{Finding, Input, Verdict, inputs_of, verify};

static KEPT: OnceLock<Log> = OnceLock::new();

/// From now on acts of this process are written to `log`. The first one counts.
pub fn keep(log: Log) {
    act::set_witness(KEPT.get_or_init(|| log));
}

/// The log of this process, if it keeps one.
#[must_use]
pub fn kept() -> Option<&'static Log> {
    KEPT.get()
}
