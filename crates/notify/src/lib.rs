//! Who is told of what fails.
//!
//! [`plan()`] is a pure function from a run's report, what is remembered, and the clock to one [`Digest`] for each
//! outlet: the mail to operators, the mail to each experiment's people, Slack, a web hook. Nobody hears of a failure before
//! it has lasted ([`config::Notifications::threshold`]), of the same one twice a day, or of anything that can wait at night;
//! everybody hears at once of what is about to end, and of the end of what they were told of.
//!
//! [`deliver`] sends them, all outlets at once and within one deadline. What was delivered is to be remembered
//! ([`Delivered::changes`]); what was not is told by the next run. Nothing here can fail a run.
//!
//! The texts are templates ([`Templates`]), which a site may replace: docs/notifications.md.

mod digest;
mod mail;
mod plan;
mod send;
mod subject;
mod templates;
mod words;

pub use digest::{Digest, Outlet, Problem, Recovered, Why};
pub use mail::MailError;
pub use plan::{Change, Facts, Planned, plan};
pub use send::{Delivered, Means, Untold, deliver, test_message};
pub use subject::{Item, Kind, Severity, Subject};
pub use templates::{BUILT_IN, TemplateError, Templates};
