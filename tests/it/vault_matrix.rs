//! What the acceptance matrix of vault.md 10.6 asks for and no other test shows, from our client against the real server:
//! logins that are refused, lives of parents and children, every answer to a bearer read, what a person's login may meet.
//! docs/vault-acceptance.md says which test shows which row.

use std::{collections::BTreeSet, path::Path, time::Duration};

use credential::{Lifetime, LongToken, NODE_TOKEN_LIMIT, VaultToken};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use testkit::site::VAULT;
use vault_client::{Client, Error, Flow, OidcError, Options, Polled, SecretPath};

use crate::{
    bed::{Stopped, bed},
    vault_tokens::{Robot, Ticketed, trusting},
    waiting::block,
};

fn client(change: impl FnOnce(&mut Options)) -> Client {
    let mut options = Options::new(VAULT.name.parse().unwrap(), trusting());
    change(&mut options);
    Client::new(options).unwrap()
}

#[test]
fn a_ticket_is_good_for_one_login_at_its_own_server() {
    block(async {
        let client = client(|_| {});
        let robot = Ticketed::new().await;
        let refused = |error: Error| {
            assert!(
                matches!(&error, Error::TicketRefused { text, .. } if text == "Unauthorised."),
                "{error:?}"
            );
            assert!(!error.retryable());
        };
        // another server's key: what a wrong alias comes to
        let other = robot.for_service("host/gss.mtk.test@").await;
        refused(robot.log_in(&client, &other).await.unwrap_err());

        let ap_req = robot.for_service(&client.kerberos_target()).await;
        let login = robot.log_in(&client, &ap_req).await.unwrap();
        refused(robot.log_in(&client, &ap_req).await.unwrap_err());
        // whoever replayed it has taken nothing away
        client.revoke_self(&login.token).await.unwrap();
    });
}

#[test]
fn a_good_ticket_and_an_ldap_server_that_is_down() {
    block(async {
        let client = client(|_| {});
        let robot = Ticketed::new().await;
        let service = client.kerberos_target();
        let ap_req = robot.for_service(&service).await;
        let down = Stopped::server("ldap");
        let failed = robot.log_in(&client, &ap_req).await.unwrap_err();
        drop(down);
        assert!(
            matches!(failed, Error::LdapDown { .. }) && failed.retryable(),
            "{failed:?}"
        );
        let ap_req = robot.for_service(&service).await;
        let login = robot.log_in(&client, &ap_req).await.unwrap();
        client.revoke_self(&login.token).await.unwrap();
    });
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

#[test]
fn lives_are_what_is_granted_and_children_end_with_their_parents() {
    block(async {
        let robot = Robot::new().await;
        let (client, login) = (&robot.client, &robot.login);
        let now = Timestamp::now();
        for days in [7, 1] {
            let child = client
                .create_child(&login.token, login.lifetime, DAY * days, now)
                .await;
            let child = child.unwrap();
            assert_eq!(child.token.lifetime().granted(), DAY * days);
            assert!(child.warnings.is_empty(), "{:?}", child.warnings);
        }
        // more than a file may have is not even asked for; where it may be, the server cuts it and says so
        let refused = client
            .create_child(&login.token, login.lifetime, DAY * 40, now)
            .await;
        let refused = refused.map(drop).unwrap_err();
        assert!(
            matches!(
                refused,
                Error::BadLifetime {
                    limit: NODE_TOKEN_LIMIT,
                    ..
                }
            ),
            "{refused:?}"
        );
        let long = client
            .create_long_child(&login.token, login.lifetime, DAY * 40, now)
            .await
            .unwrap();
        assert!(long.warnings.concat().contains("capped"), "{:?}", long.warnings);
        assert!(long.lifetime.until() <= login.lifetime.until());
        assert_eq!(
            client.lookup_self(&long.token).await.unwrap().creation_ttl,
            DAY * 28
        );

        // an old parent: the server names a life for its child that the child does not have, and we do not believe it
        let old = client
            .create_long_child(&login.token, login.lifetime, SignedDuration::from_secs(2), now)
            .await
            .unwrap();
        let child = client
            .create_child(&old.token, old.lifetime, DAY * 7, now)
            .await
            .unwrap();
        assert_eq!(child.token.lifetime().until(), old.lifetime.until());
        assert!(client.lookup_self(&child.token).await.unwrap().ttl > DAY * 6);
        let until = std::time::Instant::now() + Duration::from_secs(60);
        while client.lookup_self(&child.token).await.is_ok() {
            assert!(std::time::Instant::now() < until, "it outlives its parent");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let gone = client
            .bearer(&child.token, &robot.path, 60)
            .await
            .map(drop)
            .unwrap_err();
        assert!(matches!(gone, Error::TokenInvalid { .. }), "{gone:?}");
        client.revoke_self(&login.token).await.unwrap();
    });
}

#[test]
fn a_child_takes_nobody_along_and_a_parent_takes_its_children() {
    block(async {
        let robot = Robot::new().await;
        let (client, login) = (&robot.client, &robot.login);
        let child = async |parent: &LongToken, life: Lifetime| {
            let child = client.create_child(parent, life, DAY, Timestamp::now()).await;
            child.unwrap().token
        };
        let [first, second] = [
            child(&login.token, login.lifetime).await,
            child(&login.token, login.lifetime).await,
        ];
        // a child may itself have children
        let parent = LongToken::new(first.expose().to_owned()).unwrap();
        let grandchild = child(&parent, first.lifetime()).await;

        client.revoke_self(&first).await.unwrap();
        for gone in [&first, &grandchild] {
            let error = client.lookup_self(gone).await.unwrap_err();
            assert!(matches!(error, Error::TokenInvalid { .. }), "{error:?}");
        }
        client.lookup_self(&second).await.unwrap();
        client.lookup_self(&login.token).await.unwrap();

        client.revoke_self(&login.token).await.unwrap();
        assert!(client.lookup_self(&second).await.is_err());
        // again finds nothing to revoke
        let again = client.revoke_self(&login.token).await.unwrap_err();
        assert!(matches!(again, Error::TokenInvalid { .. }), "{again:?}");
    });
}

/// A server entry of the secrets engine that is like another's, until the guard is dropped.
struct Copied;

impl Copied {
    const PATH: &str = "/v1/secret/oauth/servers/copied";

    fn new() -> Self {
        let mut body = json!({
            "provider": "oidc", "provider_options": {"issuer_url": testkit::site::ISSUER_URL},
            "client_id": testkit::site::CLIENT_ID,
        });
        body["client_secret"] = testkit::bed::issuer::CLIENT_SECRET.into();
        bed().vault("POST", Self::PATH, Some(body)).unwrap();
        Self
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        let _gone = bed().vault("DELETE", Self::PATH, None);
    }
}

#[test]
fn every_answer_to_a_bearer_read() {
    // longer than any token of the issuer, so that Vault must ask for a new one
    const FRESH: u32 = 100_000;
    let copied = Copied::new();
    let gone = bed().forget("copied", "default", "reader");
    bed().onboard("copied", "default", "reader", "reader");
    block(async {
        let robot = Robot::new().await;
        let client = &robot.client;
        // what no policy stands between
        let root = LongToken::new(bed().root_token().trim().to_owned()).unwrap();
        let reader = SecretPath::new("copied", "reader", "default").unwrap();
        let read = async |seconds| client.bearer(&root, &reader, seconds).await;

        let first = read(60).await.unwrap();
        assert_eq!(first.token.claims().unwrap().sub, "reader");
        assert_eq!(read(60).await.unwrap().token.expose(), first.token.expose());

        // 400 token expired, for both its reasons: the issuer's tokens live shorter, or the issuer is down
        let short = read(FRESH).await.unwrap_err();
        assert!(
            matches!(
                short,
                Error::TokenExpired400 {
                    minimum_seconds: FRESH,
                    ..
                }
            ),
            "{short:?}"
        );
        {
            let _down = bed().issuer_with("token_fail", json!({"status": 503}));
            let down = read(FRESH).await.unwrap_err();
            assert!(matches!(down, Error::TokenExpired400 { .. }), "{down:?}");
        }
        // 400 refresh failed
        bed().revoke_at_issuer("reader");
        let refused = read(FRESH).await.unwrap_err();
        assert!(
            matches!(&refused, Error::RefreshRefused { text, .. } if text.contains("invalid_grant")),
            "{refused:?}"
        );
        assert!(!refused.retryable());
        // 400, the issuer was removed
        drop(copied);
        let removed = read(FRESH).await.unwrap_err();
        assert!(matches!(removed, Error::IssuerRemoved { .. }), "{removed:?}");
        // 404
        drop(gone);
        let absent = read(60).await.unwrap_err();
        assert!(matches!(absent, Error::NotOnboarded { .. }), "{absent:?}");

        // 403 of the one kind: the token is good, and the secret is somebody else's
        let other = SecretPath::new("dune", "nearpro/managedtokens/mtk.mtk.test", "production").unwrap();
        let denied = client
            .bearer(&robot.login.token, &other, 60)
            .await
            .map(drop)
            .unwrap_err();
        assert!(matches!(denied, Error::NotPermitted { .. }), "{denied:?}");
        assert!(denied.to_string().contains("credkey"), "{denied}");
        // and of the other: the token is no more
        client.revoke_self(&robot.login.token).await.unwrap();
        let dead = client
            .bearer(&robot.login.token, &robot.path, 60)
            .await
            .map(drop)
            .unwrap_err();
        assert!(matches!(dead, Error::TokenInvalid { .. }), "{dead:?}");
    });
}

async fn begun(client: &Client) -> Flow {
    client.oidc_start("dune", "default").await.unwrap()
}

async fn polled(client: &Client, flow: &mut Flow) -> Result<Polled, OidcError> {
    client.oidc_poll(flow, Timestamp::now()).await
}

#[test]
fn what_an_issuer_says_of_a_login_in_a_browser() {
    block(async {
        let client = client(|_| {});
        let mut flow = begun(&client).await;
        let pause = flow.pause();
        assert!(matches!(polled(&client, &mut flow).await, Ok(Polled::Pending)));
        assert_eq!(flow.pause(), pause, "authorization_pending");
        {
            let _busy = bed().issuer_with("token_fail", json!({"status": 400, "error": "slow_down"}));
            assert!(matches!(polled(&client, &mut flow).await, Ok(Polled::Pending)));
            assert_eq!(flow.pause(), pause + Duration::from_secs(5), "slow_down");
        }
        bed().consent(flow.address(), "alice");
        let Ok(Polled::Done(login)) = polled(&client, &mut flow).await else {
            panic!("nothing came of the consent")
        };
        client.revoke_self(&login.token).await.unwrap();
        // an answer is given once: who lost it starts again
        let again = polled(&client, &mut flow).await.map(drop).unwrap_err();
        assert!(matches!(again, OidcError::StateLost { .. }), "{again:?}");

        for (said, wanted) in [("access_denied", "Denied"), ("expired_token", "Expired")] {
            let mut flow = begun(&client).await;
            let _no = bed().issuer_with("token_fail", json!({"status": 400, "error": said}));
            let error = polled(&client, &mut flow).await.map(drop).unwrap_err();
            assert!(format!("{error:?}").starts_with(wanted), "{error:?}");
        }
    });
}

/// Each row of the acceptance matrix names tests that are there.
#[test]
fn the_table_of_the_matrix_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let table = std::fs::read_to_string(root.join("docs/vault-acceptance.md")).unwrap();
    let mut rows = BTreeSet::new();
    for line in table
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [row, tests, ..] = cells[..] else {
            panic!("{line}")
        };
        assert!(rows.insert(row.to_owned()), "{row} stands there twice");
        for name in tests.split('`').skip(1).step_by(2) {
            let (file, test) = name
                .rsplit_once("::")
                .unwrap_or_else(|| panic!("{name} has no file"));
            let path = if file.contains('/') {
                root.join(file)
            } else {
                root.join("tests/it").join(format!("{file}.rs"))
            };
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert!(
                text.contains(&format!("fn {test}()")),
                "{} has no {test}",
                path.display()
            );
        }
    }
    assert!(rows.len() >= 40, "{} rows", rows.len());
}
