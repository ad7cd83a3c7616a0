//! Output: people read standard error, programs read standard output.

use std::io::Write as _;

/// A line for people.
pub(crate) fn people(line: &str) {
    // a closed terminal is no reason to stop
    let _closed = writeln!(std::io::stderr().lock(), "{line}");
}

/// A line for programs.
pub(crate) fn data(line: &str) {
    let _closed = writeln!(std::io::stdout().lock(), "{line}");
}
