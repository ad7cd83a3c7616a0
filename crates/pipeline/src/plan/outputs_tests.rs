//! Plans of outputs: bearer tokens, files made elsewhere, the Vault token, at every kind of place.

use std::{collections::BTreeMap, path::Path};

use config::{Env, Site};
use credential::Lifetime;
use jiff::{SignedDuration, Timestamp};
use state::{EdgeId, Push, ServiceKey, Snapshot};

use super::{Due, Held, HeldOutput, Memory, Policy, Reason, one};
use crate::{Selection, run::service_key};

const HOUR: i64 = 3600;

fn now() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

fn site() -> Site {
    let text = "vaultServer: vault.test\ncondorCollectorHost: cm.test\nkerberosPrincipalPattern: '{{.Account}}/robot@TEST'\n\
        experiments:\n  nova:\n    roles:\n      production:\n        account: novapro\n        desiredUIDOverride: 1000\n\
        \x20       outputs:\n\
        \x20         told: {content: bearer, minimumLifetime: 1h, to: command, command: [/bin/true]}\n\
        \x20         here: {content: file, source: /etc/idtoken, to: here, path: /srv/idtoken}\n";
    let loaded = config::parse(Path::new("managedTokens.yml"), text, &Env::default()).unwrap();
    assert!(loaded.site.broken.is_empty(), "{:#?}", loaded.site.broken);
    loaded.site
}

fn key() -> ServiceKey {
    service_key(&site().services[0])
}

fn pushed(node: &str, path: &str, digest: &str) -> (EdgeId, Push) {
    let edge = EdgeId::Push {
        service: key(),
        node: node.into(),
        path: path.into(),
    };
    let push = Push {
        service: key(),
        node: node.into(),
        path: path.into(),
        kind: String::new(),
        accessor: String::new(),
        digest: digest.into(),
        pushed_at: now(),
        expires: None,
    };
    (edge, push)
}

/// What is due with these outputs in hand after these pushes, a login aside.
fn due(bearer_left: Option<i64>, file: Option<&str>, pushes: Vec<(EdgeId, Push)>) -> Vec<(String, Reason)> {
    let site = site();
    let mut snapshot = Snapshot::default();
    snapshot.pushes.extend(pushes);
    let mut outputs = BTreeMap::new();
    if let Some(left) = bearer_left {
        let at = |seconds| now() + SignedDuration::from_secs(seconds);
        let held = HeldOutput {
            life: Some(Lifetime::between(at(left - 3 * HOUR), at(left))),
            digest: "bearer".into(),
        };
        outputs.insert((key(), "told".to_owned()), held);
    }
    if let Some(digest) = file {
        let held = HeldOutput {
            life: None,
            digest: digest.into(),
        };
        outputs.insert((key(), "here".to_owned()), held);
    }
    let held = Held {
        issued: now(),
        until: now() + SignedDuration::from_hours(7 * 24),
        accessor: "a".into(),
        digest: "d".into(),
    };
    let memory = Memory {
        snapshot: &snapshot,
        node_tokens: &BTreeMap::from([(key(), held)]),
        outputs: &outputs,
        uids: &BTreeMap::new(),
        digest: &|_| String::new(),
    };
    let service = &site.services[0];
    let name = |Due { edge, reason, .. }| match edge {
        EdgeId::Push { node, path, .. } => Some((format!("{node} {path}"), reason)),
        EdgeId::Bearer { output, .. } => Some((format!("bearer {output}"), reason)),
        _ => None,
    };
    let policy = Policy::of(&site, service);
    let all = one(service, &Selection::default(), &memory, &policy, now());
    all.into_iter().filter_map(name).collect()
}

#[test]
fn outputs_are_planned_at_their_places() {
    let first = due(None, Some("file"), vec![]);
    let expected = [
        ("@here /srv/idtoken", Reason::NeverPushed),
        ("@command told", Reason::NeverPushed),
        ("bearer told", Reason::NoBearer),
    ];
    for (edge, reason) in expected {
        assert!(first.contains(&(edge.to_owned(), reason)), "{edge}: {first:#?}");
    }
    assert_eq!(first.len(), 3);

    let done = || {
        vec![
            pushed("@here", "/srv/idtoken", "file"),
            pushed("@command", "told", "bearer"),
        ]
    };
    assert_eq!(due(Some(2 * HOUR), Some("file"), done()), []);

    let ending = due(Some(HOUR - 1), Some("file"), done());
    assert!(
        ending.contains(&("@command told".to_owned(), Reason::NewBearer)),
        "{ending:#?}"
    );
    assert_eq!(ending.len(), 2, "the token and the command that is told");

    let replaced = due(Some(2 * HOUR), Some("another"), done());
    assert_eq!(
        replaced,
        [("@here /srv/idtoken".to_owned(), Reason::OtherContent)]
    );
    assert_eq!(
        due(Some(2 * HOUR), None, vec![done().remove(1)]),
        [],
        "a source that cannot be read"
    );
}
