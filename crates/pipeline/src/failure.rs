//! Why an edge failed, as data: printed, kept in the state, compared in tests.

use std::error::Error as StdError;

use serde::{Deserialize, Serialize};

/// The hop of a token's way at which something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// Reading a bearer token for an output.
    Bearer,
    /// Reading a file made by somebody else.
    Source,
    /// Waiting for a person to agree to the robot.
    Consent,
    /// Taking back what a robot was given.
    Revoke,
    /// Writing down what happened.
    State,
}

impl Stage {
    /// As it is written in JSON and in the state.
    #[must_use]
    pub fn word(self) -> String {
        let value = serde_json::to_value(self).ok();
        let word = value.as_ref().and_then(serde_json::Value::as_str);
        word.unwrap_or_default().to_owned()
    }

    /// From that word.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        serde_json::from_value(word.into()).ok()
    }
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
    /// From an error of one of the clients; its variant's name becomes the kind.
    pub fn new<E: StdError + 'static>(
        stage: Stage,
        peer: impl Into<String>,
        error: &E,
        retryable: bool,
    ) -> Self {
        Self {
            stage,
            kind: variant(error),
            peer: peer.into(),
            text: chain(error),
            retryable,
            attempts: 1,
        }
    }

    /// From an error of `credd-client`, which says what went wrong in layers.
    pub(crate) fn at_credd(stage: Stage, peer: impl Into<String>, error: &credd_client::Error) -> Self {
        use credd_client::Kind;
        let kind = match &error.kind {
            Kind::Cedar(inner) => variant(inner),
            Kind::Kerberos(inner) => variant(inner),
            kind => variant(kind),
        };
        let mut failure = Self::new(stage, peer, error, error.retryable());
        failure.kind = kind;
        if let Some(advice) = error.advice() {
            failure.text.push_str("; ");
            failure.text.push_str(advice);
        }
        failure
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

/// The name of an error's variant, in `kebab-case`: every client has an enum of its own, and its variants are the
/// stable words we have for what went wrong. Only the name is taken from `Debug`, never a value.
fn variant(error: &dyn std::fmt::Debug) -> String {
    let text = format!("{error:?}");
    let mut kind = String::new();
    for c in text.chars().take_while(char::is_ascii_alphanumeric) {
        if c.is_ascii_uppercase() && !kind.is_empty() {
            kind.push('-');
        }
        kind.push(c.to_ascii_lowercase());
    }
    kind
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
        let failure = Failure::new(Stage::Login, "vault", &Outer(Inner), true);
        assert_eq!(failure.text, "outer: inner");
    }

    #[test]
    fn the_kind_is_the_name_of_the_variant_and_no_value() {
        #[derive(Debug)]
        enum Error {
            ClockSkew { secret: &'static str },
        }
        let error = Error::ClockSkew { secret: "x" };
        assert_eq!(variant(&error), "clock-skew");
        let Error::ClockSkew { secret } = error;
        assert_eq!(secret, "x");
    }
}
