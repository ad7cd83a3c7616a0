//! The way of a token, from what is due to what happened.
//!
//! [`run()`] takes a checked [`config::Site`] and the [`state::State`], works on every edge at once and returns a
//! [`Report`]. [`plan`] decides what is due and is a pure function; the runner only asks it and obeys.
//! [`status()`] answers from what is remembered alone.
//!
//! Left to others: protocols (the client crates), reading the configuration, printing, exit codes.

mod access;
mod bystander;
mod doctor;
mod explain;
mod failure;
mod go;
mod ledger;
mod onboard;
pub mod plan;
mod report;
mod retry;
mod revoke;
mod robot;
mod run;
mod selection;
mod status;
mod stop;
mod uids;
mod words;

pub use access::{Robot as CondorRobot, principal as condor_principal};
pub use bystander::Bystander;
pub use doctor::{Check, Diagnosis, Health, Hop, doctor};
pub use explain::{Explained, Next, Try, explain};
pub use failure::{Failure, Stage};
pub use go::{TakenOver, take_over};
pub use ledger::{NoProgress, Progress};
pub use onboard::{Audience, Forecast, Invitation, Onboarded, onboard};
pub use report::{Edge, Outcome, Report, ServiceReport, Shared, Target, TraceId, Traffic};
pub use retry::Budget;
pub use revoke::{Ended, Operator, Revocation, Step, Taken, revoke};
pub use run::{CannotRun, Request, What, edge_id, run, service_key};
pub use selection::{NoService, Selection, Unmatched, known_credds, one_service};
pub use status::{Life, ServiceStatus, Silenced, Status, StatusEdge, WeakHostKeys, status};
pub use stop::{GRACE, Stop, Stopper, pair as stop_pair};
pub use uids::{UidAnswer, UidOutcome, refresh_uids, user_name};
pub use vault_client::Standing as VaultStanding;
pub use words::span;
