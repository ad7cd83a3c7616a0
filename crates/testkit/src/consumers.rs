//! The programs that use what mtk leaves on a node, as their users run them.

use std::{path::Path, process::Command};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::site::{Service, VAULT};

/// htgettoken opens its output by name, and a pipe of root's is not the account's to open.
const INTO_A_FILE: &str =
    r#"f=$(mktemp) && htgettoken "$@" --outfile "$f" >&2 && cat "$f"; s=$?; rm -f "$f"; exit $s"#;

/// A shell's script on a node, as an account, with nothing of our environment; its arguments are the caller's to add.
pub fn script(node_root: &Path, uid: u32, script: &str) -> Command {
    let mut command = Command::new("chroot");
    command
        .arg(format!("--userspec={uid}:100"))
        .arg(node_root)
        .args(["sh", "-c", script, "sh"])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/tmp")
        .env("LC_ALL", "C.UTF-8");
    command
}

/// The real htgettoken on a node, as the service's account, with nothing but the pushed file: no ticket, no browser.
/// The bearer token comes on standard output.
pub fn htgettoken(node_root: &Path, service: &Service) -> Command {
    let Service {
        uid, condor, role, ..
    } = service;
    let credkey = service.account().credkey();
    let mut command = script(node_root, *uid, INTO_A_FILE);
    command
        .args([
            "--vaultserver",
            VAULT.name,
            "--issuer",
            service.issuer(),
            "--role",
            role,
        ])
        .args([
            "--credkey",
            &credkey,
            "--vaulttokenfile",
            &format!("/tmp/vt_u{uid}-{condor}"),
        ])
        .args(["--nooidc", "--nokerberos", "--nossh", "--quiet"]);
    command
}

/// What a bearer token says of itself, unverified; `None` if it is not a JWT.
pub fn claims(token: &str) -> Option<serde_json::Value> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read() {
        let claims = claims("e30.eyJzdWIiOiJkdW5lcHJvIn0.x").unwrap();
        assert_eq!(claims["sub"], "dunepro");
        assert!(super::claims("x").is_none() && super::claims("a.#.b").is_none());
    }
}
