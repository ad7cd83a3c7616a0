//! Commands to a running bed: one line of JSON each way on a Unix socket, from inside and from the host alike.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::servers::State;

/// The longest line either side takes, in bytes.
pub(super) const LONGEST: u64 = 1 << 20;
/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What can be asked of a bed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// What each server is doing.
    Status,
    /// The process id of a server inside the bed.
    Pid {
        /// The server's name.
        server: String,
    },
    /// Starts a stopped server again and waits until it answers (the vault server is unsealed).
    Start {
        /// The server's name.
        server: String,
    },
    /// Asks a server to end.
    Stop {
        /// The server's name.
        server: String,
    },
    /// Kills a server and all it started (SIGKILL).
    Kill {
        /// The server's name.
        server: String,
    },
    /// Freezes a server: it accepts and never answers.
    Pause {
        /// The server's name.
        server: String,
    },
    /// Thaws a server.
    Resume {
        /// The server's name.
        server: String,
    },
    /// Starts what is stopped, thaws what is frozen, unseals what is sealed.
    Heal,
    /// Seals the vault server.
    Seal,
    /// Unseals the vault server.
    Unseal,
    /// Gives a credkey a fresh refresh token.
    Onboard {
        /// The issuer.
        issuer: String,
        /// The role.
        role: String,
        /// The account, which becomes the subject of tokens.
        account: String,
        /// The credkey.
        credkey: String,
    },
    /// Deletes a credkey's secret.
    Forget {
        /// The issuer.
        issuer: String,
        /// The role.
        role: String,
        /// The credkey.
        credkey: String,
    },
    /// Onboards through the device flow, consent included; answers with the vault token a person would have.
    DeviceFlow {
        /// The issuer.
        issuer: String,
        /// The role.
        role: String,
        /// The account that logs in.
        account: String,
        /// The credkey to store under.
        credkey: String,
    },
    /// Allows slashes in the Kerberos policy of an issuer and role, or not.
    AllowSlashes {
        /// The issuer.
        issuer: String,
        /// The role.
        role: String,
        /// Whether a principal with a slash may read.
        allow: bool,
    },
    /// Changes the issuer's switches; answers with all of them.
    IssuerConfig {
        /// The switches to change.
        switches: Value,
    },
    /// What the issuer counted.
    IssuerStats,
    /// Revokes every refresh token of an account at the issuer: the next refresh is answered `invalid_grant`.
    Revoke {
        /// The account.
        account: String,
    },
    /// Plays the person in front of the browser.
    Consent {
        /// The address the person was sent to.
        url: String,
        /// Who logs in.
        account: String,
    },
    /// Any call to the vault server with the root token.
    Vault {
        /// The HTTP method.
        method: String,
        /// The path, from `/v1/` on.
        path: String,
        /// The body, or `null`.
        body: Option<Value>,
    },
    /// Starts the second pool, if it is not there yet, and waits until it can be used.
    SecondPool {
        /// Its Debian root, from [`super::pool_sid::prepare`].
        root: PathBuf,
    },
    /// Adds a principal with a random key and writes `<bed>/keytabs/<keytab>.keytab`.
    AddPrincipal {
        /// The principal, with or without the realm.
        principal: String,
        /// The name of its keytab.
        keytab: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Reply {
    Ok(Value),
    Error(String),
}

/// The commands of one bed.
#[derive(Clone, Debug)]
pub struct Control {
    dir: PathBuf,
}

impl Control {
    /// The commands of the bed whose folder is `dir`.
    pub fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The commands of the bed that this process runs in.
    ///
    /// # Errors
    /// `MTK_BED` is not set: this is not run inside a bed.
    pub fn here() -> Result<Self> {
        let dir = std::env::var_os("MTK_BED")
            .context("MTK_BED is not set: run it with `cargo xtask testbed exec -- ...`")?;
        Ok(Self {
            dir: PathBuf::from(dir),
        })
    }

    /// The bed's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// The bed does not take commands, or says what is wrong.
    pub fn ask(&self, request: &Request) -> Result<Value> {
        let (_dir, path) = short(&self.dir)?;
        let mut stream = UnixStream::connect(path).with_context(|| {
            format!(
                "the test bed in {} takes no commands: is it up?",
                self.dir.display()
            )
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut answer = String::new();
        BufReader::new(stream.take(LONGEST))
            .read_line(&mut answer)
            .context("the test bed does not answer")?;
        match serde_json::from_str(&answer).context("the test bed answers nonsense")? {
            Reply::Ok(value) => Ok(value),
            Reply::Error(text) => Err(anyhow!(text)),
        }
    }

    /// [`Request::Status`].
    ///
    /// # Errors
    /// As for [`Control::ask`], here and in all methods below.
    pub fn status(&self) -> Result<BTreeMap<String, State>> {
        Ok(serde_json::from_value(self.ask(&Request::Status)?)?)
    }

    /// [`Request::Start`].
    ///
    /// # Errors
    /// See [`Control::ask`].
    pub fn start(&self, server: &str) -> Result<()> {
        self.ask(&Request::Start {
            server: server.to_owned(),
        })
        .map(drop)
    }

    /// [`Request::Stop`].
    ///
    /// # Errors
    /// See [`Control::ask`].
    pub fn stop(&self, server: &str) -> Result<()> {
        self.ask(&Request::Stop {
            server: server.to_owned(),
        })
        .map(drop)
    }

    /// [`Request::Kill`].
    ///
    /// # Errors
    /// See [`Control::ask`].
    pub fn kill(&self, server: &str) -> Result<()> {
        self.ask(&Request::Kill {
            server: server.to_owned(),
        })
        .map(drop)
    }

    /// [`Request::Pause`].
    ///
    /// # Errors
    /// See [`Control::ask`].
    pub fn pause(&self, server: &str) -> Result<()> {
        self.ask(&Request::Pause {
            server: server.to_owned(),
        })
        .map(drop)
    }

    /// [`Request::Resume`].
    ///
    /// # Errors
    /// See [`Control::ask`].
    pub fn resume(&self, server: &str) -> Result<()> {
        self.ask(&Request::Resume {
            server: server.to_owned(),
        })
        .map(drop)
    }

    /// [`Request::Heal`].
    ///
    /// # Errors
    /// See [`Control::ask`].
    pub fn heal(&self) -> Result<()> {
        self.ask(&Request::Heal).map(drop)
    }

    /// [`Request::Seal`].
    ///
    /// # Errors
    /// See [`Control::ask`].
    pub fn seal(&self) -> Result<()> {
        self.ask(&Request::Seal).map(drop)
    }

    /// [`Request::Unseal`].
    ///
    /// # Errors
    /// See [`Control::ask`].
    pub fn unseal(&self) -> Result<()> {
        self.ask(&Request::Unseal).map(drop)
    }

    /// [`Request::IssuerConfig`].
    ///
    /// # Errors
    /// See [`Control::ask`].
    pub fn issuer_config(&self, switches: Value) -> Result<Value> {
        self.ask(&Request::IssuerConfig { switches })
    }

    /// [`Request::Vault`].
    ///
    /// # Errors
    /// See [`Control::ask`].
    pub fn vault(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        self.ask(&Request::Vault {
            method: method.to_owned(),
            path: path.to_owned(),
            body,
        })
    }

    /// [`Request::AddPrincipal`]; the path of the keytab.
    ///
    /// # Errors
    /// See [`Control::ask`].
    pub fn add_principal(&self, principal: &str, keytab: &str) -> Result<PathBuf> {
        let request = Request::AddPrincipal {
            principal: principal.to_owned(),
            keytab: keytab.to_owned(),
        };
        Ok(serde_json::from_value(self.ask(&request)?)?)
    }
}

/// A path to the socket that is short enough for the kernel (108 bytes), however deep the cache lies.
pub(super) fn short(dir: &Path) -> Result<(File, PathBuf)> {
    let open = File::open(dir).with_context(|| format!("no test bed in {}", dir.display()))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/control.sock", open.as_raw_fd()));
    Ok((open, path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bed::commands::{listen, serve};
    use crate::bed::{Cache, Layout, Servers};

    #[test]
    fn a_command_and_a_refusal_over_a_deep_path() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(120));
        let layout = Layout::new(&Cache { dir: deep }, "t").unwrap();
        layout.create().unwrap();
        let servers = Servers::new(&layout);
        let listener = listen(&layout).unwrap();
        let at = layout.clone();
        std::thread::spawn(move || serve(&at, &servers, &listener));
        let control = Control::of(&layout.dir);
        assert!(control.status().unwrap().is_empty());
        let refused = control.stop("vault").unwrap_err().to_string();
        assert!(refused.starts_with("no server vault"), "{refused}");
    }

    #[test]
    fn commands_are_plain_json() {
        let line = r#"{"do":"issuer-config","switches":{"access_ttl":30}}"#;
        assert!(matches!(
            serde_json::from_str(line).unwrap(),
            Request::IssuerConfig { .. }
        ));
        assert!(serde_json::from_str::<Request>(r#"{"do":"reboot"}"#).is_err());
    }
}
