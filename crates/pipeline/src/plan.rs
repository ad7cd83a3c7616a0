//! What is due: a pure function of what is configured, what is known and what time it is.
//!
//! Nothing here talks to anybody. The runner asks twice: before it has asked the peers ([`store_due`] with
//! [`AtPeer::NotAsked`]) and after (with what the credd said). [`plan()`] puts the same questions for the whole site.
//!
//! A record from the future is not believed: it was written while the clock was ahead, and so was what it says of the
//! end. It is due once, and right from then on.

mod outputs;
#[cfg(test)]
mod outputs_tests;
mod site;

#[cfg(test)]
mod properties;

use credential::Lifetime;
use jiff::{SignedDuration, Timestamp};

pub use outputs::HeldOutput;
pub(crate) use outputs::{asked, places};
pub use site::{Due, Held, Memory, one, plan};
pub(crate) use site::{discovers, first_end, stores};

/// How far ahead of now a record may be before the clock is held to have gone back: what Kerberos allows clocks to
/// differ by.
pub const CLOCK_STEP: SignedDuration = SignedDuration::from_mins(5);

/// The lifetimes that decide when something is due (design.md section 3).
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// A credd's token is renewed when less than this is left.
    pub renew_before: SignedDuration,
    /// A node's token is renewed when less than this is left.
    pub node_minimum: SignedDuration,
    /// Whether each credd of a service has a login of its own (`mtk.vault.tokenPerCredd`).
    pub token_per_credd: bool,
}

impl Policy {
    /// As configured for a service.
    #[must_use]
    pub fn of(site: &config::Site, service: &config::Service) -> Self {
        let signed = |d| SignedDuration::try_from(d).unwrap_or(SignedDuration::MAX);
        Self {
            renew_before: signed(site.renew_before),
            node_minimum: signed(service.min_token_lifetime),
            token_per_credd: site.vault.token_per_credd,
        }
    }
}

/// What the state says of a credential at a credd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredThere {
    /// When it was stored, by our own clock.
    pub stored_at: Timestamp,
    /// When the token in it ends, by our own clock.
    pub expires: Timestamp,
    /// The time of the file as the credd told it after our store.
    pub file_time: Option<Timestamp>,
}

impl From<&state::Store> for StoredThere {
    fn from(store: &state::Store) -> Self {
        Self {
            stored_at: store.stored_at,
            expires: store.expires,
            file_time: store.top_time,
        }
    }
}

/// What the state says of a file on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The accessor of the token in it; empty for files that hold none.
    pub accessor: String,
    /// The keyed digest of its content.
    pub digest: String,
}

impl From<&state::Push> for Pushed {
    fn from(push: &state::Push) -> Self {
        Self {
            accessor: push.accessor.clone(),
            digest: push.digest.clone(),
        }
    }
}

/// What a credd says it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtPeer {
    /// It was not asked.
    NotAsked,
    /// It holds nothing of that name.
    Nothing,
    /// It holds a file of this time.
    File(Timestamp),
}

/// Why something is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// We have no record of ever having stored it.
    NeverStored,
    /// There is no node token, or its file is gone.
    NoNodeToken,
    /// There is no bearer token of this kind, or its file is gone.
    NoBearer,
    /// Too little life is left.
    Expiring {
        /// What is left; negative once it is over.
        left: SignedDuration,
    },
    /// The peer no longer has what we stored.
    Lost,
    /// The peer holds something we did not put there.
    Replaced {
        /// The time of the file there.
        since: Timestamp,
    },
    /// The clock was ahead when this was recorded, and so is the end it was given.
    ClockWentBack {
        /// The time it was recorded with.
        recorded: Timestamp,
    },
    /// The service logs in for something else, and this is given the newer token.
    NewToken,
    /// It holds a bearer token that is read anew.
    NewBearer,
    /// We have no record of ever having placed it.
    NeverPushed,
    /// What was placed last is not what should be there.
    OtherContent,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NeverStored => f.write_str("never stored"),
            Self::NoNodeToken => f.write_str("no node token yet"),
            Self::NoBearer => f.write_str("no bearer token yet"),
            Self::Expiring { left } if left.is_negative() => f.write_str("expired"),
            Self::Expiring { left } => write!(f, "expires in {}", crate::words::span(*left)),
            Self::Lost => f.write_str("lost there"),
            Self::Replaced { since } => write!(f, "replaced there by someone else at {since}"),
            Self::ClockWentBack { recorded } => {
                write!(f, "recorded at {recorded}, while the clock was ahead")
            }
            Self::NewToken => f.write_str("the service gets a new token"),
            Self::NewBearer => f.write_str("a new bearer token"),
            Self::NeverPushed => f.write_str("never pushed"),
            Self::OtherContent => f.write_str("something else was pushed last"),
        }
    }
}

/// Whether a credential at a credd has to be stored, and why.
#[must_use]
pub fn store_due(
    known: Option<&StoredThere>,
    there: AtPeer,
    policy: &Policy,
    now: Timestamp,
) -> Option<Reason> {
    let Some(known) = known else {
        return Some(Reason::NeverStored);
    };
    match there {
        AtPeer::Nothing => return Some(Reason::Lost),
        AtPeer::File(time) if known.file_time.is_some_and(|ours| ours != time) => {
            return Some(Reason::Replaced { since: time });
        }
        AtPeer::NotAsked | AtPeer::File(_) => {}
    }
    expiring(known.stored_at, known.expires, policy.renew_before, now)
}

/// Whether the node token has to be made anew, and why. `held` is when the one in hand was made and when it ends.
#[must_use]
pub fn node_token_due(
    held: Option<(Timestamp, Timestamp)>,
    policy: &Policy,
    now: Timestamp,
) -> Option<Reason> {
    match held {
        None => Some(Reason::NoNodeToken),
        Some((issued, at)) => expiring(issued, at, policy.node_minimum, now),
    }
}

/// Whether a file has to be placed, by what is remembered of it. What lies there is for the node to say.
#[must_use]
pub fn push_due(known: Option<&Pushed>, accessor: &str, digest: &str) -> Option<Reason> {
    match known {
        None => Some(Reason::NeverPushed),
        Some(known) if known.accessor != accessor || known.digest != digest => Some(Reason::OtherContent),
        Some(_) => None,
    }
}

/// Whether a bearer token of an output has to be read anew, and why. One that never had as much life as is wanted is
/// renewed when half of it is over: its issuer has none that live longer.
#[must_use]
pub fn bearer_due(kept: Option<Lifetime>, minimum: SignedDuration, now: Timestamp) -> Option<Reason> {
    let Some(kept) = kept else {
        return Some(Reason::NoBearer);
    };
    let granted = kept.granted();
    let minimum = if granted >= minimum { minimum } else { granted / 2 };
    expiring(
        kept.issued(),
        kept.until(),
        minimum.max(SignedDuration::from_secs(1)),
        now,
    )
}

fn expiring(recorded: Timestamp, at: Timestamp, minimum: SignedDuration, now: Timestamp) -> Option<Reason> {
    if recorded.duration_since(now) > CLOCK_STEP {
        return Some(Reason::ClockWentBack { recorded });
    }
    let left = at.duration_since(now);
    (left < minimum).then_some(Reason::Expiring { left })
}

/// Whether a login may be made now: it is of use only if somebody takes what it yields.
///
/// `credds_due` are the credds that answered and are due; a credd that did not answer costs no login.
#[must_use]
pub fn login_due<'a>(
    node_token: Option<&'a Reason>,
    credds_due: impl IntoIterator<Item = &'a Reason>,
) -> Option<&'a Reason> {
    node_token.or_else(|| credds_due.into_iter().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const POLICY: Policy = Policy {
        renew_before: SignedDuration::from_secs(14 * DAY),
        node_minimum: SignedDuration::from_secs(3 * DAY),
        token_per_credd: false,
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn stored(expires: i64) -> StoredThere {
        StoredThere {
            stored_at: at(0),
            expires: at(expires),
            file_time: Some(at(5)),
        }
    }

    #[test]
    fn a_fresh_credential_that_is_still_there_is_not_due() {
        assert_eq!(
            store_due(Some(&stored(28 * DAY)), AtPeer::File(at(5)), &POLICY, at(0)),
            None
        );
        assert_eq!(
            store_due(Some(&stored(28 * DAY)), AtPeer::NotAsked, &POLICY, at(0)),
            None
        );
    }

    #[test]
    fn due_exactly_below_the_minimum() {
        let due = |now| store_due(Some(&stored(28 * DAY)), AtPeer::NotAsked, &POLICY, at(now));
        assert_eq!(due(14 * DAY), None);
        assert_eq!(
            due(14 * DAY + 1),
            Some(Reason::Expiring {
                left: SignedDuration::from_secs(14 * DAY - 1)
            })
        );
    }

    #[test]
    fn what_is_lost_or_replaced_is_due_however_long_it_would_live() {
        let known = stored(28 * DAY);
        assert_eq!(
            store_due(Some(&known), AtPeer::Nothing, &POLICY, at(0)),
            Some(Reason::Lost)
        );
        assert_eq!(
            store_due(Some(&known), AtPeer::File(at(6)), &POLICY, at(0)),
            Some(Reason::Replaced { since: at(6) })
        );
    }

    #[test]
    fn what_was_never_stored_is_due_even_if_something_lies_there() {
        assert_eq!(
            store_due(None, AtPeer::File(at(1)), &POLICY, at(0)),
            Some(Reason::NeverStored)
        );
    }

    #[test]
    fn the_node_token_has_its_own_minimum() {
        assert_eq!(node_token_due(None, &POLICY, at(0)), Some(Reason::NoNodeToken));
        let due = |end| node_token_due(Some((at(0), at(end))), &POLICY, at(0));
        assert_eq!(due(3 * DAY), None);
        assert!(due(3 * DAY - 1).is_some());
    }

    #[test]
    fn what_was_recorded_while_the_clock_was_ahead_is_not_believed() {
        let ahead = StoredThere {
            stored_at: at(30 * DAY),
            ..stored(58 * DAY)
        };
        let recorded = ahead.stored_at;
        assert_eq!(
            store_due(Some(&ahead), AtPeer::File(at(5)), &POLICY, at(0)),
            Some(Reason::ClockWentBack { recorded })
        );
        let a_little = at(30 * DAY - 300);
        assert_eq!(store_due(Some(&ahead), AtPeer::NotAsked, &POLICY, a_little), None);
        let token = Some((at(30 * DAY), at(37 * DAY)));
        assert_eq!(
            node_token_due(token, &POLICY, at(0)),
            Some(Reason::ClockWentBack { recorded })
        );
    }

    #[test]
    fn a_bearer_token_is_due_below_its_minimum_or_half_a_life_that_is_shorter() {
        let due = |life, now| {
            let kept = Lifetime::between(at(0), at(life));
            bearer_due(Some(kept), SignedDuration::from_secs(4800), at(now)).is_some()
        };
        assert_eq!(
            bearer_due(None, SignedDuration::ZERO, at(0)),
            Some(Reason::NoBearer)
        );
        assert!(!due(10_800, 6000) && due(10_800, 6001));
        assert!(!due(1200, 600) && due(1200, 601), "tokens of 20 minutes");
        assert!(due(0, 0), "one that says of no end");
    }

    #[test]
    fn no_login_when_nobody_would_take_it() {
        assert_eq!(login_due(None, []), None);
        assert_eq!(login_due(None, [&Reason::Lost]), Some(&Reason::Lost));
    }
}
