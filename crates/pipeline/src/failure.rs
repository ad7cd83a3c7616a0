//! Why an edge failed, as data: printed, kept in the state, compared in tests.

use std::error::Error as StdError;

use serde::Serialize;

/// The hop of a token's way at which something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Stage {
    /// The configuration of the service itself.
    Configuration,
    /// Reading and judging the keytab.
    Keytab,
    /// Getting a Kerberos ticket, or a service ticket for a peer.
    Ticket,
    /// Asking a collector for schedds and credds.
    Discover,
    /// Reaching a credd, proving identity to it, asking what it holds.
    Credd,
    /// Logging in to Vault.
    Login,
    /// Reading a bearer token with exactly what is about to be stored.
    Proof,
    /// Handing the long Vault token to a credd.
    Store,
    /// Making the node token.
    Child,
    /// Placing files on a node.
    Push,
    /// Writing down what happened.
    State,
}

/// One failure of one edge. Holds no secret: every text comes from error types that cannot carry one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Where on the way.
    pub stage: Stage,
    /// A stable word for programs, `kebab-case`.
    pub kind: String,
    /// Who answered, or did not.
    pub peer: String,
    /// The whole chain of causes, once each.
    pub text: String,
    /// Whether the same call may succeed later without anybody changing anything.
    pub retryable: bool,
    /// How often it was tried in this run.
    pub attempts: u32,
}

impl Failure {
    /// From an error of one of the clients.
    pub fn new(
        stage: Stage,
        kind: impl Into<String>,
        peer: impl Into<String>,
        error: &(dyn StdError + 'static),
        retryable: bool,
    ) -> Self {
        Self { stage, kind: kind.into(), peer: peer.into(), text: chain(error), retryable, attempts: 1 }
    }

    /// From a sentence of our own.
    pub fn text(
        stage: Stage,
        kind: impl Into<String>,
        peer: impl Into<String>,
        text: impl Into<String>,
    ) -> Self {
        Self {
            stage,
            kind: kind.into(),
            peer: peer.into(),
            text: text.into(),
            retryable: false,
            attempts: 1,
        }
    }

    /// The same failure, known not to pass by itself.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.retryable = false;
        self
    }
}

/// An error and its causes, each once, joined by colons.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let part = cause.to_string();
        // Some libraries print their cause in Display as well; saying it twice helps nobody.
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("inner")]
    struct Inner;

    #[test]
    fn the_chain_is_printed_once() {
        let failure = Failure::new(Stage::Login, "x", "vault", &Outer(Inner), true);
        assert_eq!(failure.text, "outer: inner");
    }
}
