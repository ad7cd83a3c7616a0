//! One credd, as one identity: store, query, delete (cedar.md 6.3, 6.4).

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cedar::{
    Malformed, Unsendable,
    commands::store_cred::{self, CredName, MAX_REPLY, Reply, ResultCode, STORE_CRED, Target},
    security::{Authenticated, Established, Session, Version, Wish},
    wire::Outgoing,
};
use credential::SecretBytes;
use jiff::Timestamp;

use crate::{
    CreddAddress, Error, Identity, Kind, Options, Stage,
    address::Peer,
    conversation::{Conversation, Plan},
    deadline::Deadline,
};

/// From this version on a credd names the user it took us for in its answers.
const NAMES_USER: Version = Version(23, 10, 1);

/// Longer than the second a file's time is counted in.
const NEXT_SECOND: Duration = Duration::from_millis(1100);

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
}

/// A store that was carried out and seen.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// The new file's time, by the credd's clock.
    pub top: Timestamp,
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
    known: Mutex<Known>,
    handshakes: AtomicU64,
    resumptions: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    session: Option<Session>,
    user: Option<String>,
    version: Option<String>,
}

/// What one command needs on every connection it may take.
struct Command<'a> {
    user: &'a str,
    name: &'a CredName,
    stage: Stage,
    build: &'a (dyn Fn(&Authenticated, &Target) -> Result<Outgoing, Unsendable> + Sync),
}

/// A reply, and what was known when it came.
struct Answered {
    reply: Reply,
    target: Target,
}

impl Credd {
    /// A credd at `address`, as `identity`. Nothing is sent yet.
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
            known: Mutex::default(),
            handshakes: AtomicU64::new(0),
            resumptions: AtomicU64::new(0),
        }
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
        let name = self.name(service, handle)?;
        self.look(
            user,
            &name,
            Stage::Commanding,
            Deadline::after(self.options.total),
        )
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
    /// newer file. After an error of stage [`Stage::Verifying`] the credential may have been stored.
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
        let name = self.name(service, handle)?;
        let deadline = Deadline::after(self.options.total);
        let mut newest = self.look(user, &name, Stage::Commanding, deadline).await?.top;
        let mut repeated = false;
        loop {
            let build = |proof: &Authenticated, target: &Target| store_cred::add(proof, target, &name, json);
            let command = Command {
                user,
                name: &name,
                stage: Stage::Commanding,
                build: &build,
            };
            let Answered { reply, target } = self.exchange(&command, deadline).await?;
            if !reply.code.is_success() {
                return Err(self.refused(reply.code, &target, &name, Stage::Commanding));
            }
            let top = self.look(user, &name, Stage::Verifying, deadline).await?.top;
            if let Some(top) = top.filter(|top| newest.is_none_or(|newest| *top > newest)) {
                tracing::info!(credd = %self.peer, user = %target, credential = %name, "credential stored");
                return Ok(Stored {
                    top,
                    user: target.to_string(),
                    confirmed: reply.user().is_some(),
                });
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
        let command = Command {
            user,
            name: &name,
            stage: Stage::Commanding,
            build: &build,
        };
        let Answered { reply, target } = self
            .exchange(&command, Deadline::after(self.options.total))
            .await?;
        match reply.code {
            ResultCode::Success | ResultCode::NotFound => Ok(()),
            code => Err(self.refused(code, &target, &name, Stage::Commanding)),
        }
    }

    async fn look(
        &self,
        user: &str,
        name: &CredName,
        stage: Stage,
        deadline: Deadline,
    ) -> Result<Held, Error> {
        let build = |proof: &Authenticated, target: &Target| store_cred::query(proof, target, name);
        let Answered { reply, target } = self
            .exchange(
                &Command {
                    user,
                    name,
                    stage,
                    build: &build,
                },
                deadline,
            )
            .await?;
        match reply.code {
            ResultCode::NotFound => Ok(Held::default()),
            // 13: it has scopes of its own, which are none of this question's
            ResultCode::Success
            | ResultCode::SuccessAt(_)
            | ResultCode::SuccessPending
            | ResultCode::OtherScopes
            | ResultCode::NotJson => Ok(Held {
                top: self.time(reply.top_time(name), stage)?,
                used: self.time(reply.use_time(name), stage)?,
                damaged: reply.code == ResultCode::NotJson,
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

    /// One command: on the session of before if there is one and the credd still knows it, else on a new one.
    async fn exchange(&self, command: &Command<'_>, deadline: Deadline) -> Result<Answered, Error> {
        if let Some(session) = self.with_known(|known| known.session.clone()) {
            match self.attempt(command, Some(session), deadline).await {
                Err(error) if is_stale(&error) => {
                    tracing::debug!(credd = %self.peer, "session is stale, authenticating anew");
                    self.with_known(|known| known.session = None);
                }
                outcome => return outcome,
            }
        }
        self.attempt(command, None, deadline).await
    }

    async fn attempt(
        &self,
        command: &Command<'_>,
        session: Option<Session>,
        deadline: Deadline,
    ) -> Result<Answered, Error> {
        let plan = Plan {
            peer: &self.peer,
            options: &self.options,
            deadline,
            command: STORE_CRED,
            wish: Wish::CREDENTIAL,
            identity: Some(&self.identity),
        };
        let resumed = session.is_some();
        let Conversation {
            mut framed,
            established,
        } = plan.open(session).await?;
        self.remember(&established, resumed);
        // from here on the wire is sealed and the credd takes us for whom it must
        let proof = established
            .authenticated_as(&self.identity.user)
            .map_err(|error| self.failed(Stage::Authenticating, error))?;
        let target =
            Target::new(command.user, &proof).map_err(|error| self.failed(Stage::Preparing, error))?;
        let message =
            (command.build)(&proof, &target).map_err(|error| self.failed(Stage::Preparing, error))?;
        let stretch = deadline.stage(self.options.step);
        let sent = plan.send(&mut framed, &message, stretch).await;
        let answer = match sent {
            Ok(()) => plan.receive(&mut framed, MAX_REPLY, stretch).await,
            Err(error) => Err(error),
        };
        let answer = answer.map_err(|error| Error {
            stage: command.stage,
            ..error
        })?;
        let reply = Reply::decode(&answer).map_err(|error| self.failed(command.stage, error))?;
        self.check_user(&reply, &proof, established.version())
            .map_err(|kind| self.failed(command.stage, kind))?;
        tracing::debug!(credd = %self.peer, user = %target, credential = %command.name, code = %reply.code, resumed, "credd answered");
        Ok(Answered { reply, target })
    }

    /// The credd must still say who we are, if it is of an age to say so.
    fn check_user(&self, reply: &Reply, proof: &Authenticated, version: Option<&str>) -> Result<(), Kind> {
        let before = proof.user().to_string();
        let must = reply.code.is_success()
            && version
                .and_then(Version::parse)
                .is_some_and(|version| version >= NAMES_USER);
        match reply.user() {
            Some(after) if after == before => Ok(()),
            None if !must => Ok(()),
            after => Err(Kind::OtherUser {
                before,
                after: after.map(str::to_owned),
            }),
        }
    }

    fn remember(&self, established: &Established, resumed: bool) {
        let counter = if resumed {
            &self.resumptions
        } else {
            &self.handshakes
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.with_known(|known| {
            known.user = Some(established.user().to_string());
            known.version = established.version().map(str::to_owned).or(known.version.take());
            if !resumed {
                known.session = established.session();
            }
        });
    }

    fn with_known<T>(&self, use_it: impl FnOnce(&mut Known) -> T) -> T {
        // nothing in there is left half changed by a panic
        use_it(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn name(&self, service: &str, handle: Option<&str>) -> Result<CredName, Error> {
        CredName::new(service, handle).map_err(|error| self.failed(Stage::Preparing, error))
    }

    fn refused(&self, code: ResultCode, target: &Target, name: &CredName, stage: Stage) -> Error {
        self.failed(
            stage,
            Kind::Refused {
                code,
                target: target.to_string(),
                name: name.stem(),
            },
        )
    }

    fn failed(&self, stage: Stage, kind: impl Into<Kind>) -> Error {
        Error::new(&self.peer, stage, kind)
    }
}

/// Whether a resumed conversation failed in one of the ways that mean "authenticate anew": the id forgotten, the
/// connection closed behind the answer, or another key (cedar.md 4.5). All our commands may be sent twice.
fn is_stale(error: &Error) -> bool {
    match &error.kind {
        Kind::Cedar(cedar::Error::SessionUnknown | cedar::Error::Malformed(Malformed::Seal)) => true,
        Kind::Closed | Kind::Broken(_) => error.stage != Stage::Connecting,
        _ => false,
    }
}
