//! The programs that use what mtk leaves on a node, as their users run them.

use std::{path::Path, process::Command};

use crate::site::{Service, VAULT};

/// The real htgettoken on a node, as the service's account, with nothing but the pushed file: no ticket, no browser.
/// The bearer token comes on standard output.
pub fn htgettoken(node_root: &Path, service: &Service) -> Command {
    let Service { uid, condor, role, .. } = service;
    let credkey = service.account().credkey();
    let mut command = Command::new("chroot");
    command
        .arg(format!("--userspec={uid}:100"))
        .arg(node_root)
        .arg("htgettoken")
        .args(["--vaultserver", VAULT.name, "--issuer", service.issuer(), "--role", role])
        .args(["--credkey", &credkey, "--vaulttokenfile", &format!("/tmp/vt_u{uid}-{condor}")])
        .args(["--nooidc", "--nokerberos", "--nossh", "--quiet", "--outfile", "/dev/stdout"])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/tmp")
        .env("LC_ALL", "C.UTF-8");
    command
}
