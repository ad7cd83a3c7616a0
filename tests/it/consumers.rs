//! The real consumers use what mtk left: HTCondor's credmon on the access points, htgettoken on the nodes.

use std::time::{Duration, Instant};

use testkit::site::{ACCESS_POINTS, NODES, SERVICES};

use crate::{bed::bed, mtk::Operator};

#[test]
fn the_credmon_makes_bearer_tokens_from_what_was_stored() {
    let operator = Operator::new();
    operator.run(&[]).all(&["done", "fresh"]);
    let until = Instant::now() + Duration::from_secs(90);
    for ap in ACCESS_POINTS {
        for service in SERVICES {
            let path = bed().oauth_file(ap.server, service.account, &format!("{}.use", service.condor));
            let token = loop {
                match std::fs::read_to_string(&path) {
                    Ok(token) => break token,
                    Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(200)),
                    Err(e) => panic!("the credmon of {} made no {} ({e})", ap.name, path.display()),
                }
            };
            let claims = claims(token.trim());
            assert_eq!(claims["sub"], service.account, "{}", path.display());
            assert!(claims["exp"].as_i64().unwrap() > now(), "{claims}");
            let groups = claims["wlcg.groups"].to_string();
            assert!(groups.contains(&format!("/{}", service.issuer())), "{groups}");
        }
    }
}

#[test]
fn htgettoken_reads_a_bearer_token_with_only_the_pushed_file() {
    let operator = Operator::new();
    operator.run(&[]).all(&["done", "fresh"]);
    for node in NODES {
        for service in SERVICES {
            let token = bed().htgettoken(node.server, &service);
            assert_eq!(
                claims(token.trim())["sub"],
                service.account,
                "{} on {}",
                service.condor,
                node.name
            );
        }
    }
}

fn now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64
}

#[track_caller]
fn claims(token: &str) -> serde_json::Value {
    testkit::consumers::claims(token).unwrap_or_else(|| panic!("no JWT: {} characters", token.len()))
}
