//! One file per command.

pub(crate) mod audit;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod credd;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod list;
pub(crate) mod man;
pub(crate) mod notify;
pub(crate) mod old_names;
pub(crate) mod onboard;
pub(crate) mod revoke;
pub(crate) mod run;
pub(crate) mod silence;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod storer;
pub(crate) mod token;
pub(crate) mod uids;
