//! HashiCorp's Vault, where its answers differ from OpenBao's: longer tokens, other words, nodes of more kinds.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use credential::{LongToken, VaultToken};
use jiff::Timestamp;
use vault_client::{Error, OidcError, SecretPath};

use crate::server::{Hostile, run, say, token};

/// Server-side consistent tokens have about a hundred characters and another prefix.
const TOKEN: &str =
    "hvs.CAESIJlU3pYzNqk1OLC1xYc9ZVXq1mXlP4yUuT0zJQm0mGJtGh4KHGh2cy5aY2VyTm5wZ0x5WkpXdHhWb0tLaVZ0bWs";

/// As its Enterprise edition puts it, with what we do not know beside what we do.
const HEALTH: &str = r#"{"initialized":true,"sealed":false,"standby":true,"performance_standby":true,
    "replication_performance_mode":"primary","replication_dr_mode":"disabled","server_time_utc":1790000000,
    "version":"1.19.3+ent","enterprise":true,"cluster_name":"vault-cluster","cluster_id":"9f","last_wal":42,
    "license":{"state":"autoloaded","expiry_time":"2027-01-01T00:00:00Z","terminated":false},
    "echo_duration_ms":0,"clock_skew_ms":0,"replication_primary_canary_age_ms":0}"#;

#[test]
fn its_tokens_and_its_health() {
    let login = format!(
        r#"{{"request_id":"a","lease_id":"","renewable":false,"lease_duration":0,"data":null,"wrap_info":null,
        "warnings":["TTL of \"768h\" exceeded the effective max_ttl of \"672h\"; TTL value is capped accordingly"],
        "auth":{{"client_token":"{TOKEN}","accessor":"jpQ8","policies":["kerberos-dune_production","tokenops"],
        "token_policies":["tokenops"],"metadata":{{"domain":"MTK.TEST","user":"dunepro"}},"lease_duration":2419200,
        "renewable":false,"entity_id":"3a","token_type":"service","orphan":true,"mfa_requirement":null,"num_uses":0}},
        "mount_type":"kerberos"}}"#
    );
    let server = Hostile::reading(move |stream, head| {
        if head.contains("sys/health") {
            // without these words a performance standby would answer 473, and a secondary 472
            let asked = head.contains("perfstandbyok=true") && head.contains("drsecondarycode=200");
            return say(stream, if asked { 200 } else { 473 }, HEALTH);
        }
        say(stream, 200, &login)
    });
    let client = server.client();
    let robot = "dunepro@MTK.TEST".parse().unwrap();
    run(async {
        let login = client
            .login_kerberos("dune", "production", b"x", &robot, Timestamp::now())
            .await
            .unwrap();
        assert_eq!(login.token.expose(), TOKEN);
        assert!(login.warnings.concat().contains("capped"), "{:?}", login.warnings);
        let health = client.health().await.unwrap();
        assert!(health.initialized && health.standby && !health.sealed);
        assert_eq!(health.version, "1.19.3+ent");
    });
}

#[track_caller]
fn refused(status: u16, text: &str, kind: impl Fn(&Error) -> bool) {
    let server = Hostile::reading({
        let body = serde_json::json!({ "errors": [text] }).to_string();
        move |stream, _| say(stream, status, &body)
    });
    let client = server.client();
    let path = SecretPath::new("dune", "dunepro/managedtokens/mtk.test", "production").unwrap();
    let token = LongToken::new(TOKEN.to_owned()).unwrap();
    let error = run(client.bearer(&token, &path, 60)).map(drop).unwrap_err();
    assert!(kind(&error), "{status} {text}: {error:?}");
    assert!(!format!("{error} {error:?}").contains(&TOKEN[4..30]), "{error:?}");
}

#[test]
fn its_words_for_what_a_token_may_not_do() {
    // a token that is gone; the same from 1.16 on; one that is no token at all
    for text in [
        "permission denied",
        "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n",
        "bad token",
    ] {
        refused(403, text, |e| matches!(e, Error::TokenInvalid { .. }));
    }
    refused(403, "1 error occurred:\n\t* permission denied\n\n", |e| {
        matches!(e, Error::NotPermitted { .. })
    });
    refused(412, "required index state not present", |e| {
        matches!(e, Error::ServerFailed { status: 412, .. }) && e.retryable()
    });
    refused(503, "Vault is sealed", |e| matches!(e, Error::Sealed { .. }));
    refused(400, "Vault is not initialized", |e| {
        matches!(e, Error::Uninitialised { .. })
    });
    refused(
        500,
        "local node not active but active cluster node not found",
        |e| matches!(e, Error::NoActiveNode { .. }),
    );
}

/// With `enable_response_headers` it says when to come back, and it is believed.
#[test]
fn its_quota_says_when_to_come_back() {
    let asked = Arc::new(AtomicUsize::new(0));
    let server = {
        let asked = Arc::clone(&asked);
        Hostile::new(move |stream| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => {
                let body =
                    r#"{"errors":["request path \"auth/token/lookup-self\": rate limit quota exceeded"]}"#;
                write!(
                    stream,
                    "HTTP/1.1 429 X\r\nRetry-After: 1\r\nX-Ratelimit-Limit: 10\r\nX-Ratelimit-Remaining: 0\r\n\
                     X-Ratelimit-Reset: 1\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )?;
                stream.flush()
            }
            _ => say(stream, 200, r#"{"data":{"ttl":60}}"#),
        })
    };
    let begun = Instant::now();
    let client = server.client();
    run(client.lookup_self(&token())).unwrap();
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(900) && took < Duration::from_secs(30),
        "{took:?}"
    );
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert!(
        client.waited() >= Duration::from_millis(800),
        "{:?}",
        client.waited()
    );
}

#[test]
fn its_words_at_an_oidc_login() {
    for (text, wanted) in [
        ("Vault login failed. Expired or missing OAuth state.", "StateLost"),
        (
            "Vault login failed. claim \\\"uid\\\" not found in token",
            "ClaimMissing",
        ),
        (
            "Vault login failed. Token verification failed. No id_token found in response.",
            "ClaimMissing",
        ),
    ] {
        let server = Hostile::reading(move |stream, head| match head.contains("auth_url") {
            true => say(
                stream,
                200,
                r#"{"data":{"auth_url":"https://i.example.org/","state":"s","poll_interval":"1"}}"#,
            ),
            false => say(stream, 400, &format!("{{\"errors\":[\"{text}\"]}}")),
        });
        let client = server.client();
        let error = run(async {
            let mut flow = client.oidc_start("dune", "production").await.unwrap();
            client
                .oidc_poll(&mut flow, Timestamp::now())
                .await
                .map(drop)
                .unwrap_err()
        });
        assert!(format!("{error:?}").starts_with(wanted), "{text}: {error:?}");
        assert!(!matches!(error, OidcError::Vault(_)));
    }
}
