//! GSSAPI's two status words and their text -> [`Error`].
//!
//! The mechanism's minor status is krb5's own code most of the time, but the mechanism glue may renumber one that
//! two mechanisms share (SPNEGO hands krb5's through), so the text is asked second.

use std::path::Path;

use libgssapi::error::{Error as Status, MajorFlags};

use crate::Error;

/// What was being done, and with what.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) doing: &'static str,
    pub(crate) principal: &'a str,
    pub(crate) realm: &'a str,
    pub(crate) keytab: &'a Path,
    pub(crate) kvno: u32,
    pub(crate) target: &'a str,
    /// The peer's token was being judged: what is not about the KDC is about the peer.
    pub(crate) peer: bool,
}

/// Codes of krb5's error table, from its base -1765328384.
const BASE: i32 = -1_765_328_384;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    PrincipalUnknown,
    ServiceUnknown,
    Disabled,
    KeyMismatch,
    Enctype,
    Expired,
    Skew,
    Unreachable,
    Realm,
    Configuration,
}

const CODES: &[(&[i32], Kind)] = &[
    (&[6], Kind::PrincipalUnknown),
    (&[7], Kind::ServiceUnknown),
    // name expired, policy, revoked, not yet valid, key expired
    (&[1, 12, 18, 21, 23], Kind::Disabled),
    // preauthentication failed (KDC's, client's), decrypt integrity check failed
    (&[24, 210, 31], Kind::KeyMismatch),
    // ... or the keytab, which was seen to hold the principal, lacks the kind of key the KDC asks for
    (&[14, 237, 181], Kind::Enctype),
    (&[32], Kind::Expired),
    // in a request, in the KDC's reply, ticket not yet valid
    (&[37, 148, 33], Kind::Skew),
    (&[156, 29], Kind::Unreachable),
    (&[154, 220, 217], Kind::Realm),
    (&[135, 136, 224], Kind::Configuration),
];

const TEXTS: &[(&str, Kind)] = &[
    ("credentials have been revoked", Kind::Disabled),
    ("entry in database has expired", Kind::Disabled),
    ("Password has expired", Kind::Disabled),
    ("Preauthentication failed", Kind::KeyMismatch),
    ("Decrypt integrity check failed", Kind::KeyMismatch),
    ("no support for encryption type", Kind::Enctype),
    ("contains no suitable keys", Kind::Enctype),
    ("No key table entry found", Kind::Enctype),
    ("Ticket expired", Kind::Expired),
    ("credentials have expired", Kind::Expired),
    ("Clock skew too great", Kind::Skew),
    ("Cannot contact any KDC", Kind::Unreachable),
    // a KDC's name that could not be resolved right now
    ("Resource temporarily unavailable", Kind::Unreachable),
    ("Cannot find KDC for", Kind::Realm),
    ("Cannot resolve network address for KDC", Kind::Realm),
    ("krb5.conf", Kind::Configuration),
];

fn kind(minor: u32, text: &str) -> Option<Kind> {
    let code = minor.cast_signed().wrapping_sub(BASE);
    if let Some((_, kind)) = CODES.iter().find(|(codes, _)| codes.contains(&code)) {
        return Some(*kind);
    }
    // "Client 'x@R' not found ..." and "Server host/x@R not found ..." carry the name in the middle
    if text.contains("not found in Kerberos database") {
        return Some(if text.contains("Client ") {
            Kind::PrincipalUnknown
        } else {
            Kind::ServiceUnknown
        });
    }
    TEXTS
        .iter()
        .find(|(part, _)| text.contains(part))
        .map(|(_, kind)| *kind)
}

/// GSSAPI's sentences that say nothing the mechanism's own do not say better.
const GENERIC: &[&str] = &["Unspecified GSS failure", "No credentials were supplied"];

/// The mechanism's own words: one line, bounded, without GSSAPI's generic sentence around them.
pub(crate) fn words(status: &Status) -> String {
    chosen(&status.to_string())
}

fn chosen(whole: &str) -> String {
    // "<of GSSAPI> (<of the mechanism>)"
    let (outer, inner) = whole
        .split_once(" (")
        .and_then(|(outer, rest)| Some((outer, rest.trim_end().strip_suffix(')')?)))
        .unwrap_or((whole, ""));
    let text = match inner {
        "" | "Success" | "Unknown error" => outer,
        _ if GENERIC.iter().any(|sentence| outer.starts_with(sentence)) => inner,
        _ => whole,
    };
    let one_line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(400)
        .collect();
    one_line.trim().to_owned()
}

/// Must run on the thread that made the call: the library keeps the text per thread.
pub(crate) fn decode(status: &Status, call: Call<'_>) -> Error {
    classify(status.major, status.minor, words(status), call)
}

fn classify(major: MajorFlags, minor: u32, text: String, call: Call<'_>) -> Error {
    // the path the library was given names our descriptor, which helps nobody
    let text = match text.find("/proc/self/fd/") {
        Some(at) => {
            let (head, tail) = text.split_at(at);
            let tail = tail
                .trim_start_matches("/proc/self/fd/")
                .trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{head}{}{tail}", call.keytab.display())
        }
        None => text,
    };
    let (principal, realm, target) = (
        call.principal.to_owned(),
        call.realm.to_owned(),
        call.target.to_owned(),
    );
    // routine errors are a number in bits 16-23, not flags
    let routine = |flag: MajorFlags| major.bits() & 0x00ff_0000 == flag.bits();
    match kind(minor, &text) {
        Some(Kind::PrincipalUnknown) => Error::PrincipalUnknown {
            principal,
            realm,
            text,
        },
        Some(Kind::ServiceUnknown) => Error::ServiceUnknown { target, realm, text },
        Some(Kind::Disabled) => Error::PrincipalDisabled {
            principal,
            realm,
            text,
        },
        Some(Kind::KeyMismatch) if call.peer => Error::PeerToken { target, text },
        Some(Kind::KeyMismatch) => Error::KeyMismatch {
            principal,
            keytab: call.keytab.to_owned(),
            kvno: call.kvno,
            text,
        },
        Some(Kind::Enctype) => Error::Enctype {
            principal,
            realm,
            text,
        },
        Some(Kind::Expired) => Error::TicketExpired { principal, text },
        Some(Kind::Skew) => Error::ClockSkew { realm, text },
        Some(Kind::Unreachable) => Error::KdcUnreachable { realm, text },
        Some(Kind::Realm) => Error::RealmUnknown { realm, text },
        Some(Kind::Configuration) => Error::Configuration { text },
        None if routine(MajorFlags::GSS_S_CREDENTIALS_EXPIRED) => Error::TicketExpired { principal, text },
        None if call.peer => Error::PeerToken { target, text },
        None => Error::Library {
            principal,
            doing: call.doing,
            text,
            major: major.bits(),
            minor,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(peer: bool) -> Call<'static> {
        Call {
            doing: "getting a ticket",
            principal: "a@R",
            realm: "R",
            keytab: Path::new("/k"),
            kvno: 3,
            target: "host/x",
            peer,
        }
    }

    fn of(code: i32, text: &str, peer: bool) -> Error {
        let minor = if code == 0 {
            100_001
        } else {
            BASE.wrapping_add(code).cast_unsigned()
        };
        classify(MajorFlags::GSS_S_FAILURE, minor, text.to_owned(), call(peer))
    }

    #[test]
    fn codes_and_texts_agree() {
        assert!(matches!(of(6, "x", false), Error::PrincipalUnknown { .. }));
        assert!(matches!(of(24, "x", false), Error::KeyMismatch { kvno: 3, .. }));
        assert!(matches!(of(37, "x", false), Error::ClockSkew { .. }));
        assert!(matches!(of(156, "x", false), Error::KdcUnreachable { .. }));
        let said = |text| of(0, text, false);
        assert!(matches!(
            said("Client 'a@R' not found in Kerberos database"),
            Error::PrincipalUnknown { .. }
        ));
        assert!(matches!(
            said("Server host/x@R not found in Kerberos database"),
            Error::ServiceUnknown { .. }
        ));
        assert!(matches!(
            said("Cannot contact any KDC for realm 'R'"),
            Error::KdcUnreachable { .. }
        ));
        assert!(matches!(
            said("Cannot find KDC for realm \"R\""),
            Error::RealmUnknown { .. }
        ));
        assert!(matches!(
            said("something new"),
            Error::Library { minor: 100_001, .. }
        ));
    }

    #[test]
    fn what_the_peer_sent_is_the_peers_fault() {
        assert!(matches!(
            of(31, "Decrypt integrity check failed", true),
            Error::PeerToken { .. }
        ));
        assert!(matches!(
            of(0, "Invalid token was supplied", true),
            Error::PeerToken { .. }
        ));
    }

    #[test]
    fn generic_sentences_make_room_for_the_mechanisms_own() {
        let generic = "No credentials were supplied, or the credentials were unavailable or inaccessible";
        assert_eq!(
            chosen(&format!("{generic} (Password has expired)")),
            "Password has expired"
        );
        assert_eq!(
            chosen("Invalid token was supplied (Success)"),
            "Invalid token was supplied"
        );
        assert_eq!(chosen("A (b (c))"), "A (b (c))");
        assert_eq!(chosen("plain\n"), "plain");
    }

    #[test]
    fn the_descriptor_is_not_shown() {
        let error = of(0, "No key in FILE:/proc/self/fd/12 for a", false);
        assert!(error.to_string().contains("FILE:/k for a"), "{error}");
    }
}
