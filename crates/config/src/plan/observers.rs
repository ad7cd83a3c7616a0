//! Who is told besides monitors: Loki, a receiver of traces, log files.

use std::time::Duration;

use super::Plan;
use crate::{
    Audit, LogFiles, Receiver,
    section::{self, Section},
};

/// The Go service's own default for Loki.
const LOKI_TIMEOUT: Duration = Duration::from_secs(1);
const TRACES_TIMEOUT: Duration = Duration::from_secs(5);

/// Whose log files are ours: our own, then those of the Go service's program that did our work.
const EXECUTABLES: [&str; 2] = ["mtk", "token-push"];

/// The Go service's program whose work is another command's here. Its entry is no mistake.
const OTHERS: [&str; 1] = ["refresh-uids-from-ferry"];

impl<'t> Plan<'_, 't> {
    pub(super) fn loki(&mut self) -> Option<Receiver> {
        let section = self.top.child("loki", self.report);
        let url = self.address(&section, "host", "https")?;
        let timeout = self.span(&section, "response_header_timeout", LOKI_TIMEOUT);
        Some(Receiver { url, timeout })
    }

    pub(super) fn traces(&mut self) -> Option<Receiver> {
        let section = self.top.child("tracing", self.report);
        let url = self.address(&section, "url", "https")?;
        Some(Receiver {
            url,
            timeout: TRACES_TIMEOUT,
        })
    }

    pub(super) fn audit(&mut self, mtk: &Section<'t>) -> Audit {
        let section = mtk.child("audit", self.report);
        Audit {
            enabled: self.value(&section, "enabled", section::boolean).unwrap_or(true),
            file: self.path(&section, "file"),
        }
    }

    pub(super) fn log_files(&mut self) -> LogFiles {
        let logs = self.top.child("logs", self.report);
        for entry in logs.entries() {
            let is = |name: &&str| entry.key.eq_ignore_ascii_case(name);
            if !EXECUTABLES.iter().chain(&OTHERS).any(is) {
                let message = "no program logs here: mtk reads logs.mtk, else logs.token-push";
                self.report.note(entry.at, &logs.path_of(&entry.key), message, "");
            }
        }
        let Some(section) = EXECUTABLES
            .iter()
            .find(|name| logs.get(name).is_some())
            .map(|name| logs.child(name, self.report))
        else {
            return LogFiles::default();
        };
        LogFiles {
            log: self.path(&section, "logfile"),
            debug: self.path(&section, "debugfile"),
        }
    }
}
