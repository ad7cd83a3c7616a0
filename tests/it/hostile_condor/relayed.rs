//! Between our client and a real credd stands somebody who changes what they say to each other: downgrades, other
//! users, replays, cuts.
//!
//! What it cannot do is shown here, and one thing it can: HTCondor does not bind its public keys to the Kerberos
//! exchange, so a relay reads and writes what is sealed (cedar.md 4.3). All checks of the user still hold then.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use cedar::{
    classad::{Ad, Limits, Value},
    wire::{Mode, Outgoing, Reader},
};
use credd_client::{Credd, CreddAddress, Error, Options};
use testkit::{
    hostile::relay::{Passing, Relay, Side, Verdict},
    site::ACCESS_POINTS,
};

use crate::bed::bed;
use crate::waiting::block;

/// Longer than any stage takes with a real credd.
const STEP: Duration = Duration::from_secs(4);

fn identity() -> credd_client::Identity {
    let principal = "dunepro/managedtokens/mtk.mtk.test@MTK.TEST".parse().unwrap();
    let keytab = kerberos::Keytab::open(&bed().keytab("dunepro"), &principal).unwrap();
    let gss = kerberos::Gss::new(1);
    let ticket = block(gss.acquire(&keytab)).unwrap();
    credd_client::Identity::kerberos(ticket, gss, "dunepro")
}

fn relay(hook: impl Fn(&Passing<'_>) -> Verdict + Send + Sync + 'static) -> Relay {
    let [ap1, ..] = ACCESS_POINTS;
    let upstream = SocketAddr::from((ap1.address, ap1.port));
    Relay::start(Ipv4Addr::LOCALHOST, upstream, Arc::new(hook)).unwrap()
}

fn credd(relay: &Relay) -> Credd {
    let sinful = format!("<{}?alias=ap1.mtk.test&sock=credd>", relay.address());
    let options = Options {
        step: STEP,
        total: 4 * STEP,
        ..Options::default()
    };
    Credd::new(CreddAddress::from_entry(&sinful).unwrap(), identity(), options)
}

/// A name nobody stores under, so that nothing of the bed changes.
fn ask(credd: &Credd) -> Result<credd_client::Held, Error> {
    block(credd.query("dunepro", "hostile_relay", None))
}

fn decoded(passing: &Passing<'_>) -> Ad {
    Ad::decode(&mut Reader::new(passing.mode, passing.payload), Limits::GENERAL).unwrap()
}

fn changed(passing: &Passing<'_>, changes: &[(&str, Value)]) -> Verdict {
    let mut ad = Ad::new();
    for (name, value) in decoded(passing).iter() {
        if !changes
            .iter()
            .any(|(changed, _)| name.eq_ignore_ascii_case(changed))
        {
            ad.set(name, value.clone());
        }
    }
    for (name, value) in changes {
        ad.set(name, value.clone());
    }
    let message = ad.encode(Outgoing::new(passing.mode)).unwrap();
    Verdict::Replace(message.bytes().to_vec())
}

fn int(value: i64) -> Verdict {
    Verdict::Replace(value.to_be_bytes().to_vec())
}

fn last_byte_changed(mut bytes: Vec<u8>) -> Vec<u8> {
    *bytes.last_mut().unwrap() ^= 1;
    bytes
}

fn twice(bytes: Vec<u8>) -> Vec<u8> {
    bytes.repeat(2)
}

#[test]
fn an_honest_relay_changes_nothing_and_sessions_resume_through_it() {
    let relay = relay(|_| Verdict::Pass);
    let credd = credd(&relay);
    for _ in 0..3 {
        assert_eq!(ask(&credd).unwrap().top, None);
    }
    assert_eq!((credd.handshakes(), credd.resumptions()), (1, 2));
    assert_eq!(relay.connections(), 3);
}

/// What changes something waits for the credd's word on a resumed session, which has the credd's nonce in it: a record of it played
/// to the credd again does nothing. A question is sent at once.
#[test]
fn only_questions_go_out_before_the_credds_word() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = asked.clone();
    let relay = relay(move |passing| {
        let word = |wanted: &[u8]| passing.payload.windows(wanted.len()).any(|w| w == wanted);
        if passing.from == Side::Client && word(b"UseSession = \"YES\"") {
            heard.lock().unwrap().push(word(b"ResumeResponse = true"));
        }
        Verdict::Pass
    });
    let credd = credd(&relay);
    ask(&credd).unwrap();
    ask(&credd).unwrap();
    block(credd.list("dunepro")).unwrap();
    // asks before and after; a credmon that sees it meanwhile leaves it
    let json = br#"{"vault_url": "https://vault.mtk.test:8200/none", "vault_token": "none"}"#;
    let json = credential::SecretBytes::new(json.to_vec());
    block(credd.store("dunepro", "hostile_relay", None, &json)).unwrap();
    block(credd.delete("dunepro", "hostile_relay", None)).unwrap();
    block(credd.check(&[])).unwrap();
    let (question, other) = (false, true);
    assert_eq!(
        *asked.lock().unwrap(),
        [question, question, question, other, question, other, other]
    );
    assert_eq!((credd.handshakes(), credd.resumptions()), (1, 7));
}

/// The server's messages of a new session, by number: 0 policy, 1 choice of a method, 2 word on the AP-REQ, 3 AP-REP,
/// 4 word on the mapping, 5 key exchange, 6 verdict (sealed from here on), 7 reply.
#[test]
fn every_change_ends_in_its_error() {
    type Change = fn(&Passing<'_>) -> Verdict;
    let changes: [(&str, usize, Change, &str); 20] = [
        (
            "encryption off",
            0,
            |p| {
                changed(
                    p,
                    &[("Encryption", "NO".into()), ("ECDHPublicKey", Value::Undefined)],
                )
            },
            "NotEncrypted",
        ),
        (
            "a weaker cipher",
            0,
            |p| changed(p, &[("CryptoMethods", "3DES,AES".into())]),
            "NotEncrypted",
        ),
        (
            "authentication off",
            0,
            |p| changed(p, &[("Authentication", "NO".into())]),
            "AuthenticationDeclined",
        ),
        (
            "a weaker method",
            0,
            |p| changed(p, &[("AuthMethodsList", "CLAIMTOBE,FS".into())]),
            "NoCommonMethod",
        ),
        (
            "no method",
            0,
            |p| changed(p, &[("AuthMethodsList", "".into())]),
            "NoCommonMethod",
        ),
        (
            "a method nobody offered is chosen",
            1,
            |_| int(2),
            "Unexpected { what: \"the chosen method\"",
        ),
        (
            "every method at once is chosen",
            1,
            |_| int(-1),
            "Unexpected { what: \"the chosen method\"",
        ),
        ("no method is chosen", 1, |_| int(0), "MethodsFailed"),
        (
            "the proof of the server is left out",
            2,
            |_| int(1),
            "Unexpected { what: \"the answer to the AP-REQ\"",
        ),
        ("the ticket is refused", 2, |_| int(0), "MethodsFailed"),
        (
            "the proof of the server is another",
            3,
            |p| Verdict::Replace(last_byte_changed(p.payload.to_vec())),
            "Kerberos(",
        ),
        (
            "the proof of the server is 2^31 bytes long",
            3,
            |_| {
                let message = Outgoing::new(Mode::Plain).int(4).int(1 << 31);
                Verdict::Replace(message.bytes().to_vec())
            },
            "TooLong { what: \"the AP-REP\"",
        ),
        ("a key in the clear", 5, |_| int(1), "NotEncrypted"),
        (
            "another user",
            6,
            |p| changed(p, &[("User", "novapro@mtk.test".into())]),
            "WrongUser",
        ),
        (
            "a user that only looks like ours",
            6,
            |p| changed(p, &[("User", "dunepro\u{a0}@mtk.test".into())]),
            "WrongUser",
        ),
        (
            "nobody",
            6,
            |p| changed(p, &[("User", "unauthenticated@unmapped".into())]),
            "Unmapped",
        ),
        (
            "not allowed",
            6,
            |p| changed(p, &[("ReturnCode", "DENIED".into())]),
            "Denied",
        ),
        (
            "a changed verdict",
            6,
            |_| Verdict::Spoil(last_byte_changed),
            "Seal",
        ),
        ("the verdict twice", 6, |_| Verdict::Spoil(twice), "Seal"),
        ("no reply", 7, |_| Verdict::Silence, "Timeout"),
    ];
    for (name, number, change, expected) in changes {
        let relay = relay(move |passing| match (passing.from, passing.number) {
            (Side::Server, n) if n == number => change(passing),
            _ => Verdict::Pass,
        });
        let began = Instant::now();
        let error = ask(&credd(&relay)).expect_err(name);
        let text = format!("{:?}", error.kind);
        println!(
            "{:>6.2} s  {name}: {error}: {}",
            began.elapsed().as_secs_f64(),
            error.kind
        );
        assert!(text.contains(expected), "{name}: {text}");
        assert!(began.elapsed() < 2 * STEP, "{name}: {:?}", began.elapsed());
    }
}

/// On a resumed session the credd says nothing of us before the command; what it says afterwards still counts.
#[test]
fn a_reply_for_another_user_is_not_taken() {
    for resumed in [false, true] {
        let relay = relay(
            move |passing| match (passing.connection, passing.from, passing.mode) {
                (connection, Side::Server, Mode::Sealed) if resumed == (connection > 0) => {
                    // the verdict of a new session has no number in front
                    if !resumed && passing.number == 6 {
                        return Verdict::Pass;
                    }
                    let mut ad = Ad::new();
                    ad.set("fully_qualified_user", "novapro@mtk.test");
                    let reply = ad.encode(Outgoing::new(Mode::Sealed).int(5)).unwrap();
                    Verdict::Replace(reply.bytes().to_vec())
                }
                _ => Verdict::Pass,
            },
        );
        let credd = credd(&relay);
        if resumed {
            ask(&credd).unwrap();
        }
        let error = ask(&credd).unwrap_err();
        assert!(
            format!("{:?}", error.kind).starts_with("OtherUser"),
            "{:?}",
            error.kind
        );
    }
}

/// Closed before any message of either side: an error, and never a wrong answer.
#[test]
fn closed_before_any_message() {
    for (side, messages) in [(Side::Server, 8), (Side::Client, 7)] {
        for number in 0..messages {
            let relay = relay(move |passing| match (passing.from, passing.number) {
                (from, n) if from == side && n == number => Verdict::Close,
                _ => Verdict::Pass,
            });
            let error = ask(&credd(&relay)).unwrap_err();
            let text = format!("{:?}", error.kind);
            let known = [
                "Closed",
                "Broken",
                "NoPolicy",
                "Unmapped",
                "UnknownSharedPort",
                "NoCommonMethod",
            ];
            assert!(
                known.iter().any(|k| text.contains(k)),
                "{side:?} {number}: {text}"
            );
        }
    }
}
