//! Three OpenBao nodes with raft behind one name, for tests of what a cluster does. Not part of a bed that is up: a test
//! brings it up inside the bed, and it goes when its handle is dropped.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::layout::Layout;
use super::parts::Parts;
use super::{Control, certs, htvault, issuer};
use crate::http;
use crate::site::{VAULT, VAULT_ADMIN_PORT};

/// The name that all three nodes answer to.
pub const NAME: &str = "cluster.mtk.test";
/// How many nodes there are: one may die.
pub const NODES: usize = 3;
/// The one issuer and role that the cluster is set up for.
const ISSUER: &str = "dune";
const ROLE: &str = "production";

/// A running cluster.
#[derive(Debug)]
pub struct VaultCluster {
    home: PathBuf,
    nodes: Vec<Option<Child>>,
    root_token: String,
    /// `/etc/hosts` as it was.
    hosts: String,
}

fn address(node: usize) -> Ipv4Addr {
    // beside the bed's own vault server, which is at .13
    Ipv4Addr::new(127, 0, 1, 14 + u8::try_from(node).unwrap_or(0))
}

fn admin(node: usize) -> SocketAddr {
    SocketAddr::from((address(node), VAULT_ADMIN_PORT))
}

impl VaultCluster {
    /// Starts the nodes, joins them, and sets them up as htvault-config would for one issuer and role. Only inside a bed.
    ///
    /// # Errors
    /// A node does not start, or the cluster is not whole within half a minute.
    pub fn up(layout: &Layout, control: &Control) -> Result<Self> {
        let parts: Parts =
            serde_json::from_slice(&fs::read(layout.parts_file())?).context("the list of parts")?;
        let keytab = layout.keytab("host-cluster");
        if !keytab.exists() {
            control.add_principal(&format!("host/{NAME}"), "host-cluster")?;
        }
        let home = layout.run.join("cluster");
        let _absent = fs::remove_dir_all(&home);
        fs::create_dir_all(home.join("plugins"))?;
        let plugin = home.join("plugins").join("oauthapp");
        fs::copy(&parts.oauthapp, &plugin).context("cannot copy the secrets engine")?;
        fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755))?;
        certificate(layout, &home)?;
        let hosts = fs::read_to_string("/etc/hosts").context("cannot read /etc/hosts")?;
        let mut cluster = Self {
            home,
            nodes: Vec::new(),
            root_token: String::new(),
            hosts,
        };
        let names: String = (0..NODES)
            .map(|n| format!("{} {NAME} node{n}.{NAME}\n", address(n)))
            .collect();
        fs::write("/etc/hosts", format!("{}{names}", cluster.hosts)).context("cannot write /etc/hosts")?;
        for node in 0..NODES {
            let child = cluster.start(layout, &parts.bao, node)?;
            cluster.nodes.push(Some(child));
        }
        cluster.join()?;
        cluster.configure(&keytab, &plugin)?;
        Ok(cluster)
    }

    fn start(&self, layout: &Layout, bao: &Path, node: usize) -> Result<Child> {
        let data = self.home.join(format!("data{node}"));
        fs::create_dir_all(&data)?;
        let config = json!({
            "plugin_directory": self.home.join("plugins"),
            "ui": false,
            "storage": {"raft": {
                "path": data, "node_id": format!("node{node}"),
                // the default waits for links far slower than a loopback
                "performance_multiplier": 1,
            }},
            "cluster_addr": format!("https://{}:8201", address(node)),
            "api_addr": format!("https://node{node}.{NAME}:{}", VAULT.port),
            "disable_standby_reads": true,
            "listener": [
                {"tcp": {"address": admin(node).to_string(), "tls_disable": true}},
                {"tcp": {
                    "address": format!("{}:{}", address(node), VAULT.port),
                    "tls_cert_file": self.home.join("cluster.pem"),
                    "tls_key_file": self.home.join("cluster.key"),
                }},
            ],
            "default_lease_ttl": "672h",
            "max_lease_ttl": "672h",
        });
        let path = self.home.join(format!("node{node}.json"));
        fs::write(&path, config.to_string())?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(layout.log(&format!("cluster{node}")))?;
        Command::new(bao)
            .arg("server")
            .arg(format!("-config={}", path.display()))
            .env_clear()
            .env("PATH", super::path())
            .env("HOME", &self.home)
            .env("SSL_CERT_FILE", layout.ca())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start a node")
    }

    /// Initialises the first node, and lets the others join as voters.
    fn join(&mut self) -> Result<()> {
        let open = |node: usize, key: &str| -> Result<()> {
            let answer = http::request(
                admin(node),
                "PUT",
                "/v1/sys/unseal",
                &[],
                Some(&json!({ "key": key })),
            )?;
            ensure!(answer.status == 200, "sys/unseal answers {}", answer.excerpt());
            Ok(())
        };
        for node in 0..NODES {
            patiently(|| http::request(admin(node), "GET", "/v1/sys/health", &[], None).map(drop))?;
        }
        let body = json!({"secret_shares": 1, "secret_threshold": 1});
        let keys = http::request(admin(0), "PUT", "/v1/sys/init", &[], Some(&body))?.json()?;
        let text = |pointer: &str| {
            let found = keys.pointer(pointer).and_then(Value::as_str);
            found.map(str::to_owned).context("sys/init gave no keys")
        };
        self.root_token = text("/root_token")?;
        let key = text("/keys_base64/0")?;
        open(0, &key)?;
        patiently(|| self.call(0, "GET", "/v1/sys/mounts", None).map(drop))?;
        // a new node votes after 10 s unless told otherwise, and without votes there is no new leader
        let soon = json!({"server_stabilization_time": "500ms"});
        self.call(
            0,
            "POST",
            "/v1/sys/storage/raft/autopilot/configuration",
            Some(&soon),
        )?;
        for node in 1..NODES {
            let body = json!({"leader_api_addr": format!("http://{}", admin(0))});
            patiently(|| {
                let answer =
                    http::request(admin(node), "POST", "/v1/sys/storage/raft/join", &[], Some(&body))?;
                ensure!(answer.status == 200, "joining is answered {}", answer.excerpt());
                Ok(())
            })?;
            patiently(|| open(node, &key))?;
        }
        patiently(|| {
            let answer = self.call(0, "GET", "/v1/sys/storage/raft/configuration", None)?;
            let servers = answer.pointer("/data/config/servers").and_then(Value::as_array);
            let voters = servers
                .into_iter()
                .flatten()
                .filter(|s| s.get("voter") == Some(&json!(true)));
            let voters = voters.count();
            ensure!(voters == NODES, "{voters} of the nodes vote");
            Ok(())
        })
    }

    fn configure(&self, keytab: &Path, plugin: &Path) -> Result<()> {
        let put = |path: &str, body: Value| self.call(0, "POST", &format!("/v1/{path}"), Some(&body));
        let keytab = BASE64_STANDARD.encode(fs::read(keytab).context("cannot read the cluster's keytab")?);
        htvault::engine(&put, plugin)?;
        htvault::issuer_server(&put, ISSUER)?;
        let mount = format!("kerberos-{ISSUER}_{ROLE}");
        htvault::kerberos_mount(&put, &mount, &keytab, NAME)?;
        let auth = self.call(0, "GET", "/v1/sys/auth", None)?;
        let accessor = htvault::accessor(&auth, &mount)?;
        let policy = htvault::kerberos_policy(ISSUER, ROLE, &accessor);
        put(
            &format!("sys/policies/acl/{mount}"),
            json!({"policy": policy, "allow_slashes_in_identity_templates": true}),
        )
        .map(drop)
    }

    /// Gives a robot a refresh token, for dune in the role production.
    ///
    /// # Errors
    /// The issuer or the cluster refuses.
    pub fn onboard(&self, account: &str, credkey: &str) -> Result<()> {
        let scope = htvault::scopes(ISSUER, ROLE).join(" ");
        let body = json!({"server": ISSUER, "refresh_token": issuer::seed(account, &scope)?});
        let path = format!("/v1/secret/oauth/creds/{ISSUER}/{credkey}:{ROLE}");
        self.call(self.leader()?, "POST", &path, Some(&body)).map(drop)
    }

    /// Which node leads.
    ///
    /// # Errors
    /// None does.
    pub fn leader(&self) -> Result<usize> {
        (0..NODES)
            .find(|node| {
                http::request(admin(*node), "GET", "/v1/sys/health", &[], None)
                    .is_ok_and(|answer| answer.status == 200)
            })
            .context("the cluster has no leader")
    }

    /// Kills a node (SIGKILL), and does not start it again.
    ///
    /// # Errors
    /// It is dead already.
    pub fn kill(&mut self, node: usize) -> Result<()> {
        let child = self.nodes.get_mut(node).and_then(Option::take);
        end(child.context("no such node")?)
    }

    /// How many tokens of logins there are: quick, for watching.
    ///
    /// # Errors
    /// The node does not answer.
    pub fn tokens(&self, node: usize) -> Result<Vec<String>> {
        let answer = self.call(node, "LIST", "/v1/auth/token/accessors", None)?;
        let keys = answer.pointer("/data/keys").and_then(Value::as_array);
        Ok(keys
            .into_iter()
            .flatten()
            .filter_map(|k| k.as_str().map(str::to_owned))
            .collect())
    }

    /// How often each principal has logged in, by the tokens there are.
    ///
    /// # Errors
    /// There is no leader to ask.
    pub fn logins(&self) -> Result<BTreeMap<String, usize>> {
        let leader = self.leader()?;
        let mut logins = BTreeMap::new();
        for accessor in self.tokens(leader)? {
            let body = json!({ "accessor": accessor });
            let path = "/v1/auth/token/lookup-accessor";
            let answer = self.ask(leader, "POST", path, Some(&body))?;
            // of a login in whose middle the leader was killed there may be the accessor and no token
            if answer.status == 403 {
                continue;
            }
            let answer = judged(leader, "POST", path, &answer)?;
            if let Some(user) = answer.pointer("/data/meta/user").and_then(Value::as_str) {
                *logins.entry(user.to_owned()).or_default() += 1;
            }
        }
        Ok(logins)
    }

    fn call(&self, node: usize, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        judged(node, method, path, &self.ask(node, method, path, body)?)
    }

    fn ask(&self, node: usize, method: &str, path: &str, body: Option<&Value>) -> Result<http::Answer> {
        let headers = [("X-Vault-Token", self.root_token.as_str())];
        http::request(admin(node), method, path, &headers, body)
    }
}

fn judged(node: usize, method: &str, path: &str, answer: &http::Answer) -> Result<Value> {
    if answer.status >= 400 {
        let excerpt = answer.excerpt();
        bail!(
            "node {node} answers {} to {method} {path}: {excerpt}",
            answer.status
        );
    }
    answer.json()
}

impl Drop for VaultCluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().filter_map(Option::take) {
            let _ended = end(child);
        }
        // the bed goes on without
        let _kept = fs::write("/etc/hosts", &self.hosts);
        let _left = fs::remove_dir_all(&self.home);
    }
}

/// Ends a node and the plugin it started.
fn end(mut child: Child) -> Result<()> {
    let below = super::process::tree(child.id());
    child.kill().context("cannot kill a node")?;
    child.wait().context("cannot wait for a node")?;
    for pid in below.into_iter().skip(1) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
            // it may have ended with its parent
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    Ok(())
}

fn certificate(layout: &Layout, home: &Path) -> Result<()> {
    let names: Vec<String> = (0..NODES)
        .map(|n| format!("DNS:node{n}.{NAME},IP:{}", address(n)))
        .collect();
    let extensions = format!(
        "basicConstraints = critical,CA:FALSE\nkeyUsage = critical,digitalSignature,keyEncipherment\n\
         extendedKeyUsage = serverAuth\nsubjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n\
         subjectAltName = DNS:{NAME},{}\n",
        names.join(",")
    );
    let ca_key = layout.dir.join("vault").join("ca.key");
    let (cert, key) = (home.join("cluster.pem"), home.join("cluster.key"));
    certs::openssl(layout, NAME, &extensions, &cert, &key, Some(&ca_key))
}

fn patiently(attempt: impl Fn() -> Result<()>) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
