//! Authentication methods. All have the same shape: a first step, an answer to a message or to a question to the
//! outside world, an end; success is only what the end says (cedar.md 5).
//!
//! A further method is a further module, a line in [`Method`], and a variant of `Running` and of [`Question`].

pub mod kerberos;

use crate::{Error, wire::Incoming, wire::Outgoing};

/// The methods HTCondor knows, by the names and bits it uses on the wire (cedar.md 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// Kerberos 5, with mutual authentication.
    Kerberos,
}

impl Method {
    const ALL: [Method; 1] = [Method::Kerberos];

    /// Its name in lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Method::Kerberos => "KERBEROS",
        }
    }

    fn bit(self) -> i64 {
        match self {
            Method::Kerberos => 64,
        }
    }

    /// The method of that name, if this crate has it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|method| method.name().eq_ignore_ascii_case(name))
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of methods in somebody's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Methods(Vec<Method>);

impl Methods {
    /// Without any.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Their wire names, comma separated.
    #[must_use]
    pub fn names(&self) -> String {
        self.0
            .iter()
            .map(|method| method.name())
            .collect::<Vec<_>>()
            .join(",")
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Method> {
        self.0.iter().copied()
    }

    pub(crate) fn mask(&self) -> i64 {
        self.0.iter().fold(0, |mask, method| mask | method.bit())
    }

    pub(crate) fn of_bit(&self, bit: i64) -> Option<Method> {
        self.0.iter().copied().find(|method| method.bit() == bit)
    }

    pub(crate) fn remove(&mut self, method: Method) {
        self.0.retain(|m| *m != method);
    }

    pub(crate) fn common(&self, others: &Methods) -> Methods {
        self.0
            .iter()
            .copied()
            .filter(|method| others.0.contains(method))
            .collect()
    }
}

impl FromIterator<Method> for Methods {
    fn from_iter<I: IntoIterator<Item = Method>>(methods: I) -> Self {
        let mut set = Vec::new();
        for method in methods {
            if !set.contains(&method) {
                set.push(method);
            }
        }
        Self(set)
    }
}

/// Why one method did not succeed; others may still be tried on the same connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MethodFailure {
    /// We had nothing to present: no ticket for this server.
    NothingToPresent,
    /// The server did not accept what we presented: for Kerberos, its keytab does not open the ticket, or clocks
    /// differ.
    Refused,
    /// The server accepted the proof and maps the name to nobody.
    NotMapped,
    /// The server has no method left of those we offered.
    NoneLeft,
}

impl std::fmt::Display for MethodFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NothingToPresent => "there was no ticket to present",
            Self::Refused => "the peer refused what was presented (its keytab, or the clocks, differ)",
            Self::NotMapped => "the peer accepted the proof, but maps the name to no user (its map file)",
            Self::NoneLeft => "the peer has no method left of those offered",
        })
    }
}

/// What a method needs from the outside world before it can go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Question {
    /// A first GSS token for the peer (krb5 mechanism, mutual authentication), framed as GSSAPI makes it.
    KerberosToken,
    /// Whether this token of the peer, framed as GSSAPI wants it, completes the context.
    KerberosProof(Vec<u8>),
}

/// The outside world's answer to a [`Question`].
#[non_exhaustive]
pub enum Answer {
    /// The first GSS token.
    KerberosToken(Vec<u8>),
    /// The context is complete: the peer has proven itself.
    KerberosProven,
    /// It cannot be done.
    Unavailable,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::KerberosToken(_) => "KerberosToken(..)",
            Self::KerberosProven => "KerberosProven",
            Self::Unavailable => "Unavailable",
        })
    }
}

/// What a method wants next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Write these, then read a message.
    Send(Vec<Outgoing>, Running),
    /// Read a message.
    Read(Running),
    /// Put a question to the outside world.
    Ask(Question, Running),
    /// The method says yes.
    Succeeded,
    /// The method says no, with the stream in step once these are written.
    Failed(MethodFailure, Vec<Outgoing>),
}

/// A method under way.
#[derive(Debug)]
pub(crate) enum Running {
    Kerberos(kerberos::State),
}

impl Running {
    pub(crate) fn start(method: Method) -> Step {
        match method {
            Method::Kerberos => kerberos::start(),
        }
    }

    pub(crate) fn method(&self) -> Method {
        match self {
            Self::Kerberos(_) => Method::Kerberos,
        }
    }

    pub(crate) fn receive(self, message: &Incoming) -> Result<Step, Error> {
        match self {
            Self::Kerberos(state) => state.receive(message),
        }
    }

    pub(crate) fn answer(self, answer: Answer) -> Result<Step, Error> {
        match self {
            Self::Kerberos(state) => state.answer(answer),
        }
    }
}
