//! An issuer, or a Vault before it, that never comes to an end or says what makes no sense.

use std::{
    io::Write,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use vault_client::{Client, Error, Flow, OidcError};

use crate::server::{Hostile, run, say};

const STARTED: &str = r#"{"data":{"auth_url":"https://issuer.example.org/device?user_code=ABCD","state":"STATEOFOURS","poll_interval":"1"}}"#;

/// A login that is begun as it should, and polls that are answered so.
fn polled(status: u16, body: impl Into<String>) -> Hostile {
    let body = body.into();
    Hostile::reading(move |stream, head| match head.contains("auth_url") {
        true => say(stream, 200, STARTED),
        false => say(stream, status, &body),
    })
}

fn refused(text: &str) -> String {
    format!("{{\"errors\":[\"{text}\"]}}")
}

async fn begun(hostile: &Hostile) -> (Client, Flow) {
    let client = hostile.client();
    let flow = client.oidc_start("dune", "production").await.unwrap();
    (client, flow)
}

/// Waits as a person would be waited for, and what came of it; nothing of the flow's secrets is in it.
fn waited(hostile: &Hostile, patience: Duration) -> (OidcError, usize) {
    let error = run(async {
        let (client, mut flow) = begun(hostile).await;
        client.oidc_wait(&mut flow, patience).await.map(drop).unwrap_err()
    });
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("STATEOFOURS"), "{shown}");
    assert!(
        shown.len() < 4000 && !error.to_string().contains(['\n', '\u{1b}']),
        "{shown}"
    );
    (error, hostile.requests.load(Ordering::Relaxed) - 1)
}

const PATIENCE: Duration = Duration::from_millis(1500);

#[test]
fn who_is_told_to_wait_forever_stops_in_time() {
    let begun = Instant::now();
    let (error, polls) = waited(&polled(400, refused("authorization_pending")), PATIENCE);
    assert!(matches!(error, OidcError::TimedOut { .. }), "{error:?}");
    assert!((1..=3).contains(&polls), "{polls} polls");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_storm_of_slow_down_makes_slow_and_no_longer() {
    let storm = polled(400, refused("slow_down"));
    let begun_at = Instant::now();
    let (error, polls) = waited(&storm, PATIENCE);
    assert!(matches!(error, OidcError::TimedOut { .. }), "{error:?}");
    assert_eq!(polls, 1, "the next one would be too late");
    assert!(begun_at.elapsed() < Duration::from_secs(5));
    run(async {
        let (client, mut flow) = begun(&storm).await;
        let mut last = flow.pause();
        for _ in 0..20 {
            client.oidc_poll(&mut flow, Timestamp::now()).await.unwrap();
            assert_eq!(flow.pause(), last + Duration::from_secs(5));
            last = flow.pause();
        }
    });
}

/// Somebody agreed, and the answer that says so is lost on the way: Vault gives it once, as a real one does (vault.md 5.2).
#[test]
fn an_agreement_whose_answer_is_lost_is_asked_for_once_more_and_begun_again() {
    for cut in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{\"auth\":{\"client_token\":\"s.x",
    ] {
        let delivered = AtomicUsize::new(0);
        let hostile = Hostile::reading(move |stream, head| {
            if head.contains("auth_url") {
                return say(stream, 200, STARTED);
            }
            if delivered.fetch_add(1, Ordering::Relaxed) == 0 {
                stream.write_all(cut.as_bytes())?;
                stream.flush()?;
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            let lost = "OpenBao login failed. Expired or missing OAuth state.";
            say(stream, 400, &refused(lost))
        });
        let (error, polls) = waited(&hostile, Duration::from_secs(60));
        assert!(matches!(error, OidcError::StateLost { .. }), "{error:?}");
        assert!(error.to_string().contains("start again"), "{error}");
        assert_eq!(polls, 2, "{cut}");
    }
}

#[test]
fn what_has_ended_is_not_asked_for_again() {
    for (status, text, wanted) in [
        (400, "authorization failed: expired_token", "Expired"),
        (400, "authorization failed: access_denied", "Denied"),
        (
            400,
            "Vault login failed. Expired or missing OAuth state.",
            "StateLost",
        ),
        (500, "error polling for device authorization: 503", "Issuer"),
    ] {
        let hostile = polled(status, refused(text));
        for _ in 0..3 {
            hostile.requests.store(0, Ordering::Relaxed);
            let (error, polls) = waited(&hostile, Duration::from_secs(60));
            assert!(format!("{error:?}").starts_with(wanted), "{error:?}");
            assert_eq!(polls, 1);
        }
    }
}

#[test]
fn garbage_is_an_end_and_never_an_agreement() {
    let long = "x".repeat(100_000);
    for (status, body) in [
        (200, ""),
        (200, "null"),
        (200, "[]"),
        (200, "{}"),
        (200, "<html>"),
        (200, r#"{"auth":{}}"#),
        (200, r#"{"auth":{"client_token":"s.x","lease_duration":60}}"#),
        (
            200,
            r#"{"auth":{"client_token":"s.x","lease_duration":60,"metadata":7}}"#,
        ),
        (
            200,
            r#"{"auth":{"client_token":"s.x\ny","lease_duration":60,"metadata":{"oauth2_refresh_token":"r"}}}"#,
        ),
        (
            200,
            r#"{"auth":{"client_token":"s.x","lease_duration":60,"metadata":{"oauth2_refresh_token":"r\nX"}}}"#,
        ),
        (
            200,
            r#"{"auth":{"client_token":"s.x","lease_duration":0,"metadata":{"oauth2_refresh_token":"r"}}}"#,
        ),
        (400, ""),
        (400, "{"),
        (400, r#"{"errors":[]}"#),
        (400, r#"{"errors":["\u001b[2Jauthorization"]}"#),
        (400, long.as_str()),
        (204, ""),
        (302, ""),
        (418, r#"{"errors":["authorization_pending"]}"#),
    ] {
        let (error, polls) = waited(&polled(status, body), Duration::from_secs(60));
        assert_eq!(polls, 1, "{status} {body}: {error:?}");
    }
}

#[test]
fn a_beginning_that_is_none() {
    for body in [
        "{}",
        r#"{"data":{}}"#,
        r#"{"data":{"auth_url":"","state":"s"}}"#,
        r#"{"data":{"auth_url":"http://issuer.example.org/","state":"s"}}"#,
        r#"{"data":{"auth_url":"javascript:alert(1)","state":"s"}}"#,
        r#"{"data":{"auth_url":"https://u:p@issuer.example.org/","state":"s"}}"#,
        r#"{"data":{"auth_url":"https://issuer.example.org/","state":""}}"#,
        r#"{"data":{"auth_url":"https://issuer.example.org/"}}"#,
        r#"{"data":{"auth_url":7,"state":[]}}"#,
    ] {
        let client_of = Hostile::json(body);
        let error = run(client_of.client().oidc_start("dune", "production"))
            .map(drop)
            .unwrap_err();
        assert!(
            matches!(
                error,
                OidcError::RedirectRefused { .. } | OidcError::Vault(Error::BadAnswer { .. })
            ),
            "{body}: {error:?}"
        );
    }
    // a pause nobody can want is brought within bounds
    for (said, wanted) in [
        ("\"-3\"", 5),
        ("\"999999999999\"", 60),
        ("1e300", 5),
        ("{}", 5),
        ("0", 1),
    ] {
        let body = format!(
            "{{\"data\":{{\"auth_url\":\"https://i.example.org/\",\"state\":\"s\",\"poll_interval\":{said}}}}}"
        );
        let flow = run(Hostile::json(&body).client().oidc_start("dune", "production")).unwrap();
        assert_eq!(flow.pause().as_secs(), wanted, "{said}");
    }
}
