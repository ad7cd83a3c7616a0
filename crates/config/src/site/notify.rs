//! Who is told of what.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

/// Who is told of failures, when, and how.
#[derive(Debug, Clone)]
pub struct Notifications {
    /// After how many failures in a row (`errorCountToSendMessage`).
    pub threshold: u32,
    /// The mail server, if there is one.
    pub mail: Option<Mail>,
    /// Who is told (`notifications`).
    pub receivers: Receivers,
    /// Who is told in test runs (`notifications_test`).
    pub test_receivers: Receivers,
    /// Addresses of each experiment's people (`emails`), by the experiment's key as written.
    pub stakeholders: BTreeMap<String, Vec<String>>,
    /// What those are told.
    pub stakeholders_get: StakeholdersGet,
    /// A file with Slack's web hook.
    pub slack_file: Option<PathBuf>,
    /// An address that gets every notice as JSON.
    pub webhook: Option<Hook>,
    /// A file with the bearer token for it.
    pub webhook_token: Option<PathBuf>,
    /// What was told and still fails is told again after so long.
    pub remind_every: Duration,
    /// What fails is a warning when less than this is left.
    pub warn_below: Duration,
    /// It is critical when less than this is left.
    pub critical_below: Duration,
    /// When only what is critical is told.
    pub quiet: Option<QuietHours>,
    /// A directory of templates.
    pub templates: Option<PathBuf>,
    /// How long all together are waited for.
    pub timeout: Duration,
}

/// A mail server, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The sender; without it `mtk@` this host.
    pub from: Option<String>,
    /// The server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: MailTls,
    /// Whom it knows us as, if it wants to know.
    pub username: Option<String>,
    /// The file with the password.
    pub password_file: Option<PathBuf>,
}

/// Whether TLS is spoken with the mail server. Wherever it is, the certificate is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MailTls {
    /// STARTTLS where the server offers it: what the Go service does.
    #[default]
    Auto,
    /// Never.
    Plain,
    /// STARTTLS, or nothing is sent.
    StartTls,
    /// From the first byte.
    Tls,
}

/// Who is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receivers {
    /// Operators' addresses.
    pub admins: Vec<String>,
    /// Slack's web hook.
    pub slack: Option<Hook>,
}

/// A web hook. Whoever knows it may use it: it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hook(pub(crate) String);

impl Hook {
    /// The address itself, to be called.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the people of an experiment are told of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StakeholdersGet {
    /// Their nodes, as with the Go service; and whatever ends soon, or waits for a person's consent.
    #[default]
    Relevant,
    /// Everything.
    All,
    /// Nothing.
    Nothing,
}

/// Hours of the day, by this host's clock; they may go across midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuietHours {
    /// The first minute of the day.
    pub from: u16,
    /// The first one that is not quiet any more.
    pub to: u16,
}

impl QuietHours {
    /// Whether this minute of the day is quiet.
    #[must_use]
    pub fn holds(self, minute: u16) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}
