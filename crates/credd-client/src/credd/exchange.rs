//! A command's way to the credd and back: on which session, as whom, for whom.

use std::{fmt, sync::atomic::Ordering, time::Duration};

use cedar::{
    Malformed, Unsendable,
    commands::store_cred::{MAX_REPLY, Reply, STORE_CRED, Target},
    security::{Authenticated, Established, Session, Version, Wish},
    wire::{Incoming, Outgoing},
};
use tokio::time::Instant;

use super::Credd;
use crate::{
    Error, Kind, Stage,
    conversation::{Conversation, Plan},
    deadline::Deadline,
};

/// From this version on a credd names the user it took us for in its answers.
const NAMES_USER: Version = Version(23, 10, 1);

type Build<'a> = &'a (dyn Fn(&Authenticated, &Target) -> Result<Outgoing, Unsendable> + Sync);

/// What one command needs on every connection it may take.
pub(super) struct Command<'a> {
    /// Whose credentials it is about.
    user: &'a str,
    /// Which of them, for the log.
    label: &'a (dyn fmt::Display + Sync),
    /// What to call the stage if it fails.
    stage: Stage,
    build: Build<'a>,
    /// The time the credd needs at least.
    patience: Duration,
    /// The longest answer taken.
    limit: usize,
    /// It changes nothing, and may be played to the credd again by whoever heard it.
    harmless: bool,
}

impl<'a> Command<'a> {
    pub(super) fn new(
        user: &'a str,
        label: &'a (dyn fmt::Display + Sync),
        stage: Stage,
        build: Build<'a>,
    ) -> Self {
        Self {
            user,
            label,
            stage,
            build,
            patience: Duration::ZERO,
            limit: MAX_REPLY,
            harmless: false,
        }
    }

    /// A question: on a session of before it is sent without waiting for the credd's word on the session.
    pub(super) fn question(mut self) -> Self {
        self.harmless = true;
        self
    }

    pub(super) fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub(super) fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

/// A message, and what was known when it came.
pub(super) struct Heard {
    pub(super) message: Incoming,
    proof: Authenticated,
    target: Target,
    version: Option<String>,
}

/// A reply to a STORE_CRED, and whom it was about.
pub(super) struct Answered {
    pub(super) reply: Reply,
    pub(super) target: Target,
}

impl Credd {
    /// One STORE_CRED, and the user in its answer checked.
    pub(super) async fn exchange(
        &self,
        command: &Command<'_>,
        deadline: Deadline,
    ) -> Result<Answered, Error> {
        let heard = self.converse(STORE_CRED, command, deadline).await?;
        let failed = |kind| self.failed(command.stage, kind);
        let reply = Reply::decode(&heard.message).map_err(|error| failed(error.into()))?;
        self.check_user(&reply, &heard.proof, heard.version.as_deref())
            .map_err(failed)?;
        let (credd, target) = (&self.peer, heard.target);
        tracing::debug!(%credd, user = %target, credential = %command.label, code = %reply.code, "credd answered");
        Ok(Answered { reply, target })
    }

    /// One command: on the session of before if there is one and the credd still knows it, else on a new one.
    pub(super) async fn converse(
        &self,
        number: u32,
        command: &Command<'_>,
        deadline: Deadline,
    ) -> Result<Heard, Error> {
        if command.user != self.identity.user && !self.acts_for.contains(command.user) {
            let kind = Kind::NotActingFor {
                identity: self.identity.user.clone(),
                user: command.user.to_owned(),
            };
            return Err(self.failed(Stage::Preparing, kind));
        }
        if let Some(session) = self.with_known(|known| known.session.usable(Instant::now())) {
            match Box::pin(self.attempt(number, command, Some(session), deadline)).await {
                Err(error) if is_stale(&error) => {
                    tracing::debug!(credd = %self.peer, "session is stale, authenticating anew");
                    self.with_known(|known| known.session.forget());
                }
                outcome => return outcome,
            }
        }
        // on the heap: with a handshake and its buffers inside, callers' futures would outgrow small stacks
        Box::pin(self.attempt(number, command, None, deadline)).await
    }

    async fn attempt(
        &self,
        number: u32,
        command: &Command<'_>,
        session: Option<Session>,
        deadline: Deadline,
    ) -> Result<Heard, Error> {
        let plan = Plan {
            peer: &self.peer,
            options: &self.options,
            deadline,
            command: number,
            wish: Wish::CREDENTIAL,
            identity: Some(&self.identity),
            at_once: command.harmless,
        };
        let resumed = session.is_some();
        let begun = Instant::now();
        let Conversation {
            mut framed,
            established,
        } = plan.open(session).await?;
        let unanswered = resumed && command.harmless;
        if !unanswered {
            self.remember(&established, resumed, begun);
        }
        // from here on the wire is sealed and the credd takes us for whom it must
        let proof = established
            .authenticated_as(&self.identity.user)
            .map_err(|error| self.failed(Stage::Authenticating, error))?;
        let target =
            Target::new(command.user, &proof).map_err(|error| self.failed(Stage::Preparing, error))?;
        let message =
            (command.build)(&proof, &target).map_err(|error| self.failed(Stage::Preparing, error))?;
        let stretch = deadline.stage(self.options.step.max(command.patience));
        let sent = plan.send(&mut framed, &message, stretch).await;
        let answer = match sent {
            Ok(()) => plan.receive(&mut framed, command.limit, stretch).await,
            Err(error) => Err(error),
        };
        let message = answer.map_err(|error| Error {
            stage: command.stage,
            ..error
        })?;
        if unanswered {
            self.remember(&established, resumed, begun);
        }
        Ok(Heard {
            message,
            proof,
            target,
            version: established.version().map(str::to_owned),
        })
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

    fn remember(&self, established: &Established, resumed: bool, begun: Instant) {
        let counter = if resumed {
            &self.resumptions
        } else {
            &self.handshakes
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.with_known(|known| {
            known.user = Some(established.user().to_string());
            known.version = established.version().map(str::to_owned).or(known.version.take());
            if resumed {
                known.session.resumed(begun);
            } else {
                known.session.keep(established.session(), begun);
            }
        });
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
