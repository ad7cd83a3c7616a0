//! What a credd answers when something is not as it should be, by the real ones of both versions. Codes 5, 7 and 14 are in
//! other tests; 0, 2, 3 and 4 no credd can be brought to here, or are of no use for OAuth credentials.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use cedar::wire::Mode;
use testkit::hostile::relay::{Passing, Relay, Side, Verdict as Pass};

use super::*;
use crate::bed::Reconfigured;

const USER: &str = "novapro";
const SERVICE: &str = "nova_production";

/// What becomes of a message of ours.
type Change = fn(&[u8]) -> Vec<u8>;

impl Bench {
    /// Another line in its credd's configuration, until this is dropped.
    fn reconfigured(self, line: &str) -> Reconfigured {
        Reconfigured::daemon(self.host().server, "condor_credd", line)
    }

    /// Its credd, behind somebody who says other things in our place once the stream is sealed.
    async fn misquoted(self, change: Change) -> (Relay, Credd) {
        let host = self.host();
        let upstream = SocketAddr::from((host.address, host.port));
        let hook = move |passing: &Passing<'_>| match (passing.from, passing.mode) {
            (Side::Client, Mode::Sealed) => Pass::Replace(change(passing.payload)),
            _ => Pass::Pass,
        };
        let relay = Relay::start(Ipv4Addr::LOCALHOST, upstream, Arc::new(hook)).unwrap();
        let sinful = format!("<{}?alias={}&sock=credd>", relay.address(), host.name);
        let identity = identity(USER, bed().keytab(USER)).await;
        let address = CreddAddress::from_entry(&sinful).unwrap();
        (relay, Credd::new(address, identity, Options::default()))
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, credd_client::Error>, expected: ResultCode) {
    match outcome.unwrap_err().kind {
        Kind::Refused { code, .. } => assert_eq!(code, expected),
        other => panic!("{other:?}"),
    }
}

fn bytes(text: &str) -> SecretBytes {
    SecretBytes::new(text.as_bytes().to_vec())
}

/// 8 and 9: what our own commands never are.
#[test]
fn commands_that_a_credd_does_not_understand() {
    let longer = |payload: &[u8]| [payload, &[0]].concat();
    let no_name = |payload: &[u8]| {
        let mut changed = payload.to_vec();
        let at = payload.windows(5).position(|w| w == b"nova_").unwrap();
        changed[at] = b'/';
        changed
    };
    let changes: [(Change, ResultCode); 2] = [
        (longer, ResultCode::ProtocolMismatch),
        (no_name, ResultCode::BadArguments),
    ];
    for pool in [FIRST, SECOND] {
        for (change, expected) in changes {
            block(async {
                let (_relay, credd) = pool.misquoted(change).await;
                refused(credd.query(USER, SERVICE, Some("codes")).await, expected);
            });
        }
    }
}

/// 10: the credmon cannot make anything of it, so the wait runs out; it is stored all the same.
#[test]
fn a_credmon_that_does_not_react_in_time() {
    for pool in [FIRST, SECOND] {
        let _emptied = Emptied::of(pool, USER);
        let _brief = pool.reconfigured("CREDD_POLLING_TIMEOUT = 1");
        block(async {
            let credd = pool.credd(USER, bed().keytab(USER)).await;
            let terms = Terms {
                wait: true,
                ..Terms::default()
            };
            // a vault credmon asks no server for this one, and leaves it
            let json =
                bytes("{\"vault_url\": \"https://vault.mtk.test:8200/none\", \"vault_token\": \"none\"}\n");
            let stored = credd.store_on(USER, SERVICE, None, &json, &terms).await.unwrap();
            assert_eq!((stored.code, stored.used), (ResultCode::CredmonTimeout, None));
            assert!(pool.file(USER, "nova_production.top").exists());
        });
    }
}

/// 11: it has nowhere to put it.
#[test]
fn a_credd_without_a_directory() {
    for pool in [FIRST, SECOND] {
        let _unset = pool.reconfigured("SEC_CREDENTIAL_DIRECTORY_OAUTH =");
        block(async {
            let credd = pool.credd(USER, bed().keytab(USER)).await;
            refused(
                credd.store(USER, SERVICE, Some("codes"), &handle_json()).await,
                ResultCode::ConfigError,
            );
        });
    }
}

/// 12 and 13: scopes want an object of JSON to be in, and are compared with what is there.
#[test]
fn scopes_for_what_is_no_json() {
    for pool in [FIRST, SECOND] {
        // without the service's own a credmon throws those of its handles away
        let _refreshed = pool.refreshed();
        block(async {
            let credd = pool.credd(USER, bed().keytab(USER)).await;
            let terms = Terms {
                restriction: Restriction {
                    scopes: Some("compute.read".to_owned()),
                    audience: None,
                },
                ..Terms::default()
            };
            refused(
                credd
                    .store_on(USER, SERVICE, Some("codes"), &bytes("no object\n"), &terms)
                    .await,
                ResultCode::NotJson,
            );
            // and one that was damaged where it lies
            credd
                .store(USER, SERVICE, Some("codes"), &handle_json())
                .await
                .unwrap();
            let asked = credd.query_restricted(USER, SERVICE, Some("codes"), &terms.restriction);
            assert!(asked.await.unwrap().other_restriction);
            std::fs::write(pool.file(USER, "nova_production_codes.top"), "no object\n").unwrap();
            let held = credd
                .query_restricted(USER, SERVICE, Some("codes"), &terms.restriction)
                .await
                .unwrap();
            assert!(held.damaged && held.top.is_some(), "{held:?}");
        });
    }
}

/// In frames of a megabyte, byte for byte; and what is longer than a credd takes never leaves us.
#[test]
fn a_credential_of_three_megabytes() {
    let more = "x".repeat(3_000_000);
    let text = format!(
        "{{\"vault_url\": \"https://vault.mtk.test:8200/none\", \"vault_token\": \"none\", \"more\": \"{more}\"}}\n"
    );
    for pool in [FIRST, SECOND] {
        let _emptied = Emptied::of(pool, USER);
        block(async {
            let credd = pool.credd(USER, bed().keytab(USER)).await;
            credd.store(USER, SERVICE, None, &bytes(&text)).await.unwrap();
            let there = std::fs::read(pool.file(USER, "nova_production.top")).unwrap();
            assert!(there == text.as_bytes(), "{} bytes", there.len());
        });
    }
}

/// What else mtk does, in a pool of 25.14.
#[test]
fn a_service_of_the_second_pool_from_end_to_end() {
    let _emptied = Emptied::of(SECOND, USER);
    let operator = Operator::changed(COLLECTOR.name, SECOND_POOL.name);
    let service = ["--service", SERVICE];
    let report = operator.run(&service);
    report.all(&["done", "fresh"]);
    let places: Vec<String> = report.edges().into_iter().map(|edge| edge.place).collect();
    assert!(places.iter().any(|place| place == SECOND_POOL.name), "{places:?}");
    assert!(!places.iter().any(|place| place == ACCESS_POINTS[0].name));
    for (words, said) in [
        (&["status", "--service", SERVICE][..], SERVICE),
        (&["credd", "list", "--service", SERVICE], SERVICE),
        (&["refresh", "--service", SERVICE], SERVICE),
        (&["push", "--service", SERVICE], SERVICE),
        (&["doctor", SERVICE], SECOND_POOL.name),
    ] {
        let ran = operator.mtk(words);
        assert_eq!(ran.code, Some(0), "{words:?}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains(said), "{words:?}: {}", ran.stdout);
    }
}
