//! Asking one collector (cedar.md 6.1).

use std::{collections::VecDeque, fmt};

use cedar::{
    classad::Ad,
    commands::collector::{Answer, Limits, Query},
    security::Wish,
    sinful::{BadAddress, Sinful},
    wire::Mode,
};

use crate::{
    Error, Kind, Options, Stage,
    address::Peer,
    conversation::{Conversation, Plan},
    deadline::Deadline,
    framed::Framed,
};

/// Where collectors listen.
const COLLECTOR_PORT: u16 = 9618;

/// A collector: an entry of `COLLECTOR_HOST`.
#[derive(Debug, Clone)]
pub struct Collector {
    peer: Peer,
}

impl Collector {
    /// From `host[:port][?sock=id]` or a sinful string; the default port is 9618.
    ///
    /// # Errors
    /// [`BadAddress`].
    pub fn new(entry: &str) -> Result<Self, BadAddress> {
        let sinful = Sinful::from_entry(entry, COLLECTOR_PORT)?;
        Ok(Self {
            peer: Peer::new(format!("collector {}", entry.trim()), sinful, None),
        })
    }

    /// Asks, and hands out the ads while they arrive, so that a pool-wide answer need not be held whole. All of it
    /// must have arrived within [`Options::total`], and no pause may be longer than [`Options::step`].
    ///
    /// # Errors
    /// [`Error`]; [`Kind::ConstraintRejected`] for what the collector cannot parse comes from [`Ads::next`].
    ///
    /// # Cancel safety
    /// Cancel safe: the connection is dropped.
    pub async fn stream(&self, query: &Query, limits: Limits, options: &Options) -> Result<Ads, Error> {
        self.stream_within(query, limits, options, Deadline::after(options.total))
            .await
    }

    /// The same, the whole answer at once, within [`Limits::DEFAULT`].
    ///
    /// # Errors
    /// As [`Collector::stream`] and [`Ads::next`].
    ///
    /// # Cancel safety
    /// Cancel safe: the connection is dropped.
    pub async fn query(&self, query: &Query, options: &Options) -> Result<Vec<Ad>, Error> {
        self.query_within(query, options, Deadline::after(options.total))
            .await
    }

    pub(crate) async fn query_within(
        &self,
        query: &Query,
        options: &Options,
        deadline: Deadline,
    ) -> Result<Vec<Ad>, Error> {
        let mut stream = self
            .stream_within(query, Limits::DEFAULT, options, deadline)
            .await?;
        let mut ads = Vec::new();
        while let Some(ad) = stream.next().await? {
            ads.push(ad);
        }
        tracing::debug!(peer = %self.peer, kind = ?query.kind, ads = ads.len(), "collector answered");
        Ok(ads)
    }

    async fn stream_within(
        &self,
        query: &Query,
        limits: Limits,
        options: &Options,
        deadline: Deadline,
    ) -> Result<Ads, Error> {
        let wished = |wish| self.stream_as(query, limits, options, deadline, wish);
        match wished(Wish::READING).await {
            // the pool prefers what we cannot do; maybe it does without
            Err(error) if is_about_security(&error) => wished(Wish::ANONYMOUS).await.map_err(|_| error),
            outcome => outcome,
        }
    }

    async fn stream_as(
        &self,
        query: &Query,
        limits: Limits,
        options: &Options,
        deadline: Deadline,
        wish: Wish,
    ) -> Result<Ads, Error> {
        let plan = Plan {
            peer: &self.peer,
            options,
            deadline,
            command: query.kind.command(),
            wish,
            identity: options.reader.as_ref(),
            at_once: false,
        };
        let Conversation {
            mut framed,
            established,
        } = plan.open(None).await?;
        let mode = if established.is_encrypted() {
            Mode::Sealed
        } else {
            Mode::Plain
        };
        let message = query
            .encode(mode)
            .map_err(|error| Error::new(&self.peer, Stage::Commanding, error))?;
        let stretch = deadline.stage(options.step);
        plan.send(&mut framed, &message, stretch).await?;
        Ok(Ads {
            peer: self.peer.clone(),
            user: established.user().to_string(),
            framed,
            answer: Answer::within(limits, mode),
            ready: VecDeque::new(),
            taken: 0,
            constraint: query.constraint.clone(),
            deadline,
            pause: options.step,
        })
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.fmt(f)
    }
}

/// An answer while it arrives.
pub struct Ads {
    peer: Peer,
    user: String,
    framed: Framed,
    answer: Answer,
    ready: VecDeque<Ad>,
    taken: usize,
    constraint: Option<String>,
    deadline: Deadline,
    pause: std::time::Duration,
}

impl Ads {
    /// Whom the collector takes us for, `name@domain`; `unauthenticated@unmapped` is nobody in particular.
    #[must_use]
    pub fn mapped_user(&self) -> &str {
        &self.user
    }

    /// The next ad; `None` at the end of a complete answer.
    ///
    /// # Errors
    /// [`Error`], after which nothing more comes: time-outs, [`Kind::ConstraintRejected`], more than the limits allow.
    ///
    /// # Cancel safety
    /// Cancel safe: an ad that was not handed out is handed out by the next call.
    pub async fn next(&mut self) -> Result<Option<Ad>, Error> {
        loop {
            if let Some(ad) = self.ready.pop_front() {
                self.taken += 1;
                return Ok(Some(ad));
            }
            if self.answer.is_complete() {
                return Ok(None);
            }
            let read = self.deadline.stage(self.pause).run(self.framed.chunk()).await;
            let chunk = match read {
                Ok(Ok(chunk)) => chunk,
                Ok(Err(broken)) => return Err(self.failed(self.ended(Kind::from(broken)))),
                Err(elapsed) => return Err(self.failed(elapsed.into())),
            };
            let ads = self
                .answer
                .receive(&chunk)
                .map_err(|error| self.failed(error.into()))?;
            self.ready.extend(ads);
        }
    }

    /// A collector that cannot read an expression says nothing, it just closes.
    fn ended(&self, kind: Kind) -> Kind {
        match (kind, &self.constraint) {
            (Kind::Closed, Some(constraint)) if self.taken == 0 => Kind::ConstraintRejected {
                constraint: constraint.clone(),
            },
            (kind, _) => kind,
        }
    }

    fn failed(&self, kind: Kind) -> Error {
        Error::new(&self.peer, Stage::Commanding, kind)
    }
}

impl fmt::Debug for Ads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ads")
            .field("peer", &self.peer)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

fn is_about_security(error: &Error) -> bool {
    use cedar::Error::{MethodsFailed, NoCommonMethod, NotEncrypted};
    matches!(
        error.kind,
        Kind::Cedar(NoCommonMethod { .. } | NotEncrypted { .. } | MethodsFailed(_))
    )
}
