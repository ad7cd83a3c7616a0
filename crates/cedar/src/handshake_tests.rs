//! What servers may answer, played by hand.

use super::*;
use crate::{
    Malformed,
    auth::{Method, MethodFailure},
    classad::{Ad, Value},
    commands::store_cred,
    security::User,
    testing::hex,
    wire::{Channel, Mode},
};

/// A GSS token around a made-up AP-REQ.
const TOKEN: &str = "600f 0609 2a864886f712010202 0100 6e00";

pub(super) fn request(wish: Wish, methods: &[Method]) -> Request {
    Request {
        command: 479,
        wish,
        methods: methods.iter().copied().collect(),
        key_pair: KeyPair::from_random(&[7; 32]).unwrap(),
        sinful: "<127.0.0.1:1>".into(),
        session_seconds: 60,
    }
}

pub(super) fn message(mode: Mode, ad: &[(&str, Value)]) -> Incoming {
    let mut all = Ad::new();
    ad.iter().for_each(|(name, value)| all.set(name, value.clone()));
    let message = all.encode(Outgoing::new(mode)).unwrap();
    Incoming::new(mode, message.bytes().to_vec().into())
}

pub(super) fn int(value: i64) -> Incoming {
    Incoming::new(Mode::Plain, value.to_be_bytes().to_vec().into())
}

fn public() -> Value {
    KeyPair::from_random(&[9; 32]).unwrap().public().as_str().into()
}

/// A policy with authentication and a key; `change` overrides single attributes.
pub(super) fn policy(change: &[(&'static str, Value)]) -> Incoming {
    let mut ad = vec![
        ("Authentication", "YES".into()),
        ("Encryption", "YES".into()),
        ("AuthMethodsList", "KERBEROS,TOKEN,FS".into()),
        ("CryptoMethods", "AES".into()),
        ("ECDHPublicKey", public()),
        ("RemoteVersion", "$CondorVersion: 25.4.0 2025-11-01 $".into()),
        ("SessionDuration", "60".into()),
    ];
    ad.extend_from_slice(change);
    message(Mode::Plain, &ad)
}

pub(super) fn waiting(next: Next) -> Waiting {
    match next {
        Next::Send(_, state) | Next::Read(state) | Next::Seal(_, state) => state,
        other => panic!("{other:?}"),
    }
}

pub(super) fn sent(next: &Next) -> Vec<Vec<u8>> {
    match next {
        Next::Send(messages, _) => messages.iter().map(|m| m.bytes().to_vec()).collect(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn begun(wish: Wish, methods: &[Method]) -> Waiting {
    waiting(start(request(wish, methods)).unwrap())
}

/// As far as the question for a ticket.
fn asking() -> Asking {
    let state = waiting(
        begun(Wish::CREDENTIAL, &[Method::Kerberos])
            .receive(&policy(&[]))
            .unwrap(),
    );
    match state.receive(&int(64)).unwrap() {
        Next::Ask(Question::KerberosToken, asking) => asking,
        other => panic!("{other:?}"),
    }
}

/// The AP-REQ is out.
fn presented() -> Waiting {
    let next = asking().answer(Answer::KerberosToken(hex(TOKEN))).unwrap();
    let expected = [
        4i64.to_be_bytes().to_vec(),
        hex("0000000000000004 0000000000000002 6e00"),
    ];
    assert_eq!(sent(&next), expected);
    waiting(next)
}

/// Our verdict is out, the server's is due.
fn proven() -> Waiting {
    let state = waiting(presented().receive(&int(3)).unwrap());
    let reply = Incoming::new(Mode::Plain, hex("0000000000000004 0000000000000002 6f00").into());
    let Next::Ask(Question::KerberosProof(token), asking) = state.receive(&reply).unwrap() else {
        panic!()
    };
    assert_eq!(token, hex("600f 0609 2a864886f712010202 0200 6f00"));
    let next = asking.answer(Answer::KerberosProven).unwrap();
    assert_eq!(sent(&next), [1i64.to_be_bytes()]);
    waiting(next)
}

/// The key is installed, the post-auth ad is due.
fn sealed() -> Waiting {
    let state = waiting(proven().receive(&int(1)).unwrap());
    match state.receive(&int(0)).unwrap() {
        Next::Seal(_, state) => state,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_whole_way() {
    let ad = [
        ("Sid", "s:1".into()),
        ("User", "dunepro@mtk.test".into()),
        ("ReturnCode", "AUTHORIZED".into()),
    ];
    let Next::Done(established) = sealed().receive(&message(Mode::Sealed, &ad)).unwrap() else {
        panic!()
    };
    assert_eq!(established.user(), &User::parse("dunepro@mtk.test"));
    assert!(established.is_encrypted() && established.authenticated_as("dunepro").is_ok());
    assert_eq!(established.session().unwrap().seconds(), Some(60));
}

#[test]
fn what_the_first_message_says() {
    let next = start(request(Wish::CREDENTIAL, &[Method::Kerberos])).unwrap();
    let bytes = sent(&next).remove(0);
    let mut reader = crate::wire::Reader::new(Mode::Plain, &bytes);
    assert_eq!(reader.int("command"), Ok(60010));
    let ad = Ad::decode(&mut reader, crate::classad::Limits::HANDSHAKE).unwrap();
    assert_eq!(
        (ad.text("AuthMethods"), ad.text("SessionDuration")),
        (Some("KERBEROS"), Some("60"))
    );
    assert_eq!(
        (ad.integer("Command"), ad.text("Authentication")),
        (Some(479), Some("REQUIRED"))
    );
    // one frame, literals only, few attributes: what the strictest servers take
    assert!(ad.iter().all(|(_, value)| !matches!(value, Value::Expression(_))));
    assert!(ad.len() < 100 && bytes.len() < 4000);
}

#[test]
fn policies_that_would_let_a_credential_go_unprotected() {
    let refused = |change: &[(&'static str, Value)]| {
        begun(Wish::CREDENTIAL, &[Method::Kerberos])
            .receive(&policy(change))
            .unwrap_err()
    };
    let no = || Value::from("NO");
    assert_eq!(
        refused(&[("Authentication", no())]),
        Error::AuthenticationDeclined
    );
    assert!(matches!(
        refused(&[("CryptoMethods", "BLOWFISH".into())]),
        Error::NotEncrypted { .. }
    ));
    assert!(matches!(
        refused(&[("CryptoMethods", "".into())]),
        Error::NotEncrypted { .. }
    ));
    let without = [("ECDHPublicKey", Value::Undefined), ("Encryption", no())];
    assert!(matches!(refused(&without), Error::NotEncrypted { .. }));
    for list in ["", "TOKEN,FS", "FS"] {
        let change = [("AuthMethodsList", list.into()), ("AuthRequired", false.into())];
        assert!(matches!(refused(&change), Error::NoCommonMethod { .. }), "{list}");
    }
    let state = waiting(proven().receive(&int(1)).unwrap());
    assert!(matches!(
        state.receive(&int(1)).unwrap_err(),
        Error::NotEncrypted { .. }
    ));
}

#[test]
fn a_key_that_is_no_point_is_an_error_where_it_is_used() {
    let change = [("ECDHPublicKey", Value::from("AAAA"))];
    let mut state = begun(Wish::CREDENTIAL, &[Method::Kerberos])
        .receive(&policy(&change))
        .unwrap();
    state = waiting(state).receive(&int(64)).unwrap();
    let Next::Ask(_, asking) = state else { panic!() };
    let next = asking.answer(Answer::KerberosToken(hex(TOKEN))).unwrap();
    let state = waiting(waiting(next).receive(&int(3)).unwrap());
    let reply = Incoming::new(Mode::Plain, hex("0000000000000004 0000000000000002 6f00").into());
    let Next::Ask(_, asking) = state.receive(&reply).unwrap() else {
        panic!()
    };
    let state = waiting(asking.answer(Answer::KerberosProven).unwrap());
    let state = waiting(state.receive(&int(1)).unwrap());
    assert!(matches!(
        state.receive(&int(0)).unwrap_err(),
        Error::Malformed(Malformed::Unreadable(_))
    ));
}

#[test]
fn each_way_a_method_may_fail() {
    let failed = |why| Error::MethodsFailed(vec![(Method::Kerberos, why)]);
    assert_eq!(
        presented().receive(&int(0)).unwrap_err(),
        failed(MethodFailure::Refused)
    );
    assert_eq!(
        proven().receive(&int(0)).unwrap_err(),
        failed(MethodFailure::NotMapped)
    );
    assert_eq!(
        asking()
            .answer(Answer::Unavailable("no ticket".into()))
            .unwrap_err(),
        failed(MethodFailure::Unavailable("no ticket".into()))
    );
    let chosen = |bit| {
        waiting(
            begun(Wish::CREDENTIAL, &[Method::Kerberos])
                .receive(&policy(&[]))
                .unwrap(),
        )
        .receive(&int(bit))
    };
    assert_eq!(chosen(0).unwrap_err(), failed(MethodFailure::NoneLeft));
    for bit in [1, 2, 4, 65, -1, 2048] {
        assert!(
            matches!(
                chosen(bit).unwrap_err(),
                Error::Malformed(Malformed::Unexpected { .. })
            ),
            "{bit}"
        );
    }
    for code in [1, 2, 4, -1] {
        assert!(
            matches!(presented().receive(&int(code)).unwrap_err(), Error::Malformed(_)),
            "{code}"
        );
    }
}

#[test]
fn a_peer_that_does_not_prove_itself_gets_nothing_more() {
    let state = waiting(presented().receive(&int(3)).unwrap());
    let reply = Incoming::new(Mode::Plain, hex("0000000000000004 0000000000000002 6f00").into());
    let Next::Ask(_, asking) = state.receive(&reply).unwrap() else {
        panic!()
    };
    assert_eq!(
        asking.answer(Answer::Unavailable("why".into())).unwrap_err(),
        Error::PeerNotProven(Method::Kerberos)
    );
    for bytes in [
        "0000000000000004 8000000000000000",
        "0000000000000004 0000000080000000 6f",
        "0000000000000000",
    ] {
        let state = waiting(presented().receive(&int(3)).unwrap());
        let reply = Incoming::new(Mode::Plain, hex(bytes).into());
        assert!(
            matches!(state.receive(&reply).unwrap_err(), Error::Malformed(_)),
            "{bytes}"
        );
    }
}

/// Where no method succeeds and the server can live with it, a reader goes on as nobody.
#[test]
fn a_reader_may_go_on_without_a_method() {
    let optional = [("AuthRequired", Value::Boolean(false))];
    let state = begun(Wish::READING, &[Method::Kerberos])
        .receive(&policy(&optional))
        .unwrap();
    let Next::Ask(_, asking) = waiting(state).receive(&int(64)).unwrap() else {
        panic!()
    };
    let next = asking.answer(Answer::Unavailable("why".into())).unwrap();
    // the method is ended with -1, then nothing is left to try
    assert_eq!(sent(&next), [(-1i64).to_be_bytes(), 0i64.to_be_bytes()]);
    let Next::Seal(_, state) = waiting(next).receive(&int(0)).unwrap() else {
        panic!()
    };
    let ad = [
        ("User", "unauthenticated@unmapped".into()),
        ("ReturnCode", "AUTHORIZED".into()),
    ];
    let Next::Done(established) = state.receive(&message(Mode::Sealed, &ad)).unwrap() else {
        panic!()
    };
    assert_eq!(established.method(), None);
    assert_eq!(
        established.authenticated_as("unauthenticated").unwrap_err(),
        Error::AuthenticationDeclined
    );
}

#[test]
fn a_reader_may_go_on_in_the_clear() {
    let change = [
        ("Authentication", "NO".into()),
        ("Encryption", "NO".into()),
        ("ECDHPublicKey", Value::Undefined),
    ];
    let next = begun(Wish::READING, &[]).receive(&policy(&change)).unwrap();
    assert!(matches!(next, Next::Read(_)), "{next:?}");
    let ad = [
        ("User", "unauthenticated@unmapped".into()),
        ("ReturnCode", "AUTHORIZED".into()),
    ];
    let Next::Done(established) = waiting(next).receive(&message(Mode::Plain, &ad)).unwrap() else {
        panic!()
    };
    assert!(!established.is_encrypted() && established.session().is_none());
    // unless encryption was promised and no key came
    let change = [
        ("Authentication", "NO".into()),
        ("ECDHPublicKey", Value::Undefined),
    ];
    let error = begun(Wish::READING, &[]).receive(&policy(&change)).unwrap_err();
    assert!(matches!(error, Error::NotEncrypted { .. }));
}

#[test]
fn the_verdict_on_who_we_are() {
    let verdict = |user: &str, code: &str| {
        let ad = [
            ("Sid", "s".into()),
            ("User", user.into()),
            ("ReturnCode", code.into()),
        ];
        sealed().receive(&message(Mode::Sealed, &ad)).unwrap_err()
    };
    let (user, code) = ("dunepro@mtk.test".to_owned(), "DENIED".to_owned());
    let failed = Vec::new();
    assert_eq!(verdict(&user, &code), Error::Denied { user, code, failed });
    let unmapped = Error::Unmapped {
        method: Method::Kerberos,
        failed: Vec::new(),
    };
    assert_eq!(verdict("kerberos@unmapped", "AUTHORIZED"), unmapped);
    assert_eq!(sealed().closed(), unmapped);
}

#[test]
fn what_the_end_of_the_connection_means() {
    assert_eq!(
        begun(Wish::CREDENTIAL, &[Method::Kerberos]).closed(),
        Error::NoPolicy
    );
    let closed = Error::ClosedInMethod {
        method: Method::Kerberos,
        failed: Vec::new(),
    };
    assert_eq!(presented().closed(), closed);
    assert_eq!(proven().part(), Part::Authentication);
    assert_eq!(begun(Wish::READING, &[]).part(), Part::Negotiation);
}

#[test]
fn resuming() {
    let ad = [("Sid", "s:1".into()), ("User", "dunepro@mtk.test".into())];
    let Next::Done(established) = sealed().receive(&message(Mode::Sealed, &ad)).unwrap() else {
        panic!()
    };
    let again = || waiting(resume(established.session().unwrap(), 479, "<127.0.0.1:1>", &[1; 33]).unwrap());
    let answer = |code: &str| message(Mode::Plain, &[("ReturnCode", code.into()), ("Nonce", "x".into())]);
    let Next::Ready(_, resumed) = again().receive(&answer("AUTHORIZED")).unwrap() else {
        panic!()
    };
    assert_eq!(resumed.user(), established.user());
    assert_eq!(
        again().receive(&answer("SID_NOT_FOUND")).unwrap_err(),
        Error::SessionUnknown
    );
    assert!(matches!(
        again().receive(&answer("DENIED")).unwrap_err(),
        Error::Denied { .. }
    ));
    assert!(again().receive(&message(Mode::Plain, &[])).is_err());
    assert_eq!(again().closed(), Error::SessionUnknown);

    let session = established.session().unwrap();
    let (request, _, at_once) = resume_unanswered(session, 479, "<127.0.0.1:1>", &[1; 33])
        .unwrap()
        .unwrap();
    assert_eq!(at_once.user(), established.user());
    let says = |wanted: &str| {
        request
            .bytes()
            .windows(wanted.len())
            .any(|w| w == wanted.as_bytes())
    };
    // nothing that changes anything may follow it
    let proof = at_once.authenticated_as("dunepro").unwrap();
    let target = store_cred::Target::new("dunepro", &proof).unwrap();
    let name = store_cred::CredName::new("dune", None).unwrap();
    let json = credential::SecretBytes::new(b"{}\n".to_vec());
    assert!(store_cred::query(&proof, &target, &name).is_ok());
    let add = store_cred::add(&proof, &target, &name, &json);
    let delete = store_cred::delete(&proof, &target, &name);
    let everything = store_cred::delete_everything(&proof, &target, store_cred::All);
    for change in [add, delete, everything] {
        assert_eq!(change.unwrap_err(), Unsendable::Unanswered);
    }
    assert!(says("ResumeResponse = false") && says("Nonce = ") && says("Sid = \"s:1\""));

    // an answer opens behind the request it was given to, and behind no other; nor do our own words thrown back at us
    let channel = |nonce: u8| {
        let session = established.session().unwrap();
        let resumed = resume_unanswered(session, 479, "<127.0.0.1:1>", &[nonce; 33]).unwrap();
        let (request, key, _) = resumed.unwrap();
        let mut ours = Channel::new();
        let wire = ours.send(&request).unwrap();
        ours.seal(&key, [nonce; 16]);
        (ours, wire, key)
    };
    let (mut first, wire, key) = channel(1);
    let mut server = Channel::new();
    server.push(&wire);
    server.message(1000).unwrap().unwrap();
    server.seal(&key, [9; 16]);
    let answer = server.send(&Outgoing::new(Mode::Sealed).int(5)).unwrap();
    let question = first.send(&Outgoing::new(Mode::Sealed).int(479)).unwrap();
    let heard = |by: &mut Channel, bytes: &[u8]| {
        by.push(bytes);
        by.message(1000).map(|message| message.map(drop))
    };
    assert_eq!(heard(&mut channel(2).0, &answer).unwrap_err(), Malformed::Seal);
    assert_eq!(heard(&mut channel(1).0, &question).unwrap_err(), Malformed::Seal);
    assert_eq!(heard(&mut first, &answer), Ok(Some(())));
}
