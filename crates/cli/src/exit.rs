//! What the exit status says.

use std::process::ExitCode;

/// The four ways an `mtk` can end (design.md section 5).
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
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fresh => 0,
            Exit::SomeFailed => 1,
            Exit::Usage => 2,
            Exit::Locked => 3,
        })
    }
}
