//! A bar on stderr while a run goes on, if a person is watching.

use std::{
    io::IsTerminal,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use indicatif::{ProgressBar, ProgressStyle};
use pipeline::{Edge, Outcome, Progress};

use crate::args::Output;

/// Counts edges; shows them only on a terminal.
pub(crate) struct Bar {
    bar: Option<ProgressBar>,
    failed: AtomicU64,
}

/// A bar for a summary in text on a terminal, else none.
pub(crate) fn new(output: Output) -> Arc<Bar> {
    let watched = output == Output::Text && std::io::stderr().is_terminal();
    let bar = watched.then(|| {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} edges, {elapsed} {wide_msg}") {
            bar.set_style(style);
        }
        bar
    });
    Arc::new(Bar {
        bar,
        failed: AtomicU64::new(0),
    })
}

impl Bar {
    /// Takes the bar away before the summary is printed.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Bar {
    fn began(&self) {
        if let Some(bar) = &self.bar {
            bar.inc_length(1);
        }
    }

    fn ended(&self, service: &str, edge: &Edge) {
        if edge.outcome == Outcome::Failed {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(bar) = &self.bar {
            bar.inc(1);
            let failed = self.failed.load(Ordering::Relaxed);
            bar.set_message(if failed == 0 {
                service.to_owned()
            } else {
                format!("{failed} failed; {service}")
            });
        }
    }
}
