//! `cargo xtask bench vault`: how fast tokens come from Vault, beside htgettoken and beside what the server itself needs.

use std::{
    fmt::Write as _,
    path::Path,
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use testkit::{
    bed::Bed,
    site::{self, Account, VAULT},
};

use crate::{
    bench::{quantile, to_f64},
    measured::{self, Release},
    say,
    steps::{Steps, root, run},
};

/// htgettoken as each robot, one after another. COLD: without a Vault token, as mtk's cold refresh; else with the one there
/// is. Kerberos tickets are made before, and not measured. What it says last is the seconds of all.
const HTGETTOKEN: &str = r#"
what=$1; shift
R=/run/mtk-bed/root
as() { # NAME UID COMMAND...
  local name=$1 uid=$2
  shift 2
  chroot $R setpriv --reuid "$uid" --regid 100 --clear-groups env -i HOME=/tmp/bench-$name \
    PATH=/usr/local/bin:/usr/bin KRB5CCNAME=FILE:/tmp/bench-$name/cc "$@"
}
if [ "$what" = prepare ]; then
  for robot in "$@"; do
    name=${robot%:*} uid=${robot#*:}
    install -d -m 0700 -o "$uid" $R/tmp/bench-$name
    install -m 0400 -o "$uid" "$MTK_BED/keytabs/$name.keytab" $R/tmp/bench-$name/keytab
    as "$name" "$uid" kinit -k -t /tmp/bench-$name/keytab "$name/managedtokens/mtk.mtk.test"
  done
  exit
fi
if [ "$what" = cold ]; then
  for robot in "$@"; do rm -f $R/tmp/bench-${robot%:*}/vt; done
fi
all() {
  for robot in "$@"; do
    name=${robot%:*} uid=${robot#*:}
    as "$name" "$uid" htgettoken -q -a vault.mtk.test -i dune -r production --nooidc --nossh \
      --credkey="$name/managedtokens/mtk.mtk.test" --vaulttokenfile=/tmp/bench-$name/vt \
      --outfile=/tmp/bench-$name/bt --vaulttokenminttl=3d </dev/null >&2
  done
}
TIMEFORMAT=%R
time all "$@"
"#;

pub(crate) fn bench(services: usize, logins: usize, turns: usize) -> Result<ExitCode> {
    let mut steps = Steps::default();
    let login_rate = Release::Example("mtk-vault-client", "login_rate");
    let bed = measured::begin(&mut steps, &[Release::Mtk, login_rate])?;
    steps.step("measuring", || {
        let robots = site::bulk();
        let robots = robots.get(..services.clamp(1, robots.len())).unwrap_or(&robots);
        beside_htgettoken(&bed, robots, turns.max(1))?;
        server(&bed, robots, logins.max(1))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Seconds of each turn.
#[derive(Default)]
struct Figures {
    old_cold: Vec<f64>,
    old_warm: Vec<f64>,
    cold: Vec<f64>,
    warm: Vec<f64>,
}

fn beside_htgettoken(bed: &Bed, robots: &[Account], turns: usize) -> Result<()> {
    htgettoken(bed, "prepare", robots)?;
    let dir = &bed.layout().dir;
    let config = dir.join("bench-vault.yml");
    std::fs::write(&config, configuration(dir, robots)?).context("the configuration cannot be written")?;
    let state = dir.join("bench-vault-state");
    let mut figures = Figures::default();
    let (mut cold, mut warm) = (0.0, 0.0);
    // turn by turn, so that both see the machine in the same mood
    for _ in 0..turns {
        if state.exists() {
            std::fs::remove_dir_all(&state).context("the state of the last turn cannot be removed")?;
        }
        let (took, requests) = refresh(bed, &config, &state)?;
        figures.cold.push(took);
        cold = requests;
        let (took, requests) = refresh(bed, &config, &state)?;
        figures.warm.push(took);
        warm = requests;
        figures.old_cold.push(htgettoken(bed, "cold", robots)?);
        figures.old_warm.push(htgettoken(bed, "warm", robots)?);
    }
    let services = to_f64(u64::try_from(robots.len()).unwrap_or(u64::MAX));
    say::data(&format!(
        "{services} services, {turns} turns; ms a service, median (least to most)\n"
    ));
    let row = |what: &str, figures: &[f64], old: Option<&[f64]>| {
        let ratio = old.map_or_else(String::new, |old| {
            format!("{:>8.1}x faster", quantile(old, 0.5) / quantile(figures, 0.5))
        });
        let [least, middle, most] = [0.0, 0.5, 1.0].map(|part| 1e3 * quantile(figures, part) / services);
        say::data(&format!(
            "{what:42} {middle:>8.2} ({least:.2} to {most:.2}){ratio}"
        ));
    };
    row("htgettoken, cold", &figures.old_cold, None);
    row("mtk refresh, cold", &figures.cold, Some(&figures.old_cold));
    row("htgettoken, with a Vault token", &figures.old_warm, None);
    row("mtk refresh, nothing due", &figures.warm, Some(&figures.old_warm));
    say::data(&format!(
        "\nVault requests a service: {:.2} cold, {:.2} with nothing due\n",
        cold / services,
        warm / services
    ));
    ensure!(warm == 0.0, "a warm check asked Vault {warm} times");
    Ok(())
}

/// A service a robot, with a node token to make and nothing to store: what htgettoken does.
fn configuration(dir: &Path, robots: &[Account]) -> Result<String> {
    let bulk = std::fs::read_to_string(dir.join("bulk.yml")).context("the bed's bulk.yml cannot be read")?;
    let (head, _) = bulk
        .split_once("experiments:")
        .context("bulk.yml has no experiments")?;
    let mut text = format!("{head}mtk: {{limits: {{vaultConcurrency: 16}}}}\nexperiments:\n");
    for Account { name, uid } in robots {
        write!(
            text,
            "  bench-{name}:\n    experimentOverride: dune\n    roles:\n      production:\n        account: {name}\n        \
             desiredUIDOverride: {uid}\n        tokenGetterOverride: getToken\n        \
             destinationNodes: [none.mtk.test]\n"
        )?;
    }
    Ok(text)
}

/// Seconds of one `mtk refresh` from its start to its end, and its requests to Vault.
fn refresh(bed: &Bed, config: &Path, state: &Path) -> Result<(f64, f64)> {
    let mut command = bed.command(root().join("target/release/mtk"))?;
    command.arg("--config").arg(config).arg("--state-dir").arg(state);
    command.args(["refresh", "--output", "json", "--as-root"]);
    let begun = Instant::now();
    let output = command.output().context("mtk cannot be run")?;
    let took = begun.elapsed().as_secs_f64();
    if !output.status.success() {
        bail!(
            "mtk refresh ended with {}:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout)
        );
    }
    let report: Value = serde_json::from_slice(&output.stdout).context("mtk's report")?;
    let requests = report.pointer("/traffic/vault_requests").and_then(Value::as_f64);
    Ok((took, requests.context("no count of requests")?))
}

fn htgettoken(bed: &Bed, what: &str, robots: &[Account]) -> Result<f64> {
    let mut command: Command = bed.command("bash")?;
    command.args(["-euc", HTGETTOKEN, "bash", what]);
    command.args(robots.iter().map(|robot| format!("{}:{}", robot.name, robot.uid)));
    let output = command.output().context("htgettoken cannot be run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("htgettoken ({what}) ended with {}:\n{said}", output.status);
    }
    if what == "prepare" {
        return Ok(0.0);
    }
    let last = said.trim_end().lines().last().context("no time was taken")?;
    last.trim()
        .parse()
        .with_context(|| format!("{last:?} is not a time"))
}

/// Logins one after another and in parallel, beside a client that does nothing but ask.
fn server(bed: &Bed, robots: &[Account], logins: usize) -> Result<()> {
    let layout = bed.layout();
    let mut command = bed.command(root().join("target/release/examples/login_rate"))?;
    command.arg(format!("{}:{}", VAULT.name, VAULT.port));
    command.arg(layout.ca()).args(["bao", &logins.to_string()]);
    command.args(robots.iter().map(|robot| {
        let keytab = layout.keytab(&robot.name);
        format!("{}={}", keytab.display(), robot.principal())
    }));
    run(&mut command).context("the measurement of logins failed")
}
