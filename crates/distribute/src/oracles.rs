//! What must hold of `known_hosts` files and of SFTP servers, for any bytes whatever: for fuzzing and its regressions.
//!
//! An oracle panics if something that must hold does not; that it returns is all there is to know otherwise.
#![expect(clippy::panic, reason = "this is how an oracle speaks")]

mod answers;

pub use answers::sftp;

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    Trust, Verdict,
    known_hosts::{self, KnownHosts},
};

/// The node the files are asked about.
const HOST: &str = "gpvm01.example.org";

/// How many of a file's own keys are shown to it.
const MAX_SHOWN: usize = 8;

/// `known_hosts`: up to the first NUL the file's text, behind it the key a node shows. Nobody is trusted without a
/// line that holds the very key, and whoever is revoked is refused.
pub fn known_hosts(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let mut shown: Vec<Vec<u8>> = text
        .lines()
        .flat_map(|line| line.split([' ', '\t']))
        .filter_map(|word| BASE64_STANDARD.decode(word).ok())
        .take(MAX_SHOWN)
        .collect();
    shown.push(parts.next().unwrap_or_default().to_vec());
    for port in [22, 2222] {
        let hosts = KnownHosts::of_text(&text, HOST, port, &Trust::Strict);
        for key in &shown {
            judged(&text, &hosts.decide(key), key);
            revoked(&text, port, key);
        }
    }
    let nothing = KnownHosts::of_text("", HOST, 22, &Trust::Strict);
    if shown.iter().any(|key| nothing.decide(key).is_trusted()) {
        panic!("trusted without a file");
    }
}

fn judged(text: &str, verdict: &Verdict, key: &[u8]) {
    if verdict.to_string().contains(['\n', '\r', '\x1b']) {
        panic!("more than a line: {verdict}");
    }
    let line = |at: usize| text.lines().nth(at.saturating_sub(1)).unwrap_or_default();
    match verdict {
        Verdict::Known { at } => {
            let there = line(at.line);
            let bare = known_hosts::bare_key(key);
            let holds = there
                .split([' ', '\t'])
                .filter_map(|word| BASE64_STANDARD.decode(word).ok())
                .any(|other| bare == other);
            if !holds || there.trim_start().starts_with(['@', '#']) {
                panic!("known by {there:?}");
            }
        }
        Verdict::Certified { authority, .. } if !line(authority.line).contains("@cert-authority") => {
            panic!("certified by {:?}", line(authority.line));
        }
        Verdict::FirstUse { .. } | Verdict::Disregarded { .. } => panic!("trusted by nobody's leave"),
        _ => {}
    }
}

/// The same key with one line more.
fn revoked(text: &str, port: u16, key: &[u8]) {
    let bare = known_hosts::bare_key(key);
    let Some(kind) = known_hosts::kind_of(&bare).filter(|kind| {
        let plain = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_graphic());
        plain && !kind.ends_with("-cert-v01@openssh.com")
    }) else {
        return;
    };
    let line = format!("{text}\n@revoked * {kind} {}\n", BASE64_STANDARD.encode(&bare));
    let hosts = KnownHosts::of_text(&line, HOST, port, &Trust::Strict);
    let verdict = hosts.decide(key);
    if !matches!(verdict, Verdict::Revoked { .. }) {
        panic!("revoked, and {verdict}");
    }
}
