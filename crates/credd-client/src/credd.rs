//! One credd, as one identity: store, query, delete (cedar.md 6.3, 6.4).

mod exchange;
mod more;

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cedar::{
    Malformed,
    commands::store_cred::{self, CredName, Refresh, Restriction, ResultCode, Target, Terms},
    security::Authenticated,
};
use credential::SecretBytes;
use credential::act::{Act, Verb, digest, tell};
use jiff::Timestamp;

use self::exchange::{Answered, Command};
pub use self::more::{Entry, Wanted};
use crate::{
    CreddAddress, Error, Identity, Kind, Options, Stage, address::Peer, deadline::Deadline, session::Kept,
};

/// Longer than the second a file's time is counted in.
const NEXT_SECOND: Duration = Duration::from_millis(1100);

/// A credd that waits for its credmon answers after 20 s at the latest.
const CREDMON: Duration = Duration::from_secs(25);

/// What a credd holds of one credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Held {
    /// When it was stored, by the credd's clock; `None` if it is not there.
    pub top: Option<Timestamp>,
    /// When the credmon last made an access token of it.
    pub used: Option<Timestamp>,
    /// Whether the credd cannot read what is stored: store it again.
    pub damaged: bool,
    /// Whether it has other scopes or another audience than was asked for. A question without either is answered so
    /// for every credential that has one.
    pub other_restriction: bool,
}

impl Held {
    /// The time of the file that a store on such terms writes.
    fn of(&self, refresh: Refresh) -> Option<Timestamp> {
        match refresh {
            Refresh::ByCredmon => self.top,
            Refresh::AsGiven => self.used,
        }
    }
}

/// A store that was carried out and seen.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// The new file's time, by the credd's clock.
    pub top: Timestamp,
    /// What the credd answered: after a store that waited for the credmon ([`Terms::wait`]) [`ResultCode::CredmonTimeout`] if
    /// that did not react within the credd's `CREDD_POLLING_TIMEOUT` (20 s). The credential is stored nevertheless.
    pub code: ResultCode,
    /// When the credmon last made an access token of it, perhaps of one that was there before.
    pub used: Option<Timestamp>,
    /// Whom it was stored for, `name@domain`.
    pub user: String,
    /// Whether the credd itself named us in its answer (23.10.1 and later); before that the session's word counts.
    pub confirmed: bool,
}

/// One credd, spoken to as one identity. It keeps its own session, so that one authentication serves many commands;
/// the session is never used for anybody else.
#[derive(Debug)]
pub struct Credd {
    address: CreddAddress,
    peer: Peer,
    identity: Identity,
    options: Options,
    acts_for: BTreeSet<String>,
    known: Mutex<Known>,
    handshakes: AtomicU64,
    resumptions: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    session: Kept,
    user: Option<String>,
    version: Option<String>,
}

impl Credd {
    /// A credd at `address`, as `identity`, for its own user alone. Nothing is sent yet.
    #[must_use]
    pub fn new(address: CreddAddress, identity: Identity, options: Options) -> Self {
        let peer = Peer::new(
            address.to_string(),
            address.sinful.clone(),
            address.machine.as_deref(),
        );
        Self {
            address,
            peer,
            identity,
            options,
            acts_for: BTreeSet::new(),
            known: Mutex::default(),
            handshakes: AtomicU64::new(0),
            resumptions: AtomicU64::new(0),
        }
    }

    /// The same, for these users as well: the identity is one of the credd's `CRED_SUPER_USERS`. Each call still names
    /// the user it is for, and the credd must know us as the identity's own user, before and after.
    #[must_use]
    pub fn acting_for(mut self, users: impl IntoIterator<Item = String>) -> Self {
        self.acts_for.extend(users);
        self
    }

    /// Which credd this is.
    #[must_use]
    pub fn address(&self) -> &CreddAddress {
        &self.address
    }

    /// Whom the credd takes us for, `name@domain`, once it has said so.
    #[must_use]
    pub fn mapped_user(&self) -> Option<String> {
        self.with_known(|known| known.user.clone())
    }

    /// Its version text, once it has said so.
    #[must_use]
    pub fn server_version(&self) -> Option<String> {
        self.with_known(|known| known.version.clone())
    }

    /// How many times we authenticated.
    #[must_use]
    pub fn handshakes(&self) -> u64 {
        self.handshakes.load(Ordering::Relaxed)
    }

    /// How many connections got by with a session of before.
    #[must_use]
    pub fn resumptions(&self) -> u64 {
        self.resumptions.load(Ordering::Relaxed)
    }

    /// What the credd holds of `service` (and `handle`) for `user`. A credential that is not there is no error.
    ///
    /// # Errors
    /// [`Error`]: identity, network, or the credd's refusal.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is changed.
    pub async fn query(&self, user: &str, service: &str, handle: Option<&str>) -> Result<Held, Error> {
        self.query_restricted(user, service, handle, &Restriction::default())
            .await
    }

    /// The same, and whether it has exactly these scopes and this audience: [`Held::other_restriction`].
    ///
    /// # Errors
    /// As [`Credd::query`].
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is changed.
    pub async fn query_restricted(
        &self,
        user: &str,
        service: &str,
        handle: Option<&str>,
        restriction: &Restriction,
    ) -> Result<Held, Error> {
        let name = self.name(service, handle)?;
        let deadline = Deadline::after(self.options.total);
        self.look(user, &name, restriction, Stage::Commanding, deadline)
            .await
    }

    /// Stores `json` as `service` (and `handle`) for `user`, and sees that it is there.
    ///
    /// Before the credential is sent the credd must know us as the identity's user; afterwards it must still say
    /// so (23.10.1 and later), and must show a file newer than just before. Files are dated to the second, so a
    /// file replaced twice within one cannot be told from one that was not replaced: then the store is repeated
    /// once, a second later. No clock of ours is compared with the credd's.
    ///
    /// # Errors
    /// [`Error`]; [`Kind::Refused`] with the credd's code, [`Kind::NotVerified`] if it claims success and shows no
    /// newer file, [`Kind::NotRefreshed`] if it keeps it where no credmon looks. After an error of stage
    /// [`Stage::Verifying`] the credential may have been stored.
    ///
    /// # Cancel safety
    /// Dropped in the middle, the credential may or may not have been stored, but never in part.
    pub async fn store(
        &self,
        user: &str,
        service: &str,
        handle: Option<&str>,
        json: &SecretBytes,
    ) -> Result<Stored, Error> {
        self.store_on(user, service, handle, json, &Terms::default())
            .await
    }

    /// The same on other terms.
    ///
    /// # Errors
    /// As [`Credd::store`]; [`ResultCode::OtherScopes`] if the credd shows other scopes or another audience afterwards
    /// than the terms demand, [`ResultCode::NotJson`] if it spoiled the credential when it wrote them in (cedar.md 8).
    ///
    /// # Cancel safety
    /// As [`Credd::store`].
    pub async fn store_on(
        &self,
        user: &str,
        service: &str,
        handle: Option<&str>,
        json: &SecretBytes,
        terms: &Terms,
    ) -> Result<Stored, Error> {
        let name = self.name(service, handle)?;
        let stored = self.store_named(user, &name, json, terms).await;
        // the digest is all that leaves here
        let digest = digest(json.expose());
        self.tell(Verb::Store, user, &name.stem(), Some(digest), &stored);
        stored
    }

    async fn store_named(
        &self,
        user: &str,
        name: &CredName,
        json: &SecretBytes,
        terms: &Terms,
    ) -> Result<Stored, Error> {
        let deadline = Deadline::after(self.options.total);
        let restriction = &terms.restriction;
        let held = self
            .look(user, name, restriction, Stage::Commanding, deadline)
            .await?;
        let (mut newest, used_before) = (held.of(terms.refresh), held.used);
        let mut repeated = false;
        let patience = if terms.wait { CREDMON } else { Duration::ZERO };
        loop {
            let build =
                |proof: &Authenticated, target: &Target| store_cred::add_on(proof, target, name, json, terms);
            let command = Command::new(user, name, Stage::Commanding, &build).patience(patience);
            let Answered { reply, target } = self.exchange(&command, deadline).await?;
            if !reply.code.is_success() {
                return Err(self.refused(reply.code, &target, name, Stage::Commanding));
            }
            let held = self
                .look(user, name, restriction, Stage::Verifying, deadline)
                .await?;
            let top = held.of(terms.refresh);
            if let Some(top) = top.filter(|top| newest.is_none_or(|newest| *top > newest)) {
                // without a restriction the credd writes what it was given, which need be no JSON
                if held.damaged && *restriction != Restriction::default() {
                    return Err(self.refused(ResultCode::NotJson, &target, name, Stage::Verifying));
                }
                if held.other_restriction && *restriction != Restriction::default() {
                    return Err(self.refused(ResultCode::OtherScopes, &target, name, Stage::Verifying));
                }
                tracing::info!(credd = %self.peer, user = %target, credential = %name, "credential stored");
                return Ok(Stored {
                    top,
                    code: reply.code,
                    used: held.used,
                    user: target.to_string(),
                    confirmed: reply.user().is_some(),
                });
            }
            if terms.refresh == Refresh::ByCredmon && top.is_none() && held.used > used_before {
                let (target, name) = (target.to_string(), name.stem());
                return Err(self.failed(Stage::Verifying, Kind::NotRefreshed { target, name }));
            }
            if repeated || top.is_none() {
                let (target, before, after) = (target.to_string(), newest, top);
                let kind = Kind::NotVerified {
                    target,
                    name: name.stem(),
                    before,
                    after,
                };
                return Err(self.failed(Stage::Verifying, kind));
            }
            // an older time than before is a credd's clock set back: the next store must still move it
            (newest, repeated) = (top, true);
            let pause = deadline
                .stage(self.options.total)
                .run(tokio::time::sleep(NEXT_SECOND))
                .await;
            pause.map_err(|elapsed| self.failed(Stage::Verifying, elapsed))?;
        }
    }

    /// Deletes `service` (and `handle`) of `user`. Deleting what is not there is no error.
    ///
    /// # Errors
    /// [`Error`]; [`Kind::Refused`] with the credd's code.
    ///
    /// # Cancel safety
    /// Dropped in the middle, the credential may or may not have been deleted.
    pub async fn delete(&self, user: &str, service: &str, handle: Option<&str>) -> Result<(), Error> {
        let name = self.name(service, handle)?;
        let build = |proof: &Authenticated, target: &Target| store_cred::delete(proof, target, &name);
        let command = Command::new(user, &name, Stage::Commanding, &build);
        self.carry_out_deletion(user, name.stem(), &command).await
    }

    async fn carry_out_deletion(&self, user: &str, what: String, command: &Command<'_>) -> Result<(), Error> {
        let deadline = Deadline::after(self.options.total);
        let deleted = match self.exchange(command, deadline).await {
            Ok(Answered { reply, target }) => match reply.code {
                ResultCode::Success | ResultCode::NotFound => Ok(()),
                code => Err(self.refused_whole(code, &target, what.clone(), Stage::Commanding)),
            },
            Err(error) => Err(error),
        };
        self.tell(Verb::Delete, user, &what, None, &deleted);
        deleted
    }

    /// For whoever keeps an audit log. A failed store may have been one.
    fn tell<T>(&self, verb: Verb, user: &str, what: &str, digest: Option<String>, done: &Result<T, Error>) {
        let place = self.address.to_string();
        let act = Act::new(verb, &place).by(user).what(what);
        let act = match digest {
            Some(digest) => act.digest(digest),
            None => act,
        };
        tell(&match done {
            Ok(_) => act,
            Err(error) => act.failed(error),
        });
    }

    async fn look(
        &self,
        user: &str,
        name: &CredName,
        restriction: &Restriction,
        stage: Stage,
        deadline: Deadline,
    ) -> Result<Held, Error> {
        let build = |proof: &Authenticated, target: &Target| {
            store_cred::query_restricted(proof, target, name, restriction)
        };
        let command = Command::new(user, name, stage, &build).question();
        let Answered { reply, target } = self.exchange(&command, deadline).await?;
        match reply.code {
            ResultCode::NotFound => Ok(Held::default()),
            // 13: it has scopes of its own, which need not be this question's business
            ResultCode::Success
            | ResultCode::SuccessAt(_)
            | ResultCode::SuccessPending
            | ResultCode::OtherScopes
            | ResultCode::NotJson => Ok(Held {
                top: self.time(reply.top_time(name), stage)?,
                used: self.time(reply.use_time(name), stage)?,
                damaged: reply.code == ResultCode::NotJson,
                other_restriction: reply.code == ResultCode::OtherScopes,
            }),
            code => Err(self.refused(code, &target, name, stage)),
        }
    }

    fn time(&self, seconds: Option<i64>, stage: Stage) -> Result<Option<Timestamp>, Error> {
        let read = |s| {
            Timestamp::from_second(s).map_err(|_| Malformed::Unexpected {
                what: "a file's time",
                got: s,
            })
        };
        seconds
            .map(read)
            .transpose()
            .map_err(|error| self.failed(stage, error))
    }

    fn with_known<T>(&self, use_it: impl FnOnce(&mut Known) -> T) -> T {
        // nothing in there is left half changed by a panic
        use_it(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn name(&self, service: &str, handle: Option<&str>) -> Result<CredName, Error> {
        CredName::new(service, handle).map_err(|error| self.failed(Stage::Preparing, error))
    }

    fn refused(&self, code: ResultCode, target: &Target, name: &CredName, stage: Stage) -> Error {
        self.refused_whole(code, target, name.stem(), stage)
    }

    fn refused_whole(&self, code: ResultCode, target: &Target, name: String, stage: Stage) -> Error {
        let target = target.to_string();
        self.failed(stage, Kind::Refused { code, target, name })
    }

    fn failed(&self, stage: Stage, kind: impl Into<Kind>) -> Error {
        Error::new(&self.peer, stage, kind)
    }
}
