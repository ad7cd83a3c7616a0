//! Where metrics go.

use std::time::Duration;

use super::Plan;
use crate::{Metrics, Origin, section::Section};

/// The Go service's own default.
const JOB: &str = "managed_tokens";
/// A Pushgateway next door answers in milliseconds; a run waits for no other kind.
const TIMEOUT: Duration = Duration::from_secs(5);

impl<'t> Plan<'_, 't> {
    /// As the Go service does it: a host without a scheme is asked over HTTP, and any environment but production has its
    /// label in the job's name.
    pub(super) fn metrics(&mut self, mtk: &Section<'t>, label: &str) -> Metrics {
        let top = self.top.clone();
        let prometheus = top.child("prometheus", self.report);
        let pushgateway = self.address(&prometheus, "host", "http");
        let job = self.text(&prometheus, "jobname").unwrap_or_else(|| {
            self.keep(prometheus.path_of("jobname"), JOB, Origin::Default);
            JOB.to_owned()
        });
        let ours = mtk.child("metrics", self.report);
        Metrics {
            pushgateway,
            job: if label == "production" {
                job
            } else {
                format!("{job}_{label}")
            },
            textfile: self.path(&ours, "textfile"),
            instance: self.text(&ours, "instance"),
            timeout: self.span(&ours, "timeout", TIMEOUT),
        }
    }
}
