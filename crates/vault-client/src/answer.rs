//! Answers -> our types. A token goes from the bytes of the body straight into its secret type.

use std::collections::HashMap;

use serde::Deserialize;
use zeroize::Zeroizing;

/// The envelope of every answer (vault.md 2.4, 3.7); of each part only what is used. No Debug: tokens are in it.
#[derive(Deserialize, Default)]
pub(crate) struct Envelope {
    #[serde(default)]
    pub(crate) auth: Option<Auth>,
    #[serde(default)]
    pub(crate) data: Option<Data>,
    #[serde(default)]
    pub(crate) warnings: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) errors: Option<Vec<String>>,
    // sys/health has no data: these stand at the top
    #[serde(default)]
    pub(crate) initialized: Option<bool>,
    #[serde(default)]
    pub(crate) sealed: Option<bool>,
    #[serde(default)]
    pub(crate) standby: Option<bool>,
    #[serde(default)]
    pub(crate) version: Option<String>,
    #[serde(default)]
    pub(crate) server_time_utc: Option<i64>,
}

#[derive(Deserialize)]
pub(crate) struct Auth {
    #[serde(default)]
    pub(crate) client_token: Zeroizing<String>,
    #[serde(default)]
    pub(crate) accessor: String,
    #[serde(default)]
    pub(crate) lease_duration: i64,
    #[serde(default)]
    pub(crate) metadata: Option<HashMap<String, String>>,
    #[serde(default)]
    pub(crate) mfa_requirement: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
pub(crate) struct Data {
    /// What an SSH agent is to sign.
    #[serde(default)]
    pub(crate) nonce: Option<Zeroizing<String>>,
    #[serde(default)]
    pub(crate) access_token: Option<Zeroizing<String>>,
    #[serde(default)]
    pub(crate) expire_time: Option<String>,
    #[serde(default)]
    pub(crate) accessor: String,
    #[serde(default)]
    pub(crate) ttl: Option<i64>,
    #[serde(default)]
    pub(crate) creation_ttl: i64,
    #[serde(default)]
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) orphan: bool,
    #[serde(default)]
    pub(crate) policies: Vec<String>,
    #[serde(default)]
    pub(crate) auth_url: Option<String>,
    #[serde(default)]
    pub(crate) state: Option<Zeroizing<String>>,
    /// A string where the server counts, a number by right.
    #[serde(default)]
    pub(crate) poll_interval: Option<serde_json::Value>,
}

impl Envelope {
    /// `None` if the body is no JSON object. serde's own error would quote the body, so it is not passed on.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }
}

/// Longest piece of a server's text we keep.
const MAX_TEXT: usize = 500;

/// What the server said, fit for a message: one line, at most 500 characters, nothing that looks like a token and
/// none of `secrets`.
pub(crate) fn clean(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() > 3) {
        text = text.replace(secret, "(redacted)");
    }
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .map(|word| {
            if looks_like_token(word) {
                "(redacted)"
            } else {
                word
            }
        })
        .collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

fn looks_like_token(word: &str) -> bool {
    const PREFIXES: [&str; 7] = ["s.", "b.", "r.", "hvs.", "hvb.", "hvr.", "eyJ"];
    PREFIXES.iter().any(|prefix| {
        // in quotes, after an equals sign, in JSON
        word.match_indices(prefix).any(|(at, _)| {
            let free = word
                .get(..at)
                .and_then(|head| head.chars().next_back())
                .is_none_or(|c| !c.is_alphanumeric());
            let run = word.get(at + prefix.len()..).unwrap_or_default().chars();
            free && run
                .take_while(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
                .count()
                >= 20
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_text_is_bounded_one_line_and_without_tokens() {
        assert_eq!(
            clean("1 error occurred:\n\t* permission denied\n\n", &[]),
            "1 error occurred: * permission denied"
        );
        assert_eq!(clean("bad token abcd1234", &["abcd1234"]), "bad token (redacted)");
        for token in [
            "s.TYxvHbouQs2yHGpAkeMiaDd3",
            "hvs.CAESIJ0Xx0Xx0Xx0Xx0Xx0Xx",
            "\"eyJhbGciOiJSUzI1NiJ9.e30.x\"",
        ] {
            assert_eq!(
                clean(&format!("token {token} is bad"), &[]),
                "token (redacted) is bad"
            );
        }
        assert_eq!(
            clean("vaults.example.org/some/long/path/that/is/no/token", &[]).len(),
            50
        );
        assert_eq!(clean(&"x".repeat(5000), &[]).chars().count(), 503);
        assert_eq!(clean("\u{1b}[31mred\u{7}", &[]), "[31mred");
    }

    #[test]
    fn what_is_not_an_envelope_is_none() {
        for body in [
            "",
            "null",
            "<html>",
            "{\"auth\":3}",
            "{\"auth\":{\"client_token\":7}}",
            "{\"errors\":\"x\"}",
        ] {
            assert!(Envelope::parse(body.as_bytes()).is_none(), "{body}");
        }
        assert!(Envelope::parse(b"{}").is_some());
    }
}
