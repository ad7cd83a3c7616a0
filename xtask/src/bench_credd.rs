//! `cargo xtask bench credd`: how fast one credd takes credentials.

use std::process::ExitCode;

use anyhow::{Context, Result};
use testkit::{
    bed::Bed,
    site::{ACCESS_POINTS, COLLECTOR, SERVICES},
};

use crate::{
    measured::{self, Release},
    steps::{Steps, root, run},
};

/// What condor_store_cred needs: a ticket of the account and a credential in a file, both in the bed's Debian root.
const PREPARE: &str = r#"
R=/run/mtk-bed/root
install -m 0400 -o "$2" "$MTK_BED/keytabs/$1.keytab" $R/tmp/bench.keytab
echo '{"vault_url": "https://vault.mtk.test:8200/v1/secret/oauth/creds/dune/bench:production"}' >$R/tmp/bench.json
chmod 0444 $R/tmp/bench.json
chroot $R setpriv --reuid "$2" --regid 100 --clear-groups env -i PATH=/usr/bin KRB5CCNAME=FILE:/tmp/bench.cc \
    kinit -k -t /tmp/bench.keytab "$1/managedtokens/mtk.mtk.test"
"#;

pub(crate) fn bench(stores: usize) -> Result<ExitCode> {
    let mut steps = Steps::default();
    let bed = measured::begin(&mut steps, &[Release::Example("mtk-credd-client", "store_rate")])?;
    steps.step("measuring", || measure(&bed, stores))?;
    Ok(ExitCode::SUCCESS)
}

fn measure(bed: &Bed, stores: usize) -> Result<()> {
    let [ap, ..] = ACCESS_POINTS;
    let [service, ..] = SERVICES;
    let (account, uid) = (service.account, service.uid.to_string());
    let mut prepare = bed.command("bash")?;
    run(prepare.args(["-euc", PREPARE, "bash", account, &uid]))?;
    let config = format!("/etc/condor/{}.conf", ap.server);
    let mut command = bed.command(root().join("target/release/examples/store_rate"))?;
    command.arg(format!("{}:{}?sock=credd", ap.name, ap.port));
    command.arg(COLLECTOR.name);
    command.arg(bed.layout().keytab(account));
    command.args([
        &service.account().principal(),
        account,
        &config,
        &stores.to_string(),
        "--",
    ]);
    command.args([
        "chroot",
        "/run/mtk-bed/root",
        "setpriv",
        "--reuid",
        &uid,
        "--regid",
        "100",
        "--clear-groups",
    ]);
    command.args([
        "env",
        "-i",
        "PATH=/usr/bin:/usr/sbin",
        "KRB5CCNAME=FILE:/tmp/bench.cc",
    ]);
    command.arg(format!("CONDOR_CONFIG={config}"));
    command.arg(format!("_condor_CREDD_HOST={}", ap.name));
    command.args([
        "condor_store_cred",
        "add-oauth",
        "-s",
        "{}",
        "-i",
        "/tmp/bench.json",
    ]);
    run(&mut command).context("the measurement failed")
}
