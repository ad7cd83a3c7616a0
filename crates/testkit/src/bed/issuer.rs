//! The OIDC issuer (a Node program over npm's oidc-provider) and its switches.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::layout::Layout;
use super::servers::Servers;
use super::{run, until};
use crate::http;
use crate::site::{self, ISSUER, ISSUER_URL, ISSUERS, VAULT};

/// The port on which the issuer takes `/lab/...` without TLS, beside its main port.
const LAB_PORT: u16 = 8444;
/// The secret of the client; of no use outside.
pub const CLIENT_SECRET: &str = "of-no-use-outside";

/// Starts the issuer from `dir`, where npm has put what it needs.
///
/// # Errors
/// It cannot be started.
pub fn start(layout: &Layout, servers: &mut Servers, dir: &Path) -> Result<()> {
    let (cert, key) = layout.certificate(ISSUER.server);
    let redirects: Vec<String> = ISSUERS
        .iter()
        .map(|issuer| {
            format!(
                "https://{}:{}/v1/auth/oidc-{issuer}/oidc/callback",
                VAULT.name, VAULT.port
            )
        })
        .collect();
    let mut command = Command::new("node");
    command.arg(dir.join("issuer.mjs"));
    command.env_clear().env("PATH", super::path());
    command
        .env("ISSUER", ISSUER_URL)
        .env("LAB_PORT", LAB_PORT.to_string())
        .env("CERT", cert)
        .env("KEY", key)
        .env("CA", layout.ca())
        .env("STATE", layout.run.join("issuer.json"))
        .env("CLIENT_ID", site::CLIENT_ID)
        .env("CLIENT_SECRET", CLIENT_SECRET)
        .env("REDIRECTS", redirects.join(" "));
    servers.start(ISSUER.server, command)
}

/// Waits until the issuer gives its discovery document, by its name and with a certificate the Debian root trusts.
///
/// # Errors
/// It has ended, or gives none within 30 s.
pub fn ready(layout: &Layout, servers: &Servers) -> Result<()> {
    until(layout, servers, ISSUER.server, 30, || {
        // the cheap question first: a process a try would be dear while node starts
        ask("GET", "/lab/stats", None)?;
        let url = format!("{ISSUER_URL}/.well-known/openid-configuration");
        run(layout
            .chroot("curl")
            .args(["-sSf", "-m", "5", "-o", "/dev/null"])
            .arg(url))
        .map(drop)
    })
}

/// Changes the issuer's switches (`access_ttl`, `token_fail`, ...: see its README) and returns all of them.
///
/// # Errors
/// The issuer does not answer, or refuses.
pub fn configure(switches: &Value) -> Result<Value> {
    ask("POST", "/lab/config", Some(switches))
}

/// What the issuer counted.
///
/// # Errors
/// The issuer does not answer.
pub fn stats() -> Result<Value> {
    ask("GET", "/lab/stats", None)
}

/// A refresh token for `account`, without any person.
///
/// # Errors
/// The issuer does not answer, or refuses.
pub fn seed(account: &str, scope: &str) -> Result<String> {
    let answer = ask(
        "POST",
        "/lab/seed",
        Some(&json!({"account": account, "scope": scope})),
    )?;
    let token = answer.get("refresh_token").and_then(Value::as_str);
    token
        .map(str::to_owned)
        .context("the issuer gave no refresh token")
}

/// Revokes every refresh token of `account`; says how many there were.
///
/// # Errors
/// The issuer does not answer.
pub fn revoke(account: &str) -> Result<Value> {
    ask("POST", "/lab/revoke", Some(&json!({"account": account})))
}

/// Plays the person in front of the browser: opens `url`, logs in as `account`, agrees.
///
/// # Errors
/// The issuer does not answer, or its pages do not lead to an end.
pub fn consent(url: &str, account: &str) -> Result<Value> {
    ask(
        "POST",
        "/lab/consent",
        Some(&json!({"url": url, "account": account})),
    )
}

fn ask(method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let answer = http::request(
        SocketAddr::from((ISSUER.address, LAB_PORT)),
        method,
        path,
        &[],
        body,
    )?;
    if answer.status != 200 {
        bail!(
            "the issuer answers {} to {path}: {}",
            answer.status,
            answer.excerpt()
        );
    }
    answer.json()
}
