//! The other methods, step by step as cedar.md 5.4 to 5.9 list them, and how one falls through to the next.

use super::{
    tests::{begun, int, message, policy, sent, waiting},
    *,
};
use crate::{
    Malformed,
    auth::{IdToken, Method, MethodFailure, TlsTurn, TokenWanted},
    classad::Value,
    testing::hex,
    wire::Mode,
};

const TOKEN: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6IlBPT0wifQ.\
    eyJpc3MiOiJ0ZXN0LmxvY2FsIiwic3ViIjoiYWxpY2VAdGVzdC5sb2NhbCJ9.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// The policy is in, with these methods in common.
fn offered(methods: &[Method], list: &str) -> Next {
    let change = [
        ("AuthMethodsList", Value::from(list)),
        ("TrustDomain", "test.local".into()),
        ("IssuerKeys", "OTHER, POOL".into()),
    ];
    begun(Wish::CREDENTIAL, methods)
        .receive(&policy(&change))
        .unwrap()
}

fn chosen(method: Method, bit: i64) -> Next {
    let next = offered(&[method], method.name());
    assert_eq!(sent(&next), [bit.to_be_bytes()]);
    waiting(next).receive(&int(bit)).unwrap()
}

fn asked(next: Next) -> (Question, Asking) {
    match next {
        Next::Ask(question, asking) => (question, asking),
        other => panic!("{other:?}"),
    }
}

fn tls(status: i64, records: &[u8]) -> Incoming {
    let message = Outgoing::new(Mode::Plain)
        .int(status)
        .length(records.len())
        .raw(records);
    Incoming::new(Mode::Plain, message.bytes().to_vec().into())
}

fn turn(records: &[u8], established: bool, received: usize) -> Answer {
    Answer::Tls(TlsTurn {
        records: records.to_vec(),
        established,
        received,
    })
}

fn bytes(message: &Incoming) -> Vec<u8> {
    message.bytes().to_vec()
}

/// Feeds a TLS message, checks that the library is asked about its records, and answers for it.
fn feed(next: Next, message: &Incoming, records: &[u8], answer: Answer) -> Next {
    let (question, asking) = asked(waiting(next).receive(message).unwrap());
    assert!(matches!(question, Question::Tls(got) if got == records));
    asking.answer(answer).unwrap()
}

/// As far as both sides holding, in the sequence seen with TLS 1.3.
fn held(method: Method, bit: i64) -> Next {
    let (question, asking) = asked(chosen(method, bit));
    assert!(matches!(question, Question::TlsClient { bearer } if bearer == (method == Method::SciTokens)));
    let next = asking.answer(turn(b"", false, 0)).unwrap();
    let (question, asking) = asked(waiting(next).receive(&int(0)).unwrap());
    assert!(matches!(question, Question::Tls(records) if records.is_empty()));
    let next = asking.answer(turn(b"hello", false, 0)).unwrap();
    assert_eq!(
        sent(&next),
        [0i64.to_be_bytes().to_vec(), bytes(&tls(2, b"hello"))]
    );
    let next = feed(next, &tls(2, b"flight"), b"flight", turn(b"finished", true, 0));
    assert_eq!(sent(&next), [bytes(&tls(4, b"finished"))]);
    feed(next, &tls(4, b"tickets"), b"tickets", turn(b"", true, 0))
}

#[test]
fn ssl_as_seen_with_tls_1_3() {
    let next = held(Method::Ssl, 256);
    assert!(matches!(next, Next::Read(_)));
    let next = feed(next, &tls(4, b"key"), b"key", turn(b"", true, 256));
    assert_eq!(sent(&next), [bytes(&tls(4, b""))]);
    assert!(matches!(waiting(next).receive(&int(0)).unwrap(), Next::Seal(..)));
}

#[test]
fn ssl_as_seen_with_tls_1_2_and_a_key_in_two_parts() {
    let (_, asking) = asked(chosen(Method::Ssl, 256));
    let next = asking.answer(turn(b"", false, 0)).unwrap();
    let (_, asking) = asked(waiting(next).receive(&int(0)).unwrap());
    let next = asking.answer(turn(b"hello", false, 0)).unwrap();
    let next = feed(next, &tls(2, b"flight"), b"flight", turn(b"exchange", false, 0));
    assert_eq!(sent(&next), [bytes(&tls(2, b"exchange"))]);
    let next = feed(next, &tls(4, b"finished"), b"finished", turn(b"", true, 0));
    assert_eq!(sent(&next), [bytes(&tls(4, b""))]);
    let next = feed(next, &tls(4, b"k"), b"k", turn(b"", true, 100));
    assert_eq!(sent(&next), [bytes(&tls(2, b""))]);
    let next = feed(next, &tls(4, b"ey"), b"ey", turn(b"", true, 256));
    assert_eq!(sent(&next), [bytes(&tls(4, b""))]);
}

#[test]
fn scitokens_go_into_tls_after_the_key() {
    for (verdict, good) in [(4, true), (3, false)] {
        let next = held(Method::SciTokens, 4096);
        let (question, asking) = {
            let (_, asking) = asked(waiting(next).receive(&tls(4, b"key")).unwrap());
            asked(asking.answer(turn(b"", true, 256)).unwrap())
        };
        assert!(matches!(question, Question::TlsBearer));
        let next = asking.answer(turn(b"bearer", true, 256)).unwrap();
        assert_eq!(sent(&next), [bytes(&tls(4, b"")), bytes(&tls(4, b"bearer"))]);
        let ended = waiting(next).receive(&tls(verdict, b""));
        match ended {
            Ok(Next::Read(_)) if good => {}
            Err(error) if !good => assert_eq!(
                error,
                Error::MethodsFailed(vec![(Method::SciTokens, MethodFailure::Refused)])
            ),
            other => panic!("{other:?}"),
        }
    }
}

/// Wherever TLS fails, both sides are back at the choice of a method.
#[test]
fn tls_that_fails_leaves_the_stream_in_step() {
    let both = [Method::Ssl, Method::Token];
    let begin = || {
        let (_, asking) = asked(offered(&both, "SSL,TOKEN"));
        let token = IdToken::parse(TOKEN).unwrap();
        let next = asking.answer(Answer::IdToken(token, Box::new([0; 256]))).unwrap();
        assert_eq!(sent(&next), [(256i64 | 2048).to_be_bytes()]);
        asked(waiting(next).receive(&int(256)).unwrap()).1
    };
    let hello = || {
        let next = begin().answer(turn(b"", false, 0)).unwrap();
        let (_, asking) = asked(waiting(next).receive(&int(0)).unwrap());
        asking.answer(turn(b"hello", false, 0)).unwrap()
    };
    let mask = 2048i64.to_be_bytes().to_vec();
    let code = |value: i64| value.to_be_bytes().to_vec();
    let unavailable = || Answer::Unavailable("why".into());

    // we cannot: the server's word is read first
    let next = begin().answer(unavailable()).unwrap();
    let next = waiting(next).receive(&int(0)).unwrap();
    assert_eq!(sent(&next), [code(-1), mask.clone()]);
    // it cannot
    let next = begin().answer(turn(b"", false, 0)).unwrap();
    let next = waiting(next).receive(&int(-1)).unwrap();
    assert_eq!(sent(&next), [code(0), mask.clone()]);
    // its certificate is not believed
    let next = feed(hello(), &tls(2, b"flight"), b"flight", unavailable());
    assert_eq!(sent(&next), [bytes(&tls(3, b"")), mask.clone()]);
    // ours is not: said in the place of its last flight
    let next = feed(hello(), &tls(2, b"flight"), b"flight", turn(b"finished", true, 0));
    for status in [3, -1] {
        let finished = feed(hello(), &tls(2, b"flight"), b"flight", turn(b"finished", true, 0));
        let next = waiting(finished).receive(&tls(status, b"alert")).unwrap();
        assert_eq!(sent(&next), std::slice::from_ref(&mask));
    }
    // what came along with its last word is not understood: its key is read, then refused
    let next = feed(next, &tls(4, b"tickets"), b"tickets", unavailable());
    let next = waiting(next).receive(&tls(4, b"key")).unwrap();
    assert_eq!(sent(&next), [bytes(&tls(3, b"")), mask.clone()]);
    // and then TOKEN is run, with the token asked for at the beginning
    let next = waiting(next).receive(&int(2048)).unwrap();
    assert!(sent(&next)[0].starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16]));
}

#[test]
fn tls_messages_that_cannot_be() {
    for bad in [
        tls(5, b""),
        tls(-2, b""),
        tls(i64::MAX, b""),
        int(2),
        Incoming::new(Mode::Plain, hex("0000000000000002 0000000000000005 00").into()),
        Incoming::new(Mode::Plain, hex("0000000000000002 8000000000000000").into()),
        Incoming::new(Mode::Plain, hex("0000000000000002 0000000080000000").into()),
        Incoming::new(Mode::Plain, hex("0000000000000002 0000000000000000 00").into()),
    ] {
        let next = held(Method::Ssl, 256);
        assert!(
            matches!(waiting(next).receive(&bad), Err(Error::Malformed(_))),
            "{bad:?}"
        );
    }
    // a server that never comes to its end
    let mut next = held(Method::Ssl, 256);
    let mut turns = 0;
    let error = loop {
        let (_, asking) = asked(waiting(next).receive(&tls(4, b"k")).unwrap());
        match asking.answer(turn(b"", true, 1)) {
            Ok(again) => next = again,
            Err(error) => break error,
        }
        turns += 1;
        assert!(turns < 1000);
    };
    assert!(matches!(error, Error::Malformed(Malformed::TooLong { .. })));
    // a key too long
    let (_, asking) = asked(waiting(held(Method::Ssl, 256)).receive(&tls(4, b"key")).unwrap());
    assert!(matches!(
        asking.answer(turn(b"", true, 257)),
        Err(Error::Malformed(Malformed::TooLong { .. }))
    ));
}

#[test]
fn a_token_is_offered_if_one_fits() {
    let (question, asking) = asked(offered(&[Method::Token, Method::Kerberos], "TOKEN,KERBEROS"));
    let wanted = TokenWanted {
        trust_domain: "test.local".into(),
        keys: vec!["OTHER".into(), "POOL".into()],
    };
    assert!(matches!(question, Question::IdToken(got) if got == wanted));
    let next = asking.answer(Answer::Unavailable("none fits".into())).unwrap();
    assert_eq!(sent(&next), [64i64.to_be_bytes()]);
    // with nothing else in common there is nothing to offer
    let (_, asking) = asked(offered(&[Method::Token], "TOKEN,FS"));
    let error = asking
        .answer(Answer::Unavailable("none fits".into()))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "authentication failed: TOKEN: we could not: none fits"
    );
}

#[test]
fn fs_makes_what_it_is_asked_for() {
    let path = |text: &str| Incoming::new(Mode::Plain, format!("{text}\0").into_bytes().into());
    let asked_for = || {
        let Next::Read(state) = chosen(Method::Fs, 4) else {
            panic!()
        };
        asked(state.receive(&path("/tmp/FS_XXXa")).unwrap())
    };
    let (question, asking) = asked_for();
    assert!(matches!(question, Question::Directory(got) if got == "/tmp/FS_XXXa"));
    let next = asking.answer(Answer::Directory { extension: None }).unwrap();
    assert_eq!(sent(&next), [0i64.to_be_bytes()]);
    assert!(matches!(waiting(next).receive(&int(0)).unwrap(), Next::Read(_)));
    let extension = Some("127.0.0.1:9618".to_owned());
    let next = asked_for().1.answer(Answer::Directory { extension }).unwrap();
    assert_eq!(
        sent(&next),
        [[0i64.to_be_bytes().as_slice(), b"127.0.0.1:9618\0"].concat()]
    );
    let failed = |why| Error::MethodsFailed(vec![(Method::Fs, why)]);
    assert_eq!(
        waiting(next).receive(&int(-1)).unwrap_err(),
        failed(MethodFailure::Refused)
    );
    // not made: the server's word is still read
    let next = asked_for().1.answer(Answer::Unavailable("why".into())).unwrap();
    assert_eq!(sent(&next), [(-1i64).to_be_bytes()]);
    assert_eq!(
        waiting(next).receive(&int(-1)).unwrap_err(),
        failed(MethodFailure::Unavailable("why".into()))
    );
    let Next::Read(state) = chosen(Method::Fs, 4) else {
        panic!()
    };
    let next = state.receive(&path("")).unwrap();
    assert_eq!(sent(&next), [(-1i64).to_be_bytes()]);
    assert_eq!(
        waiting(next).receive(&int(-1)).unwrap_err(),
        failed(MethodFailure::PeerUnable)
    );
}

#[test]
fn methods_without_proof() {
    let (question, asking) = asked(chosen(Method::ClaimToBe, 2));
    assert!(matches!(question, Question::User));
    let next = asking.answer(Answer::User("alice".into())).unwrap();
    assert_eq!(
        sent(&next),
        [[1i64.to_be_bytes().as_slice(), b"alice\0"].concat()]
    );
    assert!(matches!(waiting(next).receive(&int(1)).unwrap(), Next::Read(_)));
    let Next::Read(state) = chosen(Method::Anonymous, 128) else {
        panic!()
    };
    assert!(matches!(state.receive(&int(1)).unwrap(), Next::Read(_)));
    let Next::Read(state) = chosen(Method::Anonymous, 128) else {
        panic!()
    };
    assert_eq!(
        state.receive(&int(0)).unwrap_err(),
        Error::MethodsFailed(vec![(Method::Anonymous, MethodFailure::Refused)])
    );
}

/// What went wrong before the method that worked is not forgotten when that one leads nowhere.
#[test]
fn every_reason_is_kept() {
    let next = offered(&[Method::Kerberos, Method::ClaimToBe], "KERBEROS,CLAIMTOBE");
    let (_, asking) = asked(waiting(next).receive(&int(64)).unwrap());
    let next = asking.answer(Answer::Unavailable("no ticket".into())).unwrap();
    let (_, asking) = asked(waiting(next).receive(&int(2)).unwrap());
    let next = asking.answer(Answer::User("alice".into())).unwrap();
    let state = waiting(next);
    let failed = vec![(Method::Kerberos, MethodFailure::Unavailable("no ticket".into()))];
    assert_eq!(
        state.closed(),
        Error::ClosedInMethod {
            method: Method::ClaimToBe,
            failed: failed.clone()
        }
    );
    let state = waiting(state.receive(&int(1)).unwrap());
    let Next::Seal(_, state) = state.receive(&int(0)).unwrap() else {
        panic!()
    };
    assert_eq!(
        state.closed(),
        Error::Unmapped {
            method: Method::ClaimToBe,
            failed: failed.clone()
        }
    );
    let denied = message(
        Mode::Sealed,
        &[("User", "alice@x".into()), ("ReturnCode", "DENIED".into())],
    );
    let error = state.receive(&denied).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("before that KERBEROS: we could not: no ticket"),
        "{error}"
    );
}

/// A reader may well be nobody: TLS without a certificate of ours proves the server alone.
#[test]
fn nobody_may_read() {
    let change = [("AuthMethodsList", Value::from("ANONYMOUS"))];
    let next = begun(Wish::READING, &[Method::Anonymous])
        .receive(&policy(&change))
        .unwrap();
    let state = waiting(waiting(next).receive(&int(128)).unwrap());
    let state = waiting(state.receive(&int(1)).unwrap());
    let Next::Seal(_, state) = state.receive(&int(0)).unwrap() else {
        panic!()
    };
    let ad = [
        ("User", "unauthenticated@unmapped".into()),
        ("ReturnCode", "AUTHORIZED".into()),
    ];
    assert!(matches!(
        state.receive(&message(Mode::Sealed, &ad)).unwrap(),
        Next::Done(_)
    ));
}
