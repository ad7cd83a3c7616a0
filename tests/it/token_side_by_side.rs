//! `mtk token` beside the real programs on the same server, option by option: the same files byte for byte, the same exit
//! classes. Both as the same person in the same place, ours under their name. docs/token.md has the table.

use std::{os::unix::fs::PermissionsExt, time::Instant};

use testkit::site::VAULT;

use crate::{
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
];

#[test]
fn option_by_option() {
    let alice = Person::alice();
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
        let outside = |path: &str| crate::bed::bed().layout().in_root(path).exists();
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
    assert!(!crate::bed::bed().is_alive(token.trim()));
}
