//! Negotiating a session: policy, key agreement, the sealed record, what is remembered for a resumption
//! (cedar.md 4).

mod key;
mod policy;
mod record;
mod session;

pub use key::{KeyPair, SessionKey};
pub use policy::{Level, Policy, Wish};
pub use session::{Authenticated, Established, Session, User, Version};

pub(crate) use policy::{base_request, policy_request};
pub(crate) use record::Record;
pub(crate) use session::Known;

/// The version we claim: the behaviour of HTCondor from 23.10 on is what this crate implements.
pub(crate) const CLAIMED_VERSION: &str = "$CondorVersion: 25.4.0 2025-11-01 $";

/// Begins every conversation.
pub(crate) const DC_AUTHENTICATE: i64 = 60010;
