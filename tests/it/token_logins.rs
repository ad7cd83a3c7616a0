//! The logins of `mtk token get`, in htgettoken's order: the token that is there, a ticket, an SSH agent, a browser.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;
use testkit::site::VAULT;

use crate::{
    bed::{Ends, bed},
    mtk::{Ran, ran},
    person::Person,
    waiting::wait_until,
};

#[track_caller]
fn good(ran: &Ran) {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

const FILES: [&str; 4] = ["--vaulttokenfile", "vt", "-o", "bt"];

#[test]
fn a_ticket_does_and_so_does_the_token_it_gave() {
    let alice = Person::alice();
    good(&alice.get(&FILES));
    assert!(alice.read("bt").contains('.'));
    let token = alice.read("vt");
    // without the ticket: the credkey must be said, for no principal says it
    let none = |more: &[&str]| {
        let mut args = FILES.to_vec();
        args.extend(["--ccache", "FILE:/nowhere"]);
        args.extend(more);
        alice.get(&args)
    };
    good(&none(&["--credkey", "alice"]));
    assert_eq!(alice.read("vt"), token);
    let failed = none(&["--credkey", "alice", "--novaulttoken"]);
    assert_eq!(failed.code, Some(1));
    for words in ["Kerberos: there is no Kerberos ticket", "FILE:/nowhere", "--oidc"] {
        assert!(failed.stderr.contains(words), "{}", failed.stderr);
    }
    // a ccache and a person by name
    good(&alice.get(&[
        "--ccache",
        &format!("FILE:{}/ccache", alice.home),
        "--novaulttoken",
        "--vaulttokenfile",
        "vt",
        "-o",
        "bt",
    ]));
    assert_ne!(alice.read("vt"), token);
    let other = alice.get(&["--kerbprincipal", "bob@MTK.TEST", "--novaulttoken", "-o", "bt"]);
    assert_eq!(other.code, Some(1), "{}", other.stderr);
    // the value of a variable
    let mut by_variable = alice.ours("mtk");
    by_variable
        .args([
            "token",
            "get",
            "-a",
            VAULT.name,
            "-i",
            "dune",
            "--credkey",
            "alice",
            "-o",
            "bt2",
        ])
        .args(["--nokerberos", "--vaulttokeninfile", "env:VAULT_TOKEN"])
        .env("VAULT_TOKEN", token.trim());
    good(&ran(by_variable.output().unwrap(), Instant::now()));
    assert_eq!(alice.read("bt2"), alice.read("bt"));
}

/// The KDC and the server would take it for five minutes more, and so does htgettoken; we call it what it is.
#[test]
fn a_ticket_that_is_over_is_called_that() {
    let alice = Person::alice();
    good(&alice.run("kinit", &["-l", "1s", "-k", "-t", "keytab", "alice"]));
    wait_until(
        || alice.run("klist", &["-s"]).code != Some(0),
        || "it does not end".to_owned(),
    );
    let over = alice.get(&["--nossh", "--vaulttokenfile", "vt", "-o", "bt"]);
    assert_eq!(over.code, Some(1), "{}", over.stderr);
    for words in ["Kerberos: the ticket", "has expired", "kinit"] {
        assert!(over.stderr.contains(words), "{}", over.stderr);
    }
    assert!(!alice.at("vt").exists() && !alice.at("bt").exists());
}

#[test]
fn a_token_that_ends_soon_is_replaced_and_is_the_last_resort() {
    let alice = Person::alice();
    let short = ["--vaulttokenfile", "vt", "-o", "bt", "--vaulttokenttl"];
    good(&alice.get(&[&short[..], &["1h"]].concat()));
    let first = alice.read("vt");
    let wanted = [
        &short[..],
        &["7d", "--vaulttokenminttl", "3d", "--credkey", "alice"],
    ]
    .concat();
    let last = alice.get(&[&wanted[..], &["--nokerberos"]].concat());
    good(&last);
    assert!(last.stderr.contains("ends soon"), "{}", last.stderr);
    assert_eq!(alice.read("vt"), first);
    good(&alice.get(&wanted));
    assert_ne!(alice.read("vt"), first);
}

/// `mtk token get` while it waits for a browser.
struct Waiting {
    child: Ends,
    err: BufReader<std::process::ChildStderr>,
    address: String,
    began: Instant,
}

impl Waiting {
    fn begin(person: &Person, args: &[&str]) -> Self {
        let began = Instant::now();
        let mut command = person.ours("mtk");
        command
            .args(["token", "get", "-a", VAULT.name, "--oidc", "--nokerberos"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = Ends(command.spawn().unwrap());
        let mut err = BufReader::new(child.0.stderr.take().unwrap());
        let (mut line, mut all) = (String::new(), String::new());
        while !line.trim().starts_with("http") {
            line.clear();
            assert!(err.read_line(&mut line).unwrap() > 0, "no address: {all}");
            all.push_str(&line);
        }
        Self {
            child,
            err,
            address: line.trim().to_owned(),
            began,
        }
    }

    fn end(mut self) -> Ran {
        let mut text = String::new();
        self.err.read_to_string(&mut text).unwrap();
        let mut stdout = Vec::new();
        self.child
            .0
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut stdout)
            .unwrap();
        let output = Output {
            status: self.child.0.wait().unwrap(),
            stdout,
            stderr: text.into_bytes(),
        };
        ran(output, self.began)
    }
}

/// A bearer token of an issuer's calibration role, everything kept in the person's own folder.
fn calibration(issuer: &str) -> Vec<&str> {
    let mut args = vec!["-i", issuer, "-r", "calibration"];
    args.extend(["--configdir", "conf", "--vaulttokenfile", "vt", "-o", "bt"]);
    args
}

#[test]
fn a_browser_by_the_device_flow_makes_the_next_login_one_by_ticket() {
    let alice = Person::alice();
    let gone = bed().forget("mu2e", "calibration", "alice");
    let args = calibration("mu2e");
    let waiting = Waiting::begin(&alice, &args);
    bed().consent(&waiting.address, "alice");
    good(&waiting.end());
    assert_eq!(alice.read("conf/credkey-mu2e-calibration"), "alice\n");
    let claims = testkit::consumers::claims(alice.read("bt").trim()).unwrap();
    assert_eq!(claims["sub"], "alice");
    // no token that is kept shows the refresh token to its holder
    let shown = bed().vault(
        "POST",
        "/v1/auth/token/lookup",
        Some(json!({"token": alice.read("vt").trim()})),
    );
    assert!(!shown.unwrap().to_string().contains("refresh"));
    let by_ticket = [&args[..], &["-a", VAULT.name, "--novaulttoken"]].concat();
    good(&alice.get(&by_ticket));
    drop(gone);
}

#[test]
fn a_browser_directly_with_pkce_comes_back_to_vault() {
    let alice = Person::alice();
    let gone = bed().forget("nova", "calibration", "alice");
    let role = "/v1/auth/oidc-nova/role/calibration";
    let directly = bed().vault_role_with(role, json!({"callback_mode": "direct", "poll_interval": 1}));
    let args = calibration("nova");
    let waiting = Waiting::begin(&alice, &args);
    let address = waiting.address.clone();
    bed().consent(&address, "alice");
    let ran = waiting.end();
    drop(directly);
    good(&ran);
    assert!(address.contains("code_challenge_method=S256"), "{address}");
    assert!(ran.stderr.contains("Waiting for response"), "{}", ran.stderr);
    assert_eq!(
        testkit::consumers::claims(alice.read("bt").trim()).unwrap()["sub"],
        "alice"
    );
    drop(gone);
}

#[test]
fn nobody_is_asked_unless_that_was_wanted() {
    let alice = Person::alice();
    let began = Instant::now();
    for more in [&["--nokerberos"][..], &["--nokerberos", "--oidc", "--nooidc"]] {
        let ran = alice.get(&[more, &["--vaulttokenfile", "vt", "-o", "bt"]].concat());
        assert_eq!(ran.code, Some(1));
        assert!(!ran.stderr.contains("http"), "{}", ran.stderr);
    }
    let waiting = Waiting::begin(
        &alice,
        &["-i", "dune", "--wait", "1", "--vaulttokenfile", "vt", "-o", "bt"],
    );
    let ran = waiting.end();
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("nobody agreed"), "{}", ran.stderr);
    assert!(!alice.at("bt").exists() && !alice.at("vt").exists());
    assert!(began.elapsed().as_secs() < 60);
}

#[test]
fn a_login_in_a_browser_that_comes_to_nothing_is_given_back() {
    let alice = Person::alice();
    let gone = bed().forget("mu2e", "calibration", "alice");
    let args = calibration("mu2e");
    let before = bed().accessors();
    let kept = || bed().new_tokens(&before, "auth/oidc-mu2e");
    let refused = Waiting::begin(
        &alice,
        &[&args[..], &["--scopes", "storage.modify:/nova"]].concat(),
    );
    bed().consent(&refused.address, "alice");
    let ran = refused.end();
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert_eq!(kept(), Vec::<String>::new());

    // one whose credkey cannot be kept is good all the same
    std::fs::write(alice.at("file"), "").unwrap();
    let mut elsewhere = args.clone();
    elsewhere.extend(["--configdir", "file/conf"]);
    let waiting = Waiting::begin(&alice, &elsewhere);
    bed().consent(&waiting.address, "alice");
    let ran = waiting.end();
    good(&ran);
    assert!(
        ran.stderr.contains("credkey-mu2e-calibration cannot be written"),
        "{}",
        ran.stderr
    );
    assert_eq!(kept().len(), 1, "this one lives");

    // where a bearer token would be read is known by the credkey
    let mut address = args.clone();
    address.extend(["--nobearertoken", "--showbearerurl", "--credkey", "alice"]);
    let waiting = Waiting::begin(&alice, &address);
    bed().consent(&waiting.address, "alice");
    let ran = waiting.end();
    good(&ran);
    let url = format!(
        "https://{}:8200/v1/secret/oauth/creds/mu2e/alice:calibration\n",
        VAULT.name
    );
    assert_eq!(ran.stdout, url);
    drop(gone);
}

#[test]
fn a_place_is_named_once_that_was_looked_at_once() {
    let alice = Person::alice();
    let shown = ran(
        alice.ours("mtk").args(["token", "show"]).output().unwrap(),
        Instant::now(),
    );
    assert_eq!(shown.code, Some(1));
    let place = format!("/tmp/bt_u{}", alice.uid);
    assert_eq!(shown.stderr.matches(&place).count(), 1, "{}", shown.stderr);
}

/// An agent with two keys, of which only one is registered at the server.
struct Agent {
    _agent: Ends,
    _server: Ends,
    port: String,
}

impl Agent {
    fn new(person: &Person) -> Self {
        let mut agent = person.command("ssh-agent");
        agent
            .args(["-D", "-a", "agent"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let agent = Ends(agent.spawn().unwrap());
        let until = Instant::now() + Duration::from_secs(20);
        while !person.at("agent").exists() {
            assert!(Instant::now() < until, "no agent");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut registered = String::new();
        for kind in ["rsa", "ed25519"] {
            good(&person.run("ssh-keygen", &["-q", "-t", kind, "-N", "", "-f", kind]));
            let mut add = person.command("ssh-add");
            add.args(["-q", kind]).env("SSH_AUTH_SOCK", "agent");
            good(&ran(add.output().unwrap(), Instant::now()));
            let public = person.read(&format!("{kind}.pub"));
            registered = public.split(' ').nth(1).unwrap().to_owned();
        }
        let layout = bed().layout();
        let (certificate, key) = layout.certificate(VAULT.server);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/ssh_vault.py");
        let files = [
            (script, "ssh_vault.py"),
            (certificate, "cert.pem"),
            (key, "key.pem"),
            (layout.ca(), "ca.pem"),
            (layout.root_token(), "root"),
        ];
        for (from, to) in files {
            std::fs::copy(from, person.at(to)).unwrap();
        }
        // paramiko is in the root alone
        let mut server = Command::new("chroot");
        server
            .arg(layout.in_root("/"))
            .args([
                "sh",
                "-c",
                r#"cd "$0" && exec python3 ssh_vault.py cert.pem key.pem ca.pem root "$1""#,
            ])
            .args([&person.home, &registered])
            .stdout(Stdio::piped());
        let mut server = Ends(server.spawn().unwrap());
        let mut port = String::new();
        BufReader::new(server.0.stdout.take().unwrap())
            .read_line(&mut port)
            .unwrap();
        Self {
            _agent: agent,
            _server: server,
            port: port.trim().to_owned(),
        }
    }
}

#[test]
fn an_agents_key_is_taken_by_us_as_by_htgettoken() {
    let alice = Person::alice();
    let agent = Agent::new(&alice);
    let server = format!("{}:{}", VAULT.name, agent.port);
    let login = |program: &mut Command, vault_token: &str| {
        program
            .args([
                "-a",
                &server,
                "-i",
                "dune",
                "--credkey",
                "alice",
                "--nokerberos",
                "--nooidc",
            ])
            .args(["--vaulttokenfile", vault_token, "-o", "bt"])
            .env("SSH_AUTH_SOCK", "agent");
        ran(program.output().unwrap(), Instant::now())
    };
    let theirs = login(&mut alice.command("htgettoken"), "vt-theirs");
    good(&theirs);
    let bearer = alice.read("bt");
    std::fs::remove_file(alice.at("bt")).unwrap();
    good(&login(alice.ours("mtk").args(["token", "get"]), "vt-ours"));
    assert_eq!(alice.read("bt"), bearer);
    assert_ne!(alice.read("vt-ours"), alice.read("vt-theirs"));
    // a key that is not registered says so
    let mut remove = alice.command("ssh-add");
    remove.args(["-q", "-d", "ed25519"]).env("SSH_AUTH_SOCK", "agent");
    assert!(remove.status().unwrap().success());
    let refused = login(alice.ours("mtk").args(["token", "get"]), "vt-no");
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("SSH agent") && refused.stderr.contains("not registered"),
        "{}",
        refused.stderr
    );
    // and the bed's own server has no such login at all
    let mut plain = alice.ours("mtk");
    plain.args([
        "token",
        "get",
        "-a",
        VAULT.name,
        "-i",
        "dune",
        "--credkey",
        "alice",
        "--nokerberos",
        "-o",
        "bt3",
    ]);
    let plain = ran(
        plain.env("SSH_AUTH_SOCK", "agent").output().unwrap(),
        Instant::now(),
    );
    assert!(plain.stderr.contains("has no login ssh"), "{}", plain.stderr);
}
