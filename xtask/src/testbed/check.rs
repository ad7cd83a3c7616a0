//! `cargo xtask testbed check`: the test bed keeps its promises.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testkit::bed::servers::State;
use testkit::bed::{Bed, Owner, answers};
use testkit::site;

use crate::say;

const MAIN: &str = "check";
const OWNED: &str = "check-owned";

pub(crate) fn run() -> Result<ExitCode> {
    let before = host()?;
    Bed::down(MAIN)?;
    Bed::down(OWNED)?;
    let bed = timed("up", || Bed::up(MAIN, Owner::Nobody, &say::people))?;
    let namespace = fs::read_link(format!("/proc/{}/ns/mnt", bed.pid()?))?;
    let checks: [(&str, &dyn Fn() -> Result<()>); 6] = [
        ("a command inside: folder, names, exit code", &|| inside(&bed)),
        ("every server has a log and runs", &|| logs(&bed)),
        ("stopped and frozen servers, put right by a second up", &|| {
            again(&bed)
        }),
        (
            "an owned bed beside it ends with its owner, even by kill -9",
            &|| owned(&bed),
        ),
        (
            "recorded answers of the vault server, device flow included",
            &|| {
                ensure!(
                    answers::compare(&bed)?.success(),
                    "the vault server answers something else"
                );
                Ok(())
            },
        ),
        ("down leaves no process and no mount", &|| {
            ensure!(Bed::down(MAIN)?, "it was not up");
            nothing_left(&namespace)
        }),
    ];
    for (name, check) in checks {
        timed(name, check).with_context(|| name.to_owned())?;
    }
    ensure!(
        host()? == before,
        "the host is not what it was: {before:?}, now {:?}",
        host()?
    );
    Ok(ExitCode::SUCCESS)
}

fn timed<T>(name: &str, check: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let done = check()?;
    say::people(&format!("ok {name}: {:.1} s", start.elapsed().as_secs_f64()));
    Ok(done)
}

/// What a bed must not change: names, mounts, Kerberos, trust.
fn host() -> Result<Vec<(String, Vec<u8>)>> {
    let mut seen = Vec::new();
    for file in [
        "/etc/hosts",
        "/etc/resolv.conf",
        "/etc/krb5.conf",
        "/etc/ssl/certs/ca-certificates.crt",
    ] {
        seen.push((file.to_owned(), fs::read(file).unwrap_or_default()));
    }
    seen.push(("hostname".to_owned(), fs::read("/proc/sys/kernel/hostname")?));
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let ours = mounts
        .lines()
        .filter(|line| line.contains("mtk-bed") || line.contains("testbed"));
    seen.push(("mounts".to_owned(), ours.collect::<String>().into_bytes()));
    Ok(seen)
}

fn inside(bed: &Bed) -> Result<()> {
    let script = r#"
        test "$(hostname)" = mtk.mtk.test || exit 1
        test ! -s /etc/resolv.conf || exit 2
        grep -q "^127.0.1.101 ap1.mtk.test" /etc/hosts || exit 3
        test -S "$MTK_BED/control.sock" || exit 4
        test "$PWD" = "$1" || exit 5
        grep -q "default_realm = MTK.TEST" /etc/krb5.conf || exit 6
        exit 42"#;
    let here = std::env::current_dir()?;
    let status = bed.command("sh")?.args(["-c", script, "sh"]).arg(here).status()?;
    ensure!(status.code() == Some(42), "the command inside says {status}");
    Ok(())
}

fn logs(bed: &Bed) -> Result<()> {
    let running: BTreeSet<String> = running(bed)?;
    let wanted: BTreeSet<String> = site::hosts().map(|host| host.server.to_owned()).collect();
    ensure!(running == wanted, "running are {running:?}");
    for server in wanted {
        ensure!(bed.layout().log(&server).is_file(), "{server} has no log");
    }
    Ok(())
}

fn running(bed: &Bed) -> Result<BTreeSet<String>> {
    let running = bed
        .status()?
        .into_iter()
        .filter(|(_, state)| matches!(state, State::Running { .. }));
    Ok(running.map(|(server, _)| server).collect())
}

fn again(bed: &Bed) -> Result<()> {
    let control = bed.control();
    control.stop("vault")?;
    control.kill("issuer")?;
    control.pause("kdc")?;
    control.kill("ap1")?;
    ensure!(
        running(bed)?.len() == site::hosts().count() - 4,
        "something else stopped, too"
    );
    Bed::up(MAIN, Owner::Nobody, &|_| ())?;
    logs(bed)?;
    // what was stored is still there
    let credkey = site::accounts().first().context("no account")?.credkey();
    control.vault(
        "GET",
        &format!("/v1/secret/oauth/creds/dune/{credkey}:production"),
        None,
    )?;
    Ok(())
}

fn owned(beside: &Bed) -> Result<()> {
    let mut owner = Command::new("/proc/self/exe")
        .args(["testbed", "run", "--name", OWNED, "--", "sleep", "1000"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let end = Instant::now() + Duration::from_secs(120);
    let namespace = loop {
        if let Some(status) = owner.try_wait()? {
            bail!("`testbed run` has ended: {status}");
        }
        ensure!(Instant::now() < end, "it is not up after 120 s");
        if let Ok(bed) = Bed::find(OWNED) {
            ensure!(
                running(&bed)?.len() == running(beside)?.len(),
                "not all servers of it run"
            );
            break fs::read_link(format!("/proc/{}/ns/mnt", bed.pid()?))?;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    owner.kill()?;
    owner.wait()?;
    nothing_left(&namespace)
}

/// No process of the host is in the mount namespace any more: then its mounts are gone with it.
fn nothing_left(namespace: &Path) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let left: Vec<String> = fs::read_dir("/proc")?
            .flatten()
            .filter(|entry| fs::read_link(entry.path().join("ns/mnt")).is_ok_and(|its| its == namespace))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "still there: {}", left.join(" "));
        std::thread::sleep(Duration::from_millis(50));
    }
}
