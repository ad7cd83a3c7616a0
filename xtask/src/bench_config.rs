//! `cargo xtask bench config`: what a configuration of many services costs.

use std::{
    fmt::Write as _,
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    bench::to_f64,
    measured::{self, Release},
    say,
    steps::{Steps, target},
};

/// What each step may cost at 10 000 services.
const SECONDS: f64 = 2.0;
const MEGABYTES: f64 = 300.0;

pub(crate) fn bench(services: usize) -> Result<ExitCode> {
    measured::build(&mut Steps::default(), &[Release::Mtk])?;
    let folder = target().join("bench-config");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join("managedTokens.yml");
    let text = site(services);
    std::fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    say::people(&format!(
        "{services} services in one file of {} kB",
        text.len() / 1000
    ));
    // what `run --dry-run` prints is the plan
    for (name, arguments) in [
        ("config check", &["config", "check", "--no-files"][..]),
        ("run --dry-run", &["run", "--dry-run", "--no-verify", "--as-root"]),
    ] {
        let mut best = (f64::INFINITY, 0.0);
        for _ in 0..3 {
            let (seconds, megabytes) = measure(&path, &folder, arguments)?;
            best = (f64::min(best.0, seconds), f64::max(best.1, megabytes));
        }
        say::people(&format!(
            "mtk {name}: {:.2} s (best of 3), {:.0} MB",
            best.0, best.1
        ));
    }
    say::people(&format!("aim: under {SECONDS} s and {MEGABYTES} MB each"));
    Ok(ExitCode::SUCCESS)
}

/// Ten experiments to a hundred services, each service with three nodes of a thousand.
fn site(services: usize) -> String {
    let mut text = "vaultServer: vault.example.org\ncondorCreddHost: credd.example.org\n\
                    kerberosPrincipalPattern: '{{.Account}}/managedtokens/mtk.example.org@EXAMPLE.ORG'\n\
                    defaultRoleFileDestinationTemplate: '/tmp/jobsub_default_role_{{.Experiment}}_{{.DesiredUID}}'\n\
                    sshOptions: '-o ConnectTimeout=30'\nexperiments:\n"
        .to_owned();
    for n in 0..services {
        if n % 10 == 0 {
            let _ = write!(
                text,
                "  exp{}:\n    emails: [exp{n}@example.org]\n    roles:\n",
                n / 10
            );
        }
        let node = |k: usize| format!("node{:03}.example.org", (n * 7 + k * 331) % 1000);
        let _ = write!(
            text,
            "      role{}:\n        account: exp{}r{}\n        desiredUIDOverride: {}\n        destinationNodes: [{}, {}, {}]\n",
            n % 10,
            n / 10,
            n % 10,
            50_000 + n,
            node(0),
            node(1),
            node(2)
        );
    }
    text
}

/// Seconds of a run, and the most memory it had.
fn measure(config: &Path, folder: &Path, arguments: &[&str]) -> Result<(f64, f64)> {
    let began = Instant::now();
    let mut child = Command::new(target().join("release/mtk"))
        .arg("--config")
        .arg(config)
        .arg("--state-dir")
        .arg(folder.join("state"))
        .args(arguments)
        .env("HOME", folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run mtk")?;
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    let ended = loop {
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        // gone in the meantime is no measurement
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        most = most.max(measured::peak_kib(&text).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(2));
    };
    let seconds = began.elapsed().as_secs_f64();
    // 1: a dry run finds that keytabs are not there
    if !matches!(ended.code(), Some(0 | 1)) {
        bail!("mtk {} ended with {ended}", arguments.join(" "));
    }
    ensure!(most > 0, "mtk was gone before its memory could be seen");
    Ok((seconds, to_f64(most) * 1.024 / 1000.0))
}
