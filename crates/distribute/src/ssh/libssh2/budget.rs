//! How much a server may send in one session.
//!
//! libssh2 keeps every message that nobody asked for until the one it waits for comes, so that memory would grow with
//! whatever a server sends until the deadline. [`super::raw::receive`] counts along.

use std::cell::Cell;

/// In bytes, beside what files are read: what is looked at of a crowded directory is two megabytes.
const MOST: usize = 16 * 1024 * 1024;

thread_local! {
    /// What is left to this thread's session: each has a thread of its own from its beginning to its end.
    static LEFT: Cell<usize> = const { Cell::new(MOST) };
}

/// A session begins on this thread, whose files are of so many bytes together.
pub(super) fn begin(files: usize) {
    // each is read twice at most, in packets
    LEFT.set(files.saturating_mul(4).saturating_add(MOST));
}

/// How many bytes its server may still send.
pub(super) fn left() -> usize {
    LEFT.get()
}

pub(super) fn spend(bytes: usize) {
    LEFT.set(LEFT.get().saturating_sub(bytes));
}

/// What is said of a server that has sent too much, if it has.
pub(super) fn complaint() -> Option<String> {
    (LEFT.get() == 0).then(|| format!("it sent more than {} MiB that nobody asked for", MOST >> 20))
}
