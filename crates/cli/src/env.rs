//! Every environment variable mtk reads, once.

/// A filter for the log in the syntax of `tracing-subscriber`, such as `cedar=trace`.
pub(crate) const LOG: &str = "MTK_LOG";

/// Set to anything: no colours.
pub(crate) const NO_COLOR: &str = "NO_COLOR";

// Those that the Go service reads as well are listed where they are understood: `config::Env`. `MTK_STATE_DIR` is an
// option of the command line (args.rs).
