//! The real consumers use what mtk left: HTCondor's credmon on the access points, htgettoken on the nodes.

use testkit::site::{ACCESS_POINTS, NODES, SERVICES};

use crate::{bed::bed, credmon, mtk::Operator};

#[test]
fn the_credmon_makes_bearer_tokens_from_what_was_stored() {
    let operator = Operator::new();
    operator.run(&[]).all(&["done", "fresh"]);
    for ap in ACCESS_POINTS {
        for service in SERVICES {
            let token = credmon::used(ap.server, service.account, service.condor);
            let claims = claims(token.trim());
            assert_eq!(
                claims["sub"], service.account,
                "{} on {}",
                service.condor, ap.name
            );
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

/// What jobsub_lite asks of a node, as its source has it (`lib/fake_ifdh.py`, `bin/condor_vault_storer`; 2025-07): run as the
/// account, with GROUP as a user of jobsub has it. Prints the default role, then what is wrong with the files of a role.
const JOBSUB: &str = r#"
uid=$(id -u)
role_file=/tmp/jobsub_default_role_${GROUP}_$uid
# the role is taken only from a file that is the user's own
[ -f "$role_file" ] && [ "$(stat -c %u "$role_file")" = "$uid" ] && sed 's/^ *//;s/ *$//' "$role_file"
for service in "$@"; do
    for file in /tmp/vt_u$uid /tmp/vt_u$uid-$service; do
        [ -r "$file" ] || echo "$file cannot be read"
        # one that the user may write is not managed, and would be renewed and removed by the storer
        [ -w "$file" ] && echo "$file may be written"
        [ "$(stat -c %a:%u "$file")" = "400:$uid" ] || echo "$file is not 0400 and the user's own"
        [ "$(wc -l <"$file")" = 1 ] || echo "$file has more than one line"
    done
done
exit 0
"#;

#[test]
fn jobsub_takes_the_files_for_managed_ones_and_the_role_from_its_file() {
    let operator = Operator::new();
    operator.run(&[]).all(&["done", "fresh"]);
    for node in NODES {
        for services in SERVICES.chunk_by(|one, next| one.account == next.account) {
            // of one account with several roles jobsub takes the one that owns the shared files
            let primary = &services[0];
            let names: Vec<&str> = services.iter().map(|s| s.condor).collect();
            let root = bed().node_root(node.server);
            let output = testkit::consumers::script(&root, primary.uid, JOBSUB)
                .args(&names)
                .env("GROUP", primary.experiment)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let role = format!("{}\n", primary.role);
            assert_eq!(said, role, "{} on {}: {names:?}", primary.account, node.name);
        }
    }
}

/// What jobsub's storer runs for each service: with a managed file it must get no new Vault token (which would be a
/// second line), must not touch the file, and must read a bearer token.
const STORER: &str = r#"
uid=$(id -u)
bearer=$(mktemp)
htgettoken -a vault.mtk.test -i "$2" -r "$3" --credkey "$4" --nooidc --nokerberos --nossh -q -o "$bearer" \
    --vaulttokenttl=28d --vaulttokeninfile=/tmp/vt_u$uid-$1 --vaulttokenfile=/dev/stdout --showbearerurl >"$bearer.out"
status=$?
wc -l <"$bearer.out"; cat "$bearer"
rm -f "$bearer" "$bearer.out"
exit $status
"#;

#[test]
fn the_storer_of_jobsub_uses_the_managed_file_and_leaves_it_alone() {
    let operator = Operator::new();
    operator.run(&[]).all(&["done", "fresh"]);
    for service in SERVICES.iter().filter(|s| s.account == "dunepro") {
        let path = format!("/tmp/vt_u{}-{}", service.uid, service.condor);
        let before = std::fs::read(bed().node_path("gss", &path)).unwrap();
        let output = testkit::consumers::script(&bed().node_root("gss"), service.uid, STORER)
            .args([service.condor, service.issuer(), service.role])
            .arg(service.account().credkey())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let (lines, token) = said.split_once('\n').unwrap();
        assert_eq!(lines.trim(), "1", "a new Vault token was made");
        let groups = claims(token.trim())["wlcg.groups"].to_string();
        assert!(groups.contains(service.role), "{}: {groups}", service.condor);
        assert_eq!(std::fs::read(bed().node_path("gss", &path)).unwrap(), before);
    }
}
