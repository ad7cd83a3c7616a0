//! `mtk storer` where condor_vault_storer was: a real condor_submit runs it, and the credmon makes access tokens of what it
//! stored; run by hand beside the real one it leaves the same files and credentials and ends with the same status.

mod other_version;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testkit::site::{Account, SECOND_POOL, bulk};

use crate::{
    bed::{Ends, Reconfigured, bed, top_token},
    credmon,
    mtk::{Ran, ran},
    person::Person,
};

const AP: &str = "ap1";

/// Somebody with an account, a ticket and a refresh token for dune in the role production, and nothing stored yet.
struct Submitter {
    account: Account,
    person: Person,
}

impl Submitter {
    fn new(number: usize) -> Self {
        let account = bulk().swap_remove(number);
        let person = Person::new(account.uid, &account.name, &account.principal());
        let submitter = Self { account, person };
        submitter.forget();
        submitter
    }

    fn forget(&self) {
        for credd in [AP, "ap2", SECOND_POOL.server] {
            let dir = bed().oauth_file(credd, &self.account.name, "");
            let _ = std::fs::remove_dir_all(dir);
        }
    }

    fn run(&self, program: &str, args: &[&str], more: &[(&str, &str)]) -> Ran {
        let mut command = self.person.command(program);
        command
            .args(args)
            .env("CONDOR_CONFIG", format!("/etc/condor/{AP}.conf"))
            .env("HTGETTOKENOPTS", format!("--credkey={}", self.account.credkey()))
            .envs(more.iter().copied());
        ran(command.output().unwrap(), Instant::now())
    }

    fn ours(&self) -> String {
        format!("{}/bin/condor_vault_storer", self.person.home)
    }

    /// What lies there now: token files with their modes, and what the credd holds, without what differs from login to login.
    fn left(&self) -> BTreeMap<String, String> {
        let mut left = BTreeMap::new();
        let uid = format!("u{}", self.account.uid);
        for entry in std::fs::read_dir(bed().layout().in_root("/tmp"))
            .unwrap()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((kind @ ("vt_" | "bt_"), rest)) = name.split_once(&uid) else {
                continue;
            };
            let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
            let mut what = format!("{mode:o}");
            if kind == "bt_" {
                let token = std::fs::read_to_string(entry.path()).unwrap();
                let claims = testkit::consumers::claims(token.trim()).unwrap();
                what = format!("{what} {} {}", claims["scope"], claims["aud"]);
            }
            left.insert(format!("{kind}{rest}"), what);
        }
        let held = bed().oauth_file(AP, &self.account.name, "");
        for entry in std::fs::read_dir(held).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".top") {
                let json: Value = serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap();
                // a credd that writes the restriction itself has another order
                let mut json: BTreeMap<String, Value> = serde_json::from_value(json).unwrap();
                if let Some(token) = json.get_mut("vault_token") {
                    *token = "a token".into();
                }
                let text = format!("{json:?}");
                left.insert(name, text.replace(&self.account.name, "ROBOT"));
            }
        }
        left
    }

    #[track_caller]
    fn used(&self, name: &str) -> Value {
        self.used_at(AP, name)
    }

    #[track_caller]
    fn used_at(&self, credd: &str, name: &str) -> Value {
        let token = credmon::used(credd, &self.account.name, name);
        testkit::consumers::claims(token.trim()).unwrap()
    }
}

impl Drop for Submitter {
    fn drop(&mut self) {
        self.run("condor_rm", &["-all"], &[]);
        self.forget();
    }
}

#[test]
fn condor_submit_has_it_store_what_a_job_needs() {
    credmon::hearing(AP);
    let robot = Submitter::new(46);
    let job = |name: &str, more: &str| {
        let text = format!(
            "executable = /bin/true\nhold = true\nuse_oauth_services = dune_production\n{more}queue\n"
        );
        std::fs::write(robot.person.at(name), text).unwrap();
    };
    job("plain.sub", "");
    job(
        "weak.sub",
        "dune_production_oauth_permissions_weak = compute.read\n\
         dune_production_oauth_resource_weak = https://ce.example\n",
    );
    let submit = |file: &str, storer: &str| {
        let storer = format!("{}/bin/{storer}", robot.person.home);
        robot.run(
            "condor_submit",
            &[file],
            &[("_condor_SEC_CREDENTIAL_STORER", &storer)],
        )
    };
    let plain = submit("plain.sub", "condor_vault_storer");
    assert_eq!(plain.code, Some(0), "{}{}", plain.stdout, plain.stderr);
    assert!(plain.stdout.contains("1 job(s) submitted"), "{}", plain.stdout);
    let claims = robot.used("dune_production");
    assert_eq!(claims["sub"], robot.account.name.as_str());

    let weak = submit("weak.sub", "condor_credential_storer");
    assert_eq!(weak.code, Some(0), "{}{}", weak.stdout, weak.stderr);
    let claims = robot.used("dune_production_weak");
    assert_eq!(
        (&claims["sub"], &claims["scope"], &claims["aud"]),
        (
            &robot.account.name.as_str().into(),
            &"compute.read".into(),
            &"https://ce.example".into()
        )
    );
    // there already: another job, and nothing new
    let before = robot.left();
    let again = submit("weak.sub", "condor_vault_storer");
    assert_eq!(again.code, Some(0), "{}{}", again.stdout, again.stderr);
    assert_eq!(robot.left(), before);
    // a storer that fails stops the job
    let failed = robot.run(
        "condor_submit",
        &["plain.sub"],
        &[
            ("_condor_SEC_CREDENTIAL_STORER", &robot.ours()),
            ("_condor_SEC_CREDENTIAL_GETTOKEN_OPTS", "-a nowhere.mtk.test"),
        ],
    );
    assert_ne!(failed.code, Some(0));
    assert!(
        failed
            .stderr
            .contains("Authentication needed for dune_production"),
        "{}",
        failed.stderr
    );
}

/// Arguments one after another, and the exit status.
const RUNS: &[(&[&str], i32)] = &[
    (&["dune_production"], 0),
    (&["dune_production"], 0),
    (&["dune_production&handle=weak&scopes=compute.read"], 0),
    (&["dune_production&handle=weak&scopes=compute.read"], 0),
    (
        &["dune_production&handle=less&audience=https://ce.example&options=--minsecs 30"],
        0,
    ),
    // stored with other scopes
    (&["dune_production&handle=weak&scopes=storage.read:/dune"], 1),
    (&["dune_production&scopes=compute.read"], 1),
    (&["dune_a_b"], 1),
    (&["dune_calibration"], 1),
    (&[], 1),
    (&["-x", "dune_production"], 1),
];

#[test]
fn beside_the_real_one() {
    credmon::hearing(AP);
    let [theirs, ours] = [47, 48].map(Submitter::new);
    for (args, status) in RUNS {
        let their = theirs.run("condor_vault_storer", args, &[]);
        let our = ours.run(&ours.ours(), args, &[]);
        assert_eq!(their.code, Some(*status), "{args:?}: {}", their.stderr);
        assert_eq!(our.code, their.code, "{args:?}: {}", our.stderr);
        assert_eq!(our.stdout.trim(), their.stdout.trim(), "{args:?}");
        assert_eq!(ours.left(), theirs.left(), "{args:?}");
        if *status != 0 {
            assert!(our.stderr.starts_with("\n"), "{args:?}: {}", our.stderr);
        }
    }
    // the credd has lost it: a new login, although the token in the file is good
    for robot in [&theirs, &ours] {
        robot.forget();
    }
    assert_eq!(
        theirs.run("condor_vault_storer", &["dune_production"], &[]).code,
        Some(0)
    );
    let again = ours.run(&ours.ours(), &["-v", "dune_production"], &[]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    for said in [
        "Attempting to get tokens for",
        "no dune_production credentials stored",
        "Storing condor credentials for",
    ] {
        assert!(again.stderr.contains(said), "{said}: {}", again.stderr);
    }
    assert_eq!(ours.left(), theirs.left());
}

#[test]
fn a_credd_that_gets_nothing_leaves_no_token() {
    let robot = Submitter::new(45);
    let before = bed().accessors();
    let nowhere = robot.run(
        &robot.ours(),
        &["dune_production"],
        &[("_condor_CREDD_HOST", "nowhere.mtk.test")],
    );
    assert_eq!(nowhere.code, Some(1));
    assert!(nowhere.stderr.contains("nowhere.mtk.test"), "{}", nowhere.stderr);
    assert!(
        !robot.left().keys().any(|file| file.starts_with("vt_")),
        "{:?}",
        robot.left()
    );
    let alive = bed().new_tokens(&before, &robot.account.name);
    assert!(alive.is_empty(), "a login nobody has is not ended: {alive:?}");
    // and with everything new at once, handle included
    let all = robot.run(
        &robot.ours(),
        &["dune_production&handle=a_b&scopes=compute.read"],
        &[],
    );
    assert_eq!(all.code, Some(0), "{}", all.stderr);
    assert_eq!(robot.used("dune_production_a_b")["scope"], "compute.read");
    assert_eq!(robot.used("dune_production")["sub"], robot.account.name.as_str());

    // a token that lives long, whoever put it there, is not copied
    let file = |rest: &str| {
        bed()
            .layout()
            .in_root(format!("/tmp/vt_u{}{rest}", robot.account.uid))
    };
    let long = json!({"ttl": "700h", "policies": ["root"]});
    let long = bed().vault("POST", "/v1/auth/token/create", Some(long)).unwrap();
    let token = long["auth"]["client_token"].as_str().unwrap();
    std::fs::remove_file(file("")).unwrap();
    std::fs::write(file("-dune_production"), token).unwrap();
    let refused = robot.run(
        &robot.ours(),
        &["dune_production&handle=a_b&scopes=compute.read"],
        &[],
    );
    let revoke = json!({ "token": token });
    bed()
        .vault("POST", "/v1/auth/token/revoke", Some(revoke))
        .unwrap();
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("is not copied to"), "{}", refused.stderr);
    assert!(!file("").exists());
}

#[test]
fn two_credds_and_one_of_another_version() {
    let robot = Submitter::new(43);
    let at = |host: &str, collector: &str| {
        let variables = [
            ("_condor_CREDD_HOST", host),
            ("_condor_COLLECTOR_HOST", collector),
        ];
        robot.run(&robot.ours(), &["dune_production"], &variables)
    };
    let pool = testkit::site::COLLECTOR.name;
    for host in ["ap1.mtk.test", "ap2.mtk.test", "ap1.mtk.test"] {
        let stored = at(host, pool);
        assert_eq!(stored.code, Some(0), "{host}: {}", stored.stderr);
    }
    // each has a token of its own, and the first was not touched again
    let token = |credd: &str| top_token(credd, &robot.account.name, "dune_production").0;
    let (first, second) = (token("ap1"), token("ap2"));
    assert!(first != second && bed().is_alive(&first) && bed().is_alive(&second));

    let (other, name) = (SECOND_POOL.server, SECOND_POOL.name);
    let kept = bed()
        .layout()
        .in_root(format!("/tmp/vt_u{}-dune_production", robot.account.uid));
    let before = std::fs::read(&kept).unwrap();
    let accessors = bed().accessors();
    {
        let _refusing = Reconfigured::daemon(
            SECOND_POOL.server,
            "condor_credd",
            "TRUSTED_VAULT_HOSTS = other.mtk.test:8200",
        );
        let refused = at(name, name);
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("TRUSTED_VAULT_HOSTS"),
            "{}",
            refused.stderr
        );
    }
    assert_eq!(std::fs::read(&kept).unwrap(), before);
    let alive = bed().new_tokens(&accessors, &robot.account.name);
    assert!(alive.is_empty(), "a login nobody has is not ended: {alive:?}");
    let stored = at(name, name);
    assert_eq!(stored.code, Some(0), "{}", stored.stderr);
    assert!(bed().is_alive(&token(other)));
    assert_eq!(
        robot.used_at(other, "dune_production")["sub"],
        robot.account.name.as_str()
    );
}

/// A robot whose refresh token is away until this is dropped.
struct Away<'a>(&'a Account);

impl<'a> Away<'a> {
    fn new(account: &'a Account) -> Self {
        let path = format!("/v1/secret/oauth/creds/dune/{}:production", account.credkey());
        bed().vault("DELETE", &path, None).unwrap();
        Self(account)
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        bed().onboard("dune", "production", &self.0.name, &self.0.credkey());
    }
}

#[test]
fn somebody_is_asked_at_a_terminal_as_the_real_one_asks() {
    credmon::hearing(AP);
    let [theirs, ours] = [41, 42].map(Submitter::new);
    let names = ["condor_vault_storer".to_owned(), ours.ours()];
    let left = [(&theirs, &names[0]), (&ours, &names[1])].map(|(robot, program)| {
        let _away = Away::new(&robot.account);
        let began = Instant::now();
        let mut command = robot.person.command("script");
        command
            .args(["-qefc", &format!("{program} dune_production"), "/dev/null"])
            .env("CONDOR_CONFIG", format!("/etc/condor/{AP}.conf"))
            .env(
                "HTGETTOKENOPTS",
                format!("--web-open-command= --credkey={}", robot.account.credkey()),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = Ends(command.spawn().unwrap());
        let mut out = BufReader::new(child.0.stdout.take().unwrap());
        let (mut line, mut all) = (String::new(), String::new());
        while !line.trim().starts_with("http") {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "no address: {all}");
            all.push_str(&line);
        }
        assert!(all.contains("Authentication needed for dune_production"), "{all}");
        assert!(all.contains("Complete the authentication at:"), "{all}");
        bed().consent(line.trim(), &robot.account.name);
        out.read_to_string(&mut all).unwrap();
        let code = child.0.wait().unwrap().code();
        assert_eq!(code, Some(0), "{all}");
        assert!(
            all.contains("Storing condor credentials for dune_production"),
            "{all}"
        );
        assert!(began.elapsed() < Duration::from_secs(120));
        assert_eq!(robot.used("dune_production")["sub"], robot.account.name.as_str());
        robot.left()
    });
    assert_eq!(left[0], left[1]);
}
