//! What the exit status says.

use std::process::ExitCode;

/// The ways an `mtk` can end (design.md section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All that was asked for is fresh.
    Fresh,
    /// Some of it failed.
    SomeFailed,
    /// The command line or the configuration is wrong.
    Usage,
    /// Another mtk holds the lock.
    Locked,
    /// A check in the way of Nagios: something ends soon.
    Warning,
    /// A check: something ends too soon, or is not alive.
    Critical,
    /// A check: nothing can be said.
    Unknown,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fresh => 0,
            Exit::SomeFailed | Exit::Warning => 1,
            Exit::Usage | Exit::Critical => 2,
            Exit::Locked | Exit::Unknown => 3,
        })
    }
}
