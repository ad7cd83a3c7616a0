//! The vault server: OpenBao with TLS, file storage on the bed's tmpfs, and one unseal key.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::layout::Layout;
use super::servers::Servers;
use super::{run, until};
use crate::http::{self, Answer};
use crate::site::{VAULT, VAULT_ADMIN_PORT};

/// Where the vault server keeps its state, inside the namespace.
fn home(layout: &Layout) -> std::path::PathBuf {
    layout.run.join("vault")
}

/// The plugin's binary as the server sees it.
pub fn plugin(layout: &Layout) -> std::path::PathBuf {
    home(layout).join("plugins").join("oauthapp")
}

/// Starts OpenBao from the binary `bao`, with the secrets engine `oauthapp`.
///
/// # Errors
/// It cannot be started.
pub fn start(layout: &Layout, servers: &mut Servers, bao: &Path, oauthapp: &Path) -> Result<()> {
    let home = home(layout);
    fs::create_dir_all(home.join("plugins"))?;
    fs::copy(oauthapp, plugin(layout)).with_context(|| format!("cannot copy {}", oauthapp.display()))?;
    fs::set_permissions(plugin(layout), fs::Permissions::from_mode(0o755))?;
    let (cert, key) = layout.certificate(VAULT.server);
    let config = json!({
        "plugin_directory": home.join("plugins"),
        "ui": false,
        // memory alone would forget everything when a test stops and starts the server
        "storage": {"file": {"path": home.join("data")}},
        "api_addr": format!("https://{}:{}", VAULT.name, VAULT.port),
        "listener": [
            {"tcp": {"address": admin().to_string(), "tls_disable": true}},
            {"tcp": {
                "address": format!("{}:{}", VAULT.address, VAULT.port),
                "tls_cert_file": cert,
                "tls_key_file": key,
                "tls_cipher_suites": "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            }},
        ],
        "telemetry": {"prometheus_retention_time": "24h", "disable_hostname": true},
        "default_lease_ttl": "672h",
        "max_lease_ttl": "672h",
    });
    let path = home.join("bao.json");
    fs::write(&path, config.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
    let mut command = Command::new(bao);
    command
        .arg("server")
        .arg(format!("-config={}", path.display()))
        .arg("-log-level=info");
    // the plugin inherits this, and talks to the issuer
    command
        .env_clear()
        .env("PATH", super::path())
        .env("HOME", &home)
        .env("SSL_CERT_FILE", layout.ca());
    servers.start(VAULT.server, command)
}

/// Waits until the server answers at all, sealed or not.
///
/// # Errors
/// It has ended, or does not answer within 20 s.
pub fn listening(layout: &Layout, servers: &Servers) -> Result<()> {
    until(layout, servers, VAULT.server, 20, || {
        raw("GET", "/v1/sys/health", None, None).map(drop)
    })
}

/// Waits until the server is open and answers a read, both by the administration listener and by TLS under its name.
///
/// # Errors
/// It has ended, or does not within 20 s.
pub fn ready(layout: &Layout, servers: &Servers) -> Result<()> {
    until(layout, servers, VAULT.server, 20, || {
        let health = raw("GET", "/v1/sys/health", None, None)?;
        ensure!(
            health.status == 200,
            "sys/health answers {}: {}",
            health.status,
            health.excerpt()
        );
        call(layout, "GET", "/v1/secret/oauth/config", None)?;
        let url = format!("https://{}:{}/v1/sys/health", VAULT.name, VAULT.port);
        run(layout
            .chroot("curl")
            .args(["-sSf", "-m", "5", "-o", "/dev/null"])
            .arg(url))
        .map(drop)
    })
}

/// Initialises a new server, and keeps the root token and the unseal key in `<bed>/vault`.
///
/// # Errors
/// The server refuses, or the file system does.
pub fn initialise(layout: &Layout) -> Result<()> {
    let body = json!({"secret_shares": 1, "secret_threshold": 1});
    let answer = raw("PUT", "/v1/sys/init", None, Some(&body))?;
    ensure!(
        answer.status == 200,
        "sys/init answers {}: {}",
        answer.status,
        answer.excerpt()
    );
    let keys = answer.json()?;
    let text = |pointer: &str| {
        keys.pointer(pointer)
            .and_then(Value::as_str)
            .with_context(|| format!("sys/init gave no {pointer}"))
    };
    write_private(&layout.root_token(), text("/root_token")?)?;
    write_private(&unseal_key(layout), text("/keys_base64/0")?)?;
    unseal(layout)
}

fn unseal_key(layout: &Layout) -> std::path::PathBuf {
    layout.root_token().with_file_name("unseal.key")
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    // a file of an earlier bed would keep its mode
    let _absent = fs::remove_file(path);
    let mut file = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    std::io::Write::write_all(&mut file, text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Unseals the server and waits until it is active. Nothing happens if it is.
///
/// # Errors
/// The server refuses, or is not active within 10 s.
pub fn unseal(layout: &Layout) -> Result<()> {
    let key =
        fs::read_to_string(unseal_key(layout)).context("no unseal key: was the server ever initialised?")?;
    let answer = raw("PUT", "/v1/sys/unseal", None, Some(&json!({"key": key})))?;
    ensure!(
        answer.status == 200,
        "sys/unseal answers {}: {}",
        answer.status,
        answer.excerpt()
    );
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let health = raw("GET", "/v1/sys/health", None, None)?;
        if health.status == 200 {
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "unsealed, but sys/health still answers {}",
            health.status
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Seals the server: every request is answered 503 until [`unseal`].
///
/// # Errors
/// The server refuses.
pub fn seal(layout: &Layout) -> Result<()> {
    call(layout, "PUT", "/v1/sys/seal", None).map(drop)
}

/// Any call with the root token.
///
/// # Errors
/// The server does not answer, or answers with a status of 400 or more.
pub fn call(layout: &Layout, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let token = fs::read_to_string(layout.root_token()).context("no root token")?;
    let answer = raw(method, path, Some(&token), body)?;
    if answer.status >= 400 {
        bail!(
            "the vault server answers {} to {method} {path}: {}",
            answer.status,
            answer.excerpt()
        );
    }
    answer.json()
}

/// A call to the administration listener with any token or none, whatever the status of the answer.
///
/// # Errors
/// The server does not answer.
pub fn raw(method: &str, path: &str, token: Option<&str>, body: Option<&Value>) -> Result<Answer> {
    let token = token.map(|token| ("X-Vault-Token", token));
    http::request(admin(), method, path, token.as_slice(), body)
}

fn admin() -> SocketAddr {
    SocketAddr::from((VAULT.address, VAULT_ADMIN_PORT))
}
