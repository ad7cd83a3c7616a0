//! What collectors and credds can be asked, on HTCondor 23.9 and on the second pool's 25.14, as a library and by
//! `mtk credd`.

mod codes;

use std::{io::ErrorKind, path::PathBuf, time::Duration};

use credd_client::{
    All, Collector, Credd, CreddAddress, Held, Identity, Keep, Kind, Options, Pool, Restriction, ResultCode,
    Terms, Verdict, Wanted,
    ads::{Kind as AdKind, Limits, Query},
};
use credential::SecretBytes;
use kerberos::{Gss, Keytab};
use serde_json::Value;
use testkit::{
    bed::pool_sid,
    site::{ACCESS_POINTS, COLLECTOR, Host, REALM, SECOND_POOL},
};

use crate::{
    bed::{Frozen, bed},
    credmon,
    mtk::Operator,
    waiting::block,
};

/// A pool by its collector, one credd of it, and the version it must have.
#[derive(Clone, Copy)]
struct Bench {
    collector: &'static str,
    credd: &'static str,
    version: &'static str,
}

const FIRST: Bench = Bench {
    collector: COLLECTOR.name,
    credd: ACCESS_POINTS[0].name,
    version: "23.9.6",
};

const SECOND: Bench = Bench {
    collector: SECOND_POOL.name,
    credd: SECOND_POOL.name,
    version: pool_sid::VERSION,
};

impl Bench {
    /// Its credd as the robot of an account, for that account.
    async fn credd(self, account: &str, keytab: PathBuf) -> Credd {
        let address = self.address().await;
        Credd::new(address, identity(account, keytab).await, Options::default())
    }

    async fn address(self) -> CreddAddress {
        let collectors = [self.collector.to_owned()];
        credd_client::locate(&collectors, self.credd, &Options::default())
            .await
            .unwrap()
    }

    fn file(self, account: &str, name: &str) -> PathBuf {
        bed().oauth_file(self.host().server, account, name)
    }

    fn host(self) -> Host {
        if self.credd == SECOND_POOL.name {
            SECOND_POOL
        } else {
            ACCESS_POINTS[0]
        }
    }

    /// A real credential of novapro in place, by mtk itself, and no other before and after.
    fn refreshed(self) -> (Operator, Emptied) {
        let emptied = Emptied::of(self, "novapro");
        let operator = Operator::changed(COLLECTOR.name, self.collector);
        operator
            .report(&[
                "refresh",
                "--output",
                "json",
                "--service",
                "nova_production",
                "--credd",
                self.credd,
            ])
            .all(&["done", "fresh"]);
        (operator, emptied)
    }
}

/// An account of which a credd holds nothing now, and nothing when this is dropped, also by a failed assertion.
struct Emptied(PathBuf);

impl Emptied {
    fn of(pool: Bench, account: &str) -> Self {
        let emptied = Self(pool.file(account, ""));
        emptied.empty();
        emptied
    }

    fn empty(&self) {
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => panic!("{}: {error}", self.0.display()),
            _ => {}
        }
    }
}

impl Drop for Emptied {
    fn drop(&mut self) {
        self.empty();
    }
}

/// What is held of a credential once the credmon has been there. Every question is a signal to one of 23.9, so few are asked.
async fn when_used(pool: Bench, credd: &Credd, service: &str, handle: Option<&str>) -> Held {
    let stem = handle.map_or(service.to_owned(), |handle| format!("{service}_{handle}"));
    credmon::used(pool.host().server, "novapro", &stem);
    credd.query("novapro", service, handle).await.unwrap()
}

async fn identity(account: &str, keytab: PathBuf) -> Identity {
    let principal = format!("{account}/managedtokens/mtk.mtk.test@{REALM}")
        .parse()
        .unwrap();
    let gss = Gss::new(2);
    let ticket = gss
        .acquire(&Keytab::open(&keytab, &principal).unwrap())
        .await
        .unwrap();
    Identity::kerberos(ticket, gss, account)
}

/// A handle's credential: the credmon takes the token from the service's own.
fn handle_json() -> SecretBytes {
    let credkey = "novapro/managedtokens/mtk.mtk.test";
    let url = format!("https://vault.mtk.test:8200/v1/secret/oauth/creds/nova/{credkey}:production");
    SecretBytes::new(format!("{{\"vault_url\": \"{url}\"}}\n").into_bytes())
}

fn everything_a_credd_does(pool: Bench) {
    credmon::hearing(pool.host().server);
    let _refreshed = pool.refreshed();
    block(async {
        let credd = pool.credd("novapro", bed().keytab("novapro")).await;
        let terms = Terms {
            wait: true,
            ..Terms::default()
        };
        let handle = Some("h1");
        let stored = credd
            .store_on("novapro", "nova_production", handle, &handle_json(), &terms)
            .await
            .unwrap();
        let version = credd.server_version().unwrap();
        assert!(version.contains(pool.version), "{version}");
        // waited for: the credmon has been there, unless it was not quick enough for the credd
        let held = when_used(pool, &credd, "nova_production", handle).await;
        assert!(
            stored.used.is_none_or(|used| held.used >= Some(used)),
            "{stored:?}"
        );
        assert!(held.top.is_some() && held.used.is_some(), "{held:?}");
        let names =
            |entries: Vec<credd_client::Entry>| entries.into_iter().map(|e| e.name).collect::<Vec<_>>();
        let listed = names(credd.list("novapro").await.unwrap());
        assert!(listed.contains(&"nova_production".into()) && listed.contains(&"nova_production_h1".into()));

        let wanted = |handle: &str| Wanted {
            service: "nova_production".into(),
            handle: Some(handle.into()),
            ..Wanted::default()
        };
        assert_eq!(credd.check(&[wanted("h1")]).await.unwrap(), Verdict::Present);
        let missing = credd.check(&[wanted("h1"), wanted("h2")]).await.unwrap();
        assert_ne!(missing, Verdict::Present);

        let token = credd.access_token("nova_production", handle).await;
        if pool.version.starts_with("23") {
            // it came with 24.1.1
            token.unwrap_err();
        } else {
            let used = std::fs::read_to_string(pool.file("novapro", "nova_production_h1.use")).unwrap();
            assert_eq!(token.unwrap().expose(), used.trim());
            let none = credd.access_token("nova_production", Some("none")).await;
            assert!(matches!(none.unwrap_err().kind, Kind::NoToken { .. }));
        }

        credd.delete("novapro", "nova_production", handle).await.unwrap();
        assert_eq!(names(credd.list("novapro").await.unwrap()), ["nova_production"]);
        credd.delete_everything("novapro", All).await.unwrap();
        assert!(credd.list("novapro").await.unwrap().is_empty());
        // all that on one authentication
        assert_eq!(credd.handshakes(), 1 + u64::from(pool.version.starts_with("23")));
    });
}

#[test]
fn everything_a_credd_of_23_does() {
    everything_a_credd_does(FIRST);
}

#[test]
fn everything_a_credd_of_25_does() {
    everything_a_credd_does(SECOND);
}

#[test]
fn scopes_are_compared_as_text() {
    for pool in [FIRST, SECOND] {
        credmon::hearing(pool.host().server);
        let _refreshed = pool.refreshed();
        block(async {
            let credd = pool.credd("novapro", bed().keytab("novapro")).await;
            let restriction = |scopes: &str| Restriction {
                scopes: Some(scopes.to_owned()),
                audience: Some("https://x.test".to_owned()),
            };
            let terms = Terms {
                restriction: restriction("storage.read:/b,compute.read"),
                ..Terms::default()
            };
            let (user, service, handle) = ("novapro", "nova_production", Some("scoped"));
            credd
                .store_on(user, service, handle, &handle_json(), &terms)
                .await
                .unwrap();
            for (scopes, other) in [
                ("storage.read:/b,compute.read", false),
                ("compute.read,storage.read:/b", true),
            ] {
                let held = credd
                    .query_restricted(user, service, handle, &restriction(scopes))
                    .await
                    .unwrap();
                assert_eq!(held.other_restriction, other, "{scopes} on {}", pool.version);
                assert!(held.top.is_some());
            }
            credd.delete_everything("novapro", All).await.unwrap();
        });
    }
}

#[test]
fn a_super_user_stores_for_whom_it_was_set_up_and_nobody_else_does() {
    let keytab = bed().keytab_of("super/managedtokens/mtk.mtk.test", "super");
    for pool in [FIRST, SECOND] {
        block(async {
            let options = Options::default();
            let robot = identity("super", keytab.clone()).await;
            let timid = Credd::new(pool.address().await, robot.clone(), options.clone());
            let error = timid
                .store("mu2eana", "kept", None, &handle_json())
                .await
                .unwrap_err();
            assert!(matches!(error.kind, Kind::NotActingFor { .. }), "{error:?}");
            assert_eq!(timid.handshakes(), 0, "nothing may have been sent");

            let credd = Credd::new(pool.address().await, robot, options.clone());
            let credd = credd.acting_for(["mu2eana".to_owned()]);
            let stored = credd
                .store("mu2eana", "kept", None, &handle_json())
                .await
                .unwrap();
            assert_eq!(stored.user, "mu2eana@mtk.test");
            assert_eq!(credd.mapped_user().as_deref(), Some("super@mtk.test"));
            assert!(pool.file("mu2eana", "kept.top").exists());
            assert!(!pool.file("super", "kept.top").exists());
            credd.delete("mu2eana", "kept", None).await.unwrap();

            // an ordinary robot may be set up so, and the credd refuses
            let other = Credd::new(
                pool.address().await,
                identity("novapro", bed().keytab("novapro")).await,
                options,
            );
            let other = other.acting_for(["mu2eana".to_owned()]);
            let error = other
                .store("mu2eana", "kept", None, &handle_json())
                .await
                .unwrap_err();
            let code = ResultCode::NotAllowed;
            assert!(
                matches!(&error.kind, Kind::Refused { code: c, .. } if *c == code),
                "{error:?}"
            );
            assert!(!pool.file("mu2eana", "kept.top").exists());
        });
    }
}

#[test]
fn collectors_are_asked_for_anything_in_part_and_as_a_stream() {
    for pool in [FIRST, SECOND] {
        block(async {
            let collector = Collector::new(pool.collector).unwrap();
            let options = Options::default();
            let names = Query::all(AdKind::Any, &["MyType", "Name"]);
            let mut stream = collector.stream(&names, Limits::DEFAULT, &options).await.unwrap();
            let mut kinds = Vec::new();
            while let Some(ad) = stream.next().await.unwrap() {
                kinds.push(ad.text("MyType").unwrap_or_default().to_owned());
                // a projection leaves little more than what was asked for
                assert!(ad.len() < 12, "{ad:?}");
            }
            for kind in ["Scheduler", "CredD", "Collector"] {
                assert!(kinds.iter().any(|k| k == kind), "{kind} is not among {kinds:?}");
            }
            let one = collector
                .query(&names.clone().at_most(1), &options)
                .await
                .unwrap();
            assert_eq!(one.len(), 1);
            let constraint = format!("MyType == \"CredD\" && Name == \"{}\"", pool.credd);
            let credd = collector
                .query(&names.clone().matching(Some(&constraint)), &options)
                .await
                .unwrap();
            assert_eq!(credd.len(), 1);
            let generic = Query::all(AdKind::Generic("CredD".into()), &["Name"]);
            assert!(!collector.query(&generic, &options).await.unwrap().is_empty());
            let error = collector
                .query(&names.matching(Some("Name ==")), &options)
                .await
                .unwrap_err();
            assert!(matches!(error.kind, Kind::ConstraintRejected { .. }), "{error:?}");
        });
    }
}

#[test]
fn the_last_good_answer_stands_in_while_the_collector_hangs() {
    block(async {
        let options = Options {
            step: Duration::from_millis(500),
            ..Options::default()
        };
        let keep = Keep {
            fresh: Duration::ZERO,
            stale: Duration::from_secs(60),
        };
        let pool = Pool::new(&[COLLECTOR.name.to_owned()], keep, options);
        let before = pool.schedds(None).await.unwrap();
        assert_eq!(before.len(), ACCESS_POINTS.len());
        let frozen = Frozen::server("condor");
        assert_eq!(pool.schedds(None).await.unwrap(), before);
        // never asked before, so nothing stands in
        assert!(pool.schedds(Some("Name == \"x\"")).await.is_err());
        drop(frozen);
    });
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// `mtk credd` as on a host that has nothing but a keytab.
fn by_keytab(operator: &Operator, pool: Bench, words: &[&str], names: &[&str]) -> (Option<i32>, Value) {
    let keytab = bed().keytab("novapro");
    let principal = format!("novapro/managedtokens/mtk.mtk.test@{REALM}");
    let mut all = vec!["credd"];
    all.extend(words);
    all.extend(["--keytab", keytab.to_str().unwrap(), "--principal", &principal]);
    all.extend([
        "--collector",
        pool.collector,
        "--credd",
        pool.credd,
        "--output",
        "json",
    ]);
    all.extend(names);
    let ran = operator.mtk(&all);
    assert!(!ran.stdout.is_empty(), "{}", ran.stderr);
    (ran.code, json(&ran.stdout))
}

#[test]
fn listing_and_deleting_with_nothing_but_a_keytab() {
    for pool in [FIRST, SECOND] {
        let (operator, _emptied) = pool.refreshed();
        block(async {
            let credd = pool.credd("novapro", bed().keytab("novapro")).await;
            for handle in ["old1", "old2"] {
                credd
                    .store("novapro", "nova_production", Some(handle), &handle_json())
                    .await
                    .unwrap();
            }
        });
        let service = ["--service", "nova_production"];
        let (code, answer) = by_keytab(&operator, pool, &["list"], &service);
        assert_eq!(code, Some(0));
        let credentials = answer["credds"][0]["credentials"].as_array().unwrap();
        let handles: Vec<&Value> = credentials.iter().map(|c| &c["handle"]).collect();
        assert_eq!(handles, [&Value::Null, &"old1".into(), &"old2".into()]);
        assert!(credentials[0]["top_age_seconds"].as_i64().unwrap() < 120);

        // too young, then only said, then done; the service's own stays in each case
        let fates = |words: &[&str]| {
            let (code, answer) = by_keytab(
                &operator,
                pool,
                &["delete", "nova*"],
                &[&service[..], words].concat(),
            );
            assert_eq!(code, Some(0), "{answer}");
            let all = answer["credds"][0]["credentials"].as_array().unwrap().clone();
            all.iter()
                .map(|c| {
                    format!(
                        "{} {}",
                        c["handle"].as_str().unwrap(),
                        c["fate"].as_str().unwrap()
                    )
                })
                .collect::<Vec<_>>()
        };
        assert!(fates(&["--min-age", "1d"]).is_empty());
        let would = ["old1 would-be-deleted", "old2 would-be-deleted"];
        assert_eq!(fates(&["--min-age", "0s"]), would);
        assert!(pool.file("novapro", "nova_production_old1.top").exists());
        assert_eq!(
            fates(&["--min-age", "0s", "--yes"]),
            ["old1 deleted", "old2 deleted"]
        );
        assert!(!pool.file("novapro", "nova_production_old1.top").exists());
        assert!(pool.file("novapro", "nova_production.top").exists());

        let (code, answer) = by_keytab(
            &operator,
            pool,
            &["query"],
            &["nova_production", "nova_production_old1"],
        );
        let states: Vec<&Value> = answer["credds"][0]["credentials"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| &c["state"])
            .collect();
        assert_eq!((code, states[1]), (Some(1), &Value::from("absent")));
        assert_ne!(states[0], "absent");
    }
}

#[test]
fn a_pattern_without_an_age_and_a_name_that_is_nowhere_are_not_success() {
    let operator = Operator::new();
    let ran = operator.mtk(&["credd", "delete", "dune*", "--yes"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("--min-age"), "{}", ran.stderr);
    let ran = operator.mtk(&["credd", "delete", "no_such_name", "--service", "nova_production"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    assert!(ran.stderr.contains("no_such_name"), "{}", ran.stderr);
}

#[test]
fn a_daemon_behind_a_broker_is_called_so() {
    let keytab = bed().keytab("novapro");
    let principal = format!("novapro/managedtokens/mtk.mtk.test@{REALM}");
    let address = "<10.0.0.1:9618?CCBID=127.0.1.20:9618%231&alias=ap1.mtk.test&sock=credd>";
    let ran = Operator::new().mtk(&[
        "credd",
        "list",
        "--output",
        "json",
        "--keytab",
        keytab.to_str().unwrap(),
        "--principal",
        &principal,
        "--credd",
        address,
    ]);
    assert_eq!(ran.code, Some(1));
    let failure = &json(&ran.stdout)["credds"][0]["failure"];
    assert_eq!(failure["kind"], "behind-broker", "{failure}");
    assert!(failure["text"].as_str().unwrap().contains("CCB"));
}
