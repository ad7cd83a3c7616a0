//! What the pool's daemons prove themselves with beside Kerberos, and what clients can prove to them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::super::layout::Layout;
use super::super::{issuer, run};
use crate::site::{self, ACCESS_POINTS, Host, ISSUER_URL};

/// Makes the certificate of a master and its key, readable by root alone: `/etc/condor/<server>.crt` and `.key`.
///
/// On a curve, which takes 10 ms where RSA takes 200.
pub(super) fn host_certificate(layout: &Layout, master: &Host) -> Result<()> {
    let etc = layout.in_root("/etc/condor");
    let usage = format!(
        "extendedKeyUsage = serverAuth,clientAuth\nsubjectAltName = DNS:{}\n",
        master.name
    );
    certificate(layout, &etc, master.server, master.name, &usage)
}

/// Makes the key that the pool's tokens are signed with: `/etc/condor/signing.key`.
pub(super) fn signing_key(layout: &Layout) -> Result<()> {
    // text, because HTCondor ends the key `POOL` at its first NUL
    let key = run(Command::new("openssl").args(["rand", "-hex", "32"]))?;
    super::write(&layout.in_root("/etc/condor/signing.key"), key.trim(), 0o600)
}

/// A client certificate by the bed's CA with the subject `/CN=<name>`, and its key, both as PEM, by way of files in
/// `dir`. The pool's map makes a name of small letters and digits the HTCondor user of that name, and any other nobody.
///
/// # Errors
/// `openssl` refuses.
pub fn client_certificate(layout: &Layout, dir: &Path, name: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    certificate(layout, dir, "client", name, "extendedKeyUsage = clientAuth\n")?;
    let read = |ending: &str| fs::read(dir.join(format!("client.{ending}")));
    Ok((read("crt")?, read("key")?))
}

/// A token of the pool for `identity` (`dunepro@mtk.test`), as `condor_token_create` makes it; `arguments` are more
/// for it, such as `-lifetime 10` or `-authz READ`.
///
/// # Errors
/// It refuses.
pub fn id_token(layout: &Layout, identity: &str, arguments: &[&str]) -> Result<String> {
    let [first, ..] = ACCESS_POINTS;
    let mut create = layout.chroot("condor_token_create");
    create.env("CONDOR_CONFIG", format!("/etc/condor/{}.conf", first.server));
    create.args(["-identity", identity]).args(arguments);
    Ok(run(&mut create)?.trim().to_owned())
}

/// A bearer token in the WLCG profile for `account`, straight from the issuer.
///
/// # Errors
/// The issuer refuses, for instance a scope it does not know.
pub fn bearer(layout: &Layout, account: &str, scope: &str) -> Result<String> {
    let refresh = issuer::seed(account, scope)?;
    let mut curl = layout.chroot("curl");
    curl.args(["-sS", "-m", "20", "--data", "grant_type=refresh_token"]);
    for (name, value) in [
        ("refresh_token", refresh.as_str()),
        ("client_id", site::CLIENT_ID),
        ("client_secret", issuer::CLIENT_SECRET),
        ("scope", scope),
    ] {
        curl.arg("--data-urlencode").arg(format!("{name}={value}"));
    }
    let answer = run(curl.arg(format!("{ISSUER_URL}/token")))?;
    let json: Value = serde_json::from_str(&answer).with_context(|| format!("the issuer says {answer}"))?;
    let token = json.get("access_token").and_then(Value::as_str);
    token
        .map(str::to_owned)
        .with_context(|| format!("the issuer says {answer}"))
}

/// `<stem>.crt` and `<stem>.key` in `dir`, signed by the bed's CA.
fn certificate(layout: &Layout, dir: &Path, stem: &str, name: &str, extensions: &str) -> Result<()> {
    let file = |ending: &str| dir.join(format!("{stem}.{ending}"));
    let text = format!(
        "[req]\ndistinguished_name = dn\nprompt = no\nx509_extensions = ext\n[dn]\nCN = {name}\n[ext]\n\
         basicConstraints = critical,CA:FALSE\nkeyUsage = critical,digitalSignature\n{extensions}"
    );
    super::write(&file("cnf"), text, 0o644)?;
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]);
    openssl.args(["-nodes", "-sha256", "-days", "60", "-config"]);
    openssl.arg(file("cnf")).arg("-keyout").arg(file("key"));
    openssl.arg("-out").arg(file("crt")).arg("-CA").arg(layout.ca());
    openssl.arg("-CAkey").arg(layout.dir.join("vault").join("ca.key"));
    run(&mut openssl)
        .map(drop)
        .with_context(|| format!("cannot make a certificate for {name}"))
}
