//! `mtk token` beside the real programs on the same server, option by option: the same files byte for byte, the same exit
//! classes. Both as the same person in the same place, ours under their name. docs/token.md has the table.

use std::{os::unix::fs::PermissionsExt, path::Path, time::Instant};

use testkit::site::VAULT;

use crate::{
    bed::bed,
    mtk::{Ran, ran},
    person::Person,
};

/// What a run left.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    code: Option<i32>,
    bearer: Option<(String, u32)>,
    /// Vault tokens differ from login to login; whether there is one, and its mode, do not.
    vault: Option<u32>,
    /// The last line of standard output if it is an address.
    address: Option<String>,
}

impl Left {
    fn of(person: &Person, ran: &Ran) -> Self {
        let mode = |file: &str| {
            let meta = std::fs::metadata(person.at(file)).ok()?;
            Some(meta.permissions().mode() & 0o7777)
        };
        let last = ran.stdout.lines().last().unwrap_or_default();
        Self {
            code: ran.code,
            bearer: mode("bt").map(|mode| (person.read("bt"), mode)),
            vault: mode("vt"),
            address: last.starts_with("https://").then(|| last.to_owned()),
        }
    }
}

const USUAL: &str = "-a vault.mtk.test -i dune --vaulttokenfile vt -o bt";

/// Options beside [`USUAL`], the environment's `HTGETTOKENOPTS`, the exit class.
const TABLE: &[(&str, &str, i32)] = &[
    ("--credkey alice", "", 0),
    ("--credkey=alice --minsecs=30", "", 0),
    ("--credkey alice --scopes storage.read:/dune", "", 0),
    (
        "--credkey alice --scopes=storage.read:/dune,compute.read --audience https://ce.example",
        "",
        0,
    ),
    ("--credkey alice --audience https://dcache.example", "", 0),
    ("--credkey alice --showbearerurl", "", 0),
    ("--credkey alice --showbearerurl --scopes compute.read", "", 0),
    ("--credkey alice --nobearertoken", "", 0),
    ("--credkey alice --vaulttokenttl 1h", "", 0),
    ("--credkey alice --vaulttokenttl 2d --vaulttokenminttl 1d", "", 0),
    // where tokens are from and go to
    ("--credkey alice --vaulttokeninfile /nowhere", "", 0),
    ("--credkey alice --vaulttokeninfile held", "", 0),
    ("--credkey alice --nokerberos --vaulttokeninfile held", "", 0),
    (
        "--credkey alice --nokerberos --nossh --vaulttokeninfile /nowhere",
        "",
        1,
    ),
    ("--credkey alice -o /nowhere/bt", "", 1),
    ("--credkey alice --vaulttokenttl 28d", "", 1),
    ("--credkey alice --vaulttokenttl 7", "", 1),
    ("--credkey alice --vaulttokenminttl 7d", "", 1),
    // the server, and whether it is believed
    (
        "--credkey alice --vaultalias vault.mtk.test --vaultcertname vault.mtk.test -a https://vault.mtk.test:8200",
        "",
        0,
    ),
    (
        "--credkey alice -a vault.mtk.test:8200 --vaultalias https://vault.mtk.test:8200",
        "",
        0,
    ),
    ("--credkey alice --vaultcertname other.mtk.test", "", 1),
    ("--credkey alice --vaultalias gss.mtk.test", "", 1),
    ("--credkey alice --cafile certs/ca.pem --capath others", "", 0),
    ("--credkey alice --cafile others/ca.pem --capath certs", "", 0),
    ("--credkey alice --cafile others/ca.pem --capath others", "", 1),
    // issuer, role, and the ways to log in
    ("--credkey alice -r default --issuer dune", "", 0),
    ("--credkey alice -i nowhere", "", 1),
    ("--credkey nobody", "", 1),
    ("--credkey alice --scopes storage.modify:/nova", "", 1),
    (
        "--credkey alice --kerbpath auth/kerberos-%issuer_%role --secretpath secret/oauth/creds/%issuer/%credkey:%role \
         --oidcpath auth/oidc-%issuer/oidc --sshpath auth/ssh",
        "",
        0,
    ),
    ("--credkey alice --kerbpath auth/kerberos-nowhere", "", 1),
    ("--credkey alice --kerbprincipal alice@MTK.TEST", "", 0),
    (
        "--credkey alice -c conf --web-open-command= -q --nooidc --nossh",
        "",
        0,
    ),
    ("-c kept", "", 0),
    ("--credkey alice -v", "", 0),
    ("--credkey alice -d", "", 0),
    // how options are read
    ("--cred alice --vaulttokenf vt", "", 0),
    ("", "--credkey alice --scopes 'compute.read' # and no more", 0),
    ("--credkey alice -r default", "--credkey nobody -r production", 0),
    ("--credkey alice --no-such-option", "", 2),
    ("--credkey alice --minsecs soon", "", 2),
    ("--credkey alice and-more", "", 2),
];

/// What the table's options name: a Vault token, trust in the bed's CA and in another, a credkey that was kept.
fn furnish(alice: &Person) {
    let got = alice.get(&["--vaulttokenfile", "held", "-o", "bt"]);
    assert_eq!(got.code, Some(0), "{}", got.stderr);
    let layout = bed().layout();
    for dir in ["certs", "others", "kept"] {
        std::fs::create_dir(alice.at(dir)).unwrap();
        std::fs::set_permissions(alice.at(dir), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::copy(layout.ca(), alice.at("certs/ca.pem")).unwrap();
    let other = layout.in_root("/etc/ssl/certs/ISRG_Root_X1.pem");
    std::fs::copy(other, alice.at("others/ca.pem")).unwrap();
    let dirs = ["certs", "others"].map(|dir| format!("{}/{dir}", alice.home));
    let hashed = layout.chroot("openssl").arg("rehash").args(dirs).status();
    assert!(hashed.unwrap().success());
    std::fs::write(alice.at("kept/credkey-dune-default"), "alice\n").unwrap();
}

#[test]
fn option_by_option() {
    let alice = Person::alice();
    furnish(&alice);
    for (options, environment, class) in TABLE {
        let [theirs, ours] = ["htgettoken", &format!("{}/bin/htgettoken", alice.home)].map(|program| {
            for file in ["vt", "bt"] {
                let _ = std::fs::remove_file(alice.at(file));
            }
            let mut command = alice.command(program);
            command.args(USUAL.split(' ')).args(options.split_whitespace());
            command.env("HTGETTOKENOPTS", environment);
            let ran = ran(command.output().unwrap(), Instant::now());
            (Left::of(&alice, &ran), ran)
        });
        assert_eq!(
            theirs.0.code,
            Some(*class),
            "{options}: htgettoken: {}",
            theirs.1.stderr
        );
        assert_eq!(ours.0, theirs.0, "{options} {environment}: {}", ours.1.stderr);
    }
}

/// condor_vault_storer reads two lines: the token, and then the address. Whatever else stood there would be one of them.
#[test]
fn a_long_token_goes_to_a_stream_and_the_address_after_it() {
    let alice = Person::alice();
    let options = format!(
        "-q {USUAL} --credkey alice --nooidc --vaulttokenttl 28d --vaulttokeninfile /nowhere --vaulttokenfile /dev/stdout \
         --showbearerurl"
    );
    let [theirs, ours] = ["htgettoken", &format!("{}/bin/htgettoken", alice.home)].map(|program| {
        // the pipe must be the person's own to be opened by its name
        let mut command = alice.command("bash");
        command.args(["-o", "pipefail", "-c", r#""$@" | cat"#, "bash", program]);
        let ran = ran(command.args(options.split(' ')).output().unwrap(), Instant::now());
        assert_eq!(ran.code, Some(0), "{program}: {}", ran.stderr);
        let lines: Vec<String> = ran.stdout.lines().map(str::to_owned).collect();
        let [token, address] = lines
            .try_into()
            .unwrap_or_else(|lines| panic!("{program}: {lines:?}"));
        // what it is worth
        let body = serde_json::json!({ "token": token });
        let said = bed().vault("POST", "/v1/auth/token/lookup", Some(body)).unwrap();
        (
            said["data"]["creation_ttl"].clone(),
            said["data"]["path"].clone(),
            address,
        )
    });
    assert_eq!(theirs.0, 2_419_200);
    assert_eq!(ours, theirs);
}

/// The table in the documents leaves none of htgettoken's options out.
#[test]
fn every_option_of_htgettoken_has_its_place_in_the_documents() {
    let help = Person::alice().run("htgettoken", &["--help"]).stdout;
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/token.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let mut seen = 0;
    for line in help.lines().map(str::trim).filter(|line| line.starts_with('-')) {
        let long = line
            .split([' ', ',', '='])
            .find(|word| word.starts_with("--"))
            .unwrap();
        if !["--help", "--version"].contains(&long) {
            let ends = ["`", ",", " "];
            let known = ends.iter().any(|end| docs.contains(&format!("{long}{end}")));
            assert!(known, "docs/token.md says nothing of {long}");
            seen += 1;
        }
    }
    assert!(seen >= 30, "{help}");
}

#[test]
fn no_server_is_usage() {
    let alice = Person::alice();
    for program in ["htgettoken", &format!("{}/bin/htgettoken", alice.home)] {
        assert_eq!(
            alice.run(program, &["--credkey", "alice"]).code,
            Some(2),
            "{program}"
        );
    }
    // and what is ours to refuse
    let options = alice.get(&["-s", "vault.mtk.test"]);
    assert_eq!(options.code, Some(2));
    assert!(options.stderr.contains("HTGETTOKENOPTS"), "{}", options.stderr);
}

#[test]
fn what_is_shown_is_what_htdecodetoken_shows() {
    let alice = Person::alice();
    let got = alice.get(&["-o", "bt"]);
    assert_eq!(got.code, Some(0), "{}", got.stderr);
    for options in ["bt", "-a bt", "-H bt", "-H -a bt", ""] {
        let [theirs, ours] = ["htdecodetoken", &format!("{}/bin/htdecodetoken", alice.home)].map(|program| {
            let mut command = alice.command(program);
            command.args(options.split_whitespace());
            command.env("BEARER_TOKEN_FILE", format!("{}/bt", alice.home));
            ran(command.output().unwrap(), Instant::now())
        });
        assert_eq!(theirs.code, Some(0), "{options}: {}", theirs.stderr);
        assert_eq!(ours.stdout, theirs.stdout, "{options}");
    }
    let missing = |program: &str| alice.run(program, &["nothing"]).code;
    assert_eq!(missing("htdecodetoken"), Some(1));
    assert_eq!(missing(&format!("{}/bin/htdecodetoken", alice.home)), Some(1));
}

#[test]
fn what_is_removed_is_what_htdestroytoken_removes() {
    let alice = Person::alice();
    let [bearer, vault, other] = ["bt_u", "vt_u", "vt_u"].map(|kind| format!("/tmp/{kind}{}", alice.uid));
    let other = format!("{other}-dune");
    let [theirs, ours] = ["htdestroytoken", &format!("{}/bin/htdestroytoken", alice.home)].map(|program| {
        assert_eq!(alice.get(&[]).code, Some(0));
        assert_eq!(alice.get(&["--vaulttokenfile", &other, "-o", "bt"]).code, Some(0));
        let ran = alice.run(program, &["-q"]);
        let outside = |path: &str| bed().layout().in_root(path).exists();
        (
            ran.code,
            [&bearer, &vault, &other].map(|path| outside(path)),
            ran.stderr,
        )
    });
    assert_eq!((theirs.0, theirs.1), (Some(0), [false; 3]), "{}", theirs.2);
    assert_eq!((ours.0, ours.1), (theirs.0, theirs.1), "{}", ours.2);
    // ours revokes as well, where it is told at whom
    assert_eq!(alice.get(&["--vaulttokenfile", "vt"]).code, Some(0));
    let token = alice.read("vt");
    let mut destroy = alice.ours("htdestroytoken");
    destroy
        .args(["--vaulttokenfile", "vt"])
        .env("HTGETTOKENOPTS", format!("-a {}", VAULT.name));
    assert!(destroy.status().unwrap().success());
    assert!(!bed().is_alive(token.trim()));
}
