//! The plan that leaves this crate.

mod notify;
mod reach;
mod service;
mod steps;
mod uids;
mod values;

use std::{fmt, path::PathBuf, time::Duration};

pub use notify::{Hook, Mail, MailTls, Notifications, QuietHours, Receivers, StakeholdersGet};
pub use reach::{Checking, Jump, Ssh, Transport};
pub use service::{BadUid, Broken, Destination, Kind, Service, ServiceId};
pub use steps::{Crl, Limits, Retries, Retry, Timeouts, Vault, VaultQuota};
pub use uids::{Ferry, FerryLogin, UidSource};
pub use values::{AcceptedKey, Effective, Origin};

use crate::{address, tree::Position};

/// Somebody who is told after a run, by HTTP.
#[derive(Clone, PartialEq, Eq)]
pub struct Receiver {
    /// Its URL, a scheme in front of it.
    pub url: String,
    /// How long it is waited for, connection included.
    pub timeout: Duration,
}

/// Log files beside stderr.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFiles {
    /// What is INFO and above (`logs.<executable>.logfile`).
    pub log: Option<PathBuf>,
    /// What is DEBUG and above (`logs.<executable>.debugfile`).
    pub debug: Option<PathBuf>,
}

/// The log of what is done with credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Whether there is one (`mtk.audit.enabled`).
    pub enabled: bool,
    /// Where it is, if the file says so (`mtk.audit.file`); else in the state directory.
    pub file: Option<PathBuf>,
}

/// Where metrics go after a run; nowhere, unless the file says so.
#[derive(Clone, PartialEq, Eq)]
pub struct Metrics {
    /// The Pushgateway's address, a scheme in front of it (`prometheus.host`).
    pub pushgateway: Option<String>,
    /// The job's name there, the environment's label behind it as the Go service puts it (`prometheus.jobname`).
    pub job: String,
    /// A file for node_exporter's textfile collector (`mtk.metrics.textfile`).
    pub textfile: Option<PathBuf>,
    /// The instance's name at the Pushgateway; without it the host's name.
    pub instance: Option<String>,
    /// How long the Pushgateway is waited for, connection included.
    pub timeout: Duration,
}

// addresses may hold passwords
impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("url", &address::Shown(&self.url))
            .field("timeout", &self.timeout)
            .finish()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("pushgateway", &self.pushgateway.as_deref().map(address::Shown))
            .field("job", &self.job)
            .field("textfile", &self.textfile)
            .field("instance", &self.instance)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// Where the state is kept if the file does not say.
pub const DEFAULT_STATE_DIRECTORY: &str = "/var/lib/mtk";

/// The whole site, checked: every service in it can be worked on.
#[derive(Debug, Clone)]
pub struct Site {
    /// The file all this was read from; with drop-ins alone, their directory.
    pub path: PathBuf,
    /// All files it was read from, in the order in which they were merged.
    pub files: Vec<PathBuf>,
    /// The services, in the order of the file.
    pub services: Vec<Service>,
    /// Those that could not be set up, with the reason. They are to be reported, not forgotten.
    pub broken: Vec<Broken>,
    /// Where the state is kept, if the file says so; else [`DEFAULT_STATE_DIRECTORY`].
    pub state_dir: Option<PathBuf>,
    /// The Go service's SQLite file, for the UIDs in it. It need not exist.
    pub db_location: Option<PathBuf>,
    /// A node token is renewed when less than this is left.
    pub min_token_lifetime: Duration,
    /// A credd's token is renewed when less than this is left.
    pub renew_before: Duration,
    /// The life asked for a node token, at most a million seconds.
    pub node_token_lifetime: Duration,
    /// How long a person's consent to a robot lasts at the issuer, if the file says so: no server tells it.
    pub consent_lifetime: Option<Duration>,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How often each step is tried again.
    pub retries: Retries,
    /// How much runs at once.
    pub limits: Limits,
    /// How Vault is recognised.
    pub vault: Vault,
    /// Whether nobody is to be notified, where a role says nothing else.
    pub disable_notifications: bool,
    /// What this installation is called in metrics and logs: `production` unless something else is said.
    pub dev_label: String,
    /// Where metrics go after a run.
    pub metrics: Metrics,
    /// Where what is logged at INFO and above goes after a run, beside stderr.
    pub loki: Option<Receiver>,
    /// Where the trace of a run goes.
    pub traces: Option<Receiver>,
    /// Where logs go beside stderr.
    pub log_files: LogFiles,
    /// Whether and where it is written down what is done with credentials.
    pub audit: Audit,
    /// Who is told of failures, where nobody says `disable_notifications`.
    pub notifications: Notifications,
    /// Where UIDs are looked for that the file does not say, in this order.
    pub uid_order: Vec<UidSource>,
    /// The FERRY server, if the file names one.
    pub ferry: Option<Ferry>,
    /// Keys accepted whose function is not needed here.
    pub later: Vec<AcceptedKey>,
    /// The values in effect for all services, and where each comes from.
    pub values: Vec<Effective>,
}

impl Site {
    /// A place as `file:line`.
    #[must_use]
    pub fn place(&self, at: Position) -> String {
        let file = self.files.get(usize::from(at.file)).unwrap_or(&self.path);
        format!("{}:{}", file.display(), at.line)
    }

    /// Where a value comes from, for people: a line of the file, named with its drop-in if there are any.
    #[must_use]
    pub fn origin(&self, origin: &Origin) -> String {
        let (Origin::File(at) | Origin::Override(at)) = origin else {
            return origin.to_string();
        };
        if at.file == 0 && self.files.len() <= 1 {
            return origin.to_string();
        }
        let what = if matches!(origin, Origin::Override(_)) {
            "override in "
        } else {
            ""
        };
        format!("{what}{}", self.place(*at))
    }
}
