//! How much a server may send in one session.
//!
//! libssh2 keeps every message that nobody asked for until the one it waits for comes, so that memory would grow with
//! whatever a server sends until the deadline; and it looks at its own clock only while nothing comes, so that a server
//! that goes on sending would keep it. [`super::raw::receive`] counts along and looks at the clock.

use std::{cell::Cell, time::Instant};

/// In bytes, beside what files are read: what is looked at of a crowded directory is two megabytes.
const MOST: usize = 16 * 1024 * 1024;

thread_local! {
    /// What is left to this thread's session: each has a thread of its own from its beginning to its end.
    static LEFT: Cell<usize> = const { Cell::new(MOST) };
    /// Until when the call under way may receive.
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A session begins on this thread, whose files are of so many bytes together.
pub(super) fn begin(files: usize) {
    // each is read twice at most, in packets
    LEFT.set(files.saturating_mul(4).saturating_add(MOST));
    UNTIL.set(None);
}

/// The next call ends by then.
pub(super) fn until(at: Instant) {
    UNTIL.set(Some(at));
}

/// Whether time is up, or too much has come.
pub(super) fn is_over() -> bool {
    LEFT.get() == 0 || is_late()
}

pub(super) fn is_late() -> bool {
    UNTIL.get().is_some_and(|at| at <= Instant::now())
}

/// How many bytes its server may still send now.
pub(super) fn left() -> usize {
    if is_late() { 0 } else { LEFT.get() }
}

pub(super) fn spend(bytes: usize) {
    LEFT.set(LEFT.get().saturating_sub(bytes));
}

/// What is said of a server that has sent too much, if it has.
pub(super) fn complaint() -> Option<String> {
    (LEFT.get() == 0).then(|| format!("it sent more than {} MiB that nobody asked for", MOST >> 20))
}
