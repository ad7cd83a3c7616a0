//! The bed's certificate authority and its two server certificates.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::layout::Layout;
use super::run;
use crate::site::{self, Host};

/// Where a system store of roots may be, in the order TLS libraries look.
const STORES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The system stores of roots that this host has.
pub fn stores() -> Vec<PathBuf> {
    STORES
        .iter()
        .map(PathBuf::from)
        .filter(|path| path.is_file())
        .collect()
}

/// Makes the CA, the certificates of the vault server and of the issuer, and the bundle of the host's roots and the CA.
///
/// RSA, because htvault-config limits TLS 1.2 to suites with RSA. Valid for 60 days.
///
/// # Errors
/// `openssl` is missing or refuses.
pub fn make(layout: &Layout) -> Result<()> {
    let ca_key = layout.dir.join("vault").join("ca.key");
    let authority = "basicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign,cRLSign\n\
                     subjectKeyIdentifier = hash\n";
    openssl(
        layout,
        "CA of the test bed",
        authority,
        &layout.ca(),
        &ca_key,
        None,
    )?;
    // making a key takes longer than all the rest
    std::thread::scope(|scope| {
        let threads = [site::VAULT, site::ISSUER].map(|host| {
            let ca_key = &ca_key;
            scope.spawn(move || leaf(layout, host, ca_key))
        });
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("openssl: panicked")))
    })?;
    let mut bundle = match stores().first() {
        Some(store) => fs::read(store).with_context(|| format!("cannot read {}", store.display()))?,
        None => Vec::new(),
    };
    bundle.push(b'\n');
    bundle.extend(fs::read(layout.ca())?);
    fs::write(layout.ca_bundle(), bundle).context("cannot write the CA bundle")
}

fn leaf(layout: &Layout, host: Host, ca_key: &Path) -> Result<()> {
    let (cert, key) = layout.certificate(host.server);
    let extensions = format!(
        "basicConstraints = critical,CA:FALSE\nkeyUsage = critical,digitalSignature,keyEncipherment\n\
         extendedKeyUsage = serverAuth\nsubjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n\
         subjectAltName = DNS:{},IP:{}\n",
        host.name, host.address
    );
    openssl(layout, host.name, &extensions, &cert, &key, Some(ca_key))
}

pub(super) fn openssl(
    layout: &Layout,
    name: &str,
    extensions: &str,
    cert: &Path,
    key: &Path,
    ca_key: Option<&Path>,
) -> Result<()> {
    let config = key.with_extension("cnf");
    let text = format!(
        "[req]\ndistinguished_name = dn\nprompt = no\nx509_extensions = ext\n[dn]\nCN = {name}\n[ext]\n{extensions}"
    );
    fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
    let mut command = Command::new("openssl");
    command.args([
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", "60", "-config",
    ]);
    command.arg(&config).arg("-keyout").arg(key).arg("-out").arg(cert);
    if let Some(ca_key) = ca_key {
        command.arg("-CA").arg(layout.ca()).arg("-CAkey").arg(ca_key);
    }
    run(&mut command)
        .map(drop)
        .with_context(|| format!("cannot make a certificate for {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bed::layout::below;

    #[test]
    fn the_certificates_are_good_for_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let layout = below(dir.path(), "t").unwrap();
        layout.create().unwrap();
        make(&layout).unwrap();
        for host in [site::VAULT, site::ISSUER] {
            let mut verify = Command::new("openssl");
            verify.args([
                "verify",
                "-x509_strict",
                "-purpose",
                "sslserver",
                "-verify_hostname",
                host.name,
            ]);
            verify
                .arg("-CAfile")
                .arg(layout.ca())
                .arg(layout.certificate(host.server).0);
            run(&mut verify).unwrap();
        }
        assert!(
            fs::read_to_string(layout.ca_bundle())
                .unwrap()
                .ends_with("-----END CERTIFICATE-----\n")
        );
    }
}
