//! What others may see of mtk's runs.
//!
//! [`metrics()`] makes one registry of what the state remembers and what a run did; [`write_textfile`] leaves it for
//! node_exporter, [`push`] hands it to a Pushgateway. [`Trace`] is a run as spans, [`Lines`] what was logged. All of it comes after a run and within a deadline: a monitor that does
//! not answer delays nothing and fails nothing.
//!
//! The names are the Go service's, so that dashboards and alerts go on, and beside them our own, which never vanish when
//! something fails: they age. All of them: docs/metrics.md.

mod http;
mod loki;
mod metrics;
mod pushgateway;
mod textfile;
mod traces;

pub use http::{Letter, Listener, Untold, tell};
pub use loki::{Labels, Lines, send_lines};
pub use metrics::{Facts, metrics, text};
pub use prometheus::Registry;
pub use pushgateway::{Gateway, push};
pub use textfile::{TextfileError, write_textfile};
pub use traces::{Teller, Trace, send_trace};
