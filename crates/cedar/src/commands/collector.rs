//! Asking a collector for ads (cedar.md 6.1).

use std::borrow::Cow;

use crate::{
    Malformed, Unsendable,
    classad::{self, Ad, Value},
    wire::{Chunk, Mode, Outgoing, Reader},
};

/// What kind of ad is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Schedds.
    Schedd,
    /// Credds, which advertise themselves with generic ads.
    Credd,
    /// Masters.
    Master,
    /// Collectors.
    Collector,
    /// Startds: execution slots. Large pools have some hundred thousand, so bound or project the query.
    Startd,
    /// Ads of every kind at once.
    Any,
    /// Daemons that advertise themselves with generic ads, by the `MyType` of those, in its exact case.
    Generic(String),
}

impl Kind {
    /// The command of such a query.
    #[must_use]
    pub fn command(&self) -> u32 {
        match self {
            Kind::Startd => 5,
            Kind::Schedd => 6,
            Kind::Master => 7,
            Kind::Collector => 20,
            Kind::Any => 48,
            Kind::Credd | Kind::Generic(_) => 74,
        }
    }

    /// In this exact case: collectors between 23.7 and 24.x compare it so.
    fn target_type(&self) -> &str {
        match self {
            Kind::Schedd => "Scheduler",
            Kind::Credd => "CredD",
            Kind::Master => "DaemonMaster",
            Kind::Collector => "Collector",
            Kind::Startd => "Machine",
            Kind::Any => "Any",
            Kind::Generic(kind) => kind,
        }
    }
}

/// A query.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Query {
    /// What is asked for.
    pub kind: Kind,
    /// A ClassAd expression, evaluated against one ad: `TARGET.x` matches nothing. `None` for all.
    pub constraint: Option<String>,
    /// The attributes wanted; empty for whole ads, which are large.
    pub projection: Vec<Cow<'static, str>>,
    /// Most ads wanted.
    pub limit: Option<u32>,
}

impl Query {
    /// A query for `attributes` of every ad of a kind.
    #[must_use]
    pub fn all(kind: Kind, attributes: &[&'static str]) -> Self {
        Self {
            kind,
            constraint: None,
            projection: attributes.iter().copied().map(Cow::Borrowed).collect(),
            limit: None,
        }
    }

    /// Only the ads for which `constraint` is true, or a number other than 0. Of text that is only blanks, and of
    /// `None`, nothing is asked.
    #[must_use]
    pub fn matching(mut self, constraint: Option<&str>) -> Self {
        let constraint = constraint.map(str::trim).filter(|text| !text.is_empty());
        self.constraint = constraint.map(str::to_owned);
        self
    }

    /// At most so many ads.
    #[must_use]
    pub fn at_most(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }

    /// A query for the one ad called `name`.
    ///
    /// # Errors
    /// [`Unsendable::Characters`] for a name that cannot stand in an expression.
    pub fn named(kind: Kind, name: &str, attributes: &[&'static str]) -> Result<Self, Unsendable> {
        let name = classad::in_expression("a daemon's name", name)?;
        let query = Self::all(kind, attributes).at_most(1);
        Ok(query.matching(Some(&format!("Name == {name}"))))
    }

    /// The query's message.
    ///
    /// # Errors
    /// [`Unsendable::Nul`]; [`Unsendable::Characters`] for an attribute that is none.
    pub fn encode(&self, mode: Mode) -> Result<Outgoing, Unsendable> {
        let mut ad = Ad::new();
        ad.set("MyType", "Query");
        ad.set("TargetType", self.kind.target_type());
        let all = Value::Boolean(true);
        let wanted = self
            .constraint
            .as_deref()
            .map(str::trim)
            .filter(|c| !c.is_empty());
        ad.set(
            "Requirements",
            wanted.map_or(all, |c| Value::Expression(c.to_owned())),
        );
        for name in &self.projection {
            // a blank or a comma would be two attributes to the collector
            classad::check_name("an attribute", name)?;
        }
        if !self.projection.is_empty() {
            ad.set("Projection", self.projection.join(" ").as_str());
        }
        if let Some(limit) = self.limit {
            ad.set("LimitResults", i64::from(limit));
        }
        ad.encode(Outgoing::new(mode))
    }
}

/// How much is taken from one answer, beyond which it is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Ads.
    pub ads: usize,
    /// Bytes on the wire, without framing; an attribute counts
    /// [`PER_EXPRESSION`](classad::Limits::PER_EXPRESSION) more, so that this bounds what keeping the ads takes.
    pub bytes: usize,
}

impl Limits {
    /// 20 000 ads, 64 MiB. The largest pools have some hundred schedds.
    pub const DEFAULT: Limits = Limits {
        ads: 20_000,
        bytes: 64 * 1024 * 1024,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Takes an answer apart while it arrives: one message of many frames, repeating 1 and an ad, ended by 0.
#[derive(Debug)]
pub struct Answer {
    mode: Mode,
    limits: Limits,
    buffer: Vec<u8>,
    /// How much must be there before another look is worth it: a peer that sends an ad byte by byte may not make
    /// us read its beginning over and over.
    look_at: usize,
    taken: usize,
    bytes: usize,
    ended: bool,
}

impl Answer {
    /// For an answer on a stream in `mode`, within [`Limits::DEFAULT`].
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self::within(Limits::DEFAULT, mode)
    }

    /// For an answer on a stream in `mode`. What is buffered stays below one ad (1 MiB) and one frame (1 MiB).
    #[must_use]
    pub fn within(limits: Limits, mode: Mode) -> Self {
        Self {
            mode,
            limits,
            buffer: Vec::new(),
            look_at: 0,
            taken: 0,
            bytes: 0,
            ended: false,
        }
    }

    /// Whether the whole answer has been read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.ended
    }

    /// Counts what an answer takes: bytes, and for every attribute what keeping it takes besides.
    fn count(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.bytes += bytes;
        if self.bytes > self.limits.bytes {
            let (got, limit) = (self.bytes as u64, self.limits.bytes as u64);
            return Err(Malformed::TooLong {
                what: "the collector's answer",
                got,
                limit,
            });
        }
        Ok(())
    }

    /// The ads that `chunk` completes.
    ///
    /// # Errors
    /// [`Malformed`], after which the connection is of no use.
    pub fn receive(&mut self, chunk: &Chunk) -> Result<Vec<Ad>, Malformed> {
        self.count(chunk.bytes.len())?;
        self.buffer.extend_from_slice(&chunk.bytes);
        let mut ads = Vec::new();
        if !chunk.last && self.buffer.len() < self.look_at {
            return Ok(ads);
        }
        let mut used = 0;
        while !self.ended {
            let mut reader = Reader::new(self.mode, self.buffer.get(used..).unwrap_or_default());
            let before = reader.remaining();
            let read = next(&mut reader);
            let step = before - reader.remaining();
            match read {
                Ok(Some(ad)) => {
                    self.count(ad.len() * classad::Limits::PER_EXPRESSION)?;
                    ads.push(ad);
                }
                Ok(None) => self.ended = true,
                Err(Malformed::Truncated { .. }) if !chunk.last => break,
                Err(error) => return Err(error),
            }
            used += step;
        }
        self.buffer.drain(..used);
        self.look_at = self.buffer.len().saturating_mul(2);
        self.taken += ads.len();
        if self.taken > self.limits.ads {
            let (got, limit) = (self.taken as u64, self.limits.ads as u64);
            return Err(Malformed::TooLong {
                what: "the number of ads",
                got,
                limit,
            });
        }
        if self.ended && !self.buffer.is_empty() {
            return Err(Malformed::LeftOver(self.buffer.len()));
        }
        Ok(ads)
    }
}

fn next(reader: &mut Reader<'_>) -> Result<Option<Ad>, Malformed> {
    match reader.int("the mark before an ad")? {
        0 => Ok(None),
        1 => Ad::decode(reader, classad::Limits::GENERAL).map(Some),
        got => Err(Malformed::Unexpected {
            what: "the mark before an ad",
            got,
        }),
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn answer(mode: Mode, n: i64) -> Vec<u8> {
        let mut message = Outgoing::new(mode);
        for i in 0..n {
            let mut ad = Ad::new();
            ad.set("Number", i);
            message = ad.encode(message.int(1)).unwrap();
        }
        message.int(0).bytes().to_vec()
    }

    fn chunk(bytes: &[u8], last: bool) -> Chunk {
        Chunk {
            bytes: Zeroizing::new(bytes.to_vec()),
            last,
        }
    }

    #[test]
    fn cut_anywhere_it_gives_the_same_ads() {
        for mode in [Mode::Plain, Mode::Sealed] {
            let bytes = answer(mode, 3);
            for cut in 1..bytes.len() {
                let mut answer = Answer::new(mode);
                let mut ads = answer.receive(&chunk(&bytes[..cut], false)).unwrap();
                ads.extend(answer.receive(&chunk(&bytes[cut..], true)).unwrap());
                let numbers: Vec<_> = ads.iter().map(|ad| ad.integer("number").unwrap()).collect();
                assert_eq!(numbers, [0, 1, 2]);
                assert!(answer.is_complete());
                assert!(
                    Answer::new(mode).receive(&chunk(&bytes[..cut], true)).is_err(),
                    "{cut}"
                );
            }
            let mut answer = Answer::new(mode);
            let one_by_one: usize = bytes
                .iter()
                .enumerate()
                .map(|(n, b)| answer.receive(&chunk(&[*b], n + 1 == bytes.len())).unwrap().len())
                .sum();
            assert_eq!(one_by_one, 3);
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        let mut left_over = answer(Mode::Plain, 1);
        left_over.push(0);
        for bytes in [&left_over[..], &[0, 0, 0, 0, 0, 0, 0, 2], &[0xff; 8]] {
            assert!(Answer::new(Mode::Plain).receive(&chunk(bytes, true)).is_err());
        }
    }

    #[test]
    fn a_query_always_has_requirements() {
        let query =
            |constraint: Option<&str>| Query::all(Kind::Schedd, &["Name", "Machine"]).matching(constraint);
        let decoded = |query: Query| {
            let message = query.encode(Mode::Plain).unwrap();
            Ad::decode(
                &mut Reader::new(Mode::Plain, message.bytes()),
                classad::Limits::GENERAL,
            )
            .unwrap()
        };
        assert_eq!(decoded(query(None)).boolean("requirements"), Some(true));
        assert_eq!(decoded(query(Some(" "))).boolean("requirements"), Some(true));
        let ad = decoded(query(Some("regexp(\"\\w\", Name)")));
        assert_eq!(
            ad.get("Requirements"),
            Some(&Value::Expression("regexp(\"\\w\", Name)".into()))
        );
        assert_eq!(ad.text("Projection"), Some("Name Machine"));
        assert_eq!(ad.get("LimitResults"), None);
        let ad = decoded(query(None).at_most(7));
        assert_eq!(ad.integer("LimitResults"), Some(7));
        assert!(Query::named(Kind::Credd, "x\\", &[]).is_err());
    }

    #[test]
    fn a_projection_holds_names_only() {
        for name in ["", "a b", "a,b", "a\"b"] {
            let mut query = Query::all(Kind::Any, &[]);
            query.projection.push(name.to_owned().into());
            assert!(query.encode(Mode::Plain).is_err(), "{name:?}");
        }
    }

    #[test]
    fn any_kind_can_be_asked_for() {
        let negotiator = Kind::Generic("Negotiator".to_owned());
        for (kind, command, target) in [
            (Kind::Any, 48, "Any"),
            (Kind::Startd, 5, "Machine"),
            (Kind::Master, 7, "DaemonMaster"),
            (Kind::Collector, 20, "Collector"),
            (negotiator, 74, "Negotiator"),
        ] {
            assert_eq!((kind.command(), kind.target_type()), (command, target));
        }
    }

    #[test]
    fn more_than_was_bargained_for_is_an_error() {
        let bytes = answer(Mode::Plain, 3);
        for limits in [
            Limits {
                ads: 2,
                ..Limits::DEFAULT
            },
            Limits {
                bytes: bytes.len() - 1,
                ..Limits::DEFAULT
            },
        ] {
            let error = Answer::within(limits, Mode::Plain)
                .receive(&chunk(&bytes, true))
                .unwrap_err();
            assert!(matches!(error, Malformed::TooLong { .. }), "{error:?}");
        }
    }
}
