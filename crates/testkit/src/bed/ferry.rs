//! A FERRY server for one test: started when wanted, ended when dropped.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::certs::openssl;
use super::layout::Layout;

const SERVER: &str = include_str!("../../servers/ferry/ferry.py");

/// A FERRY server on this host's loopback address.
pub struct Ferry {
    dir: PathBuf,
    child: Child,
    /// Its port.
    pub port: u16,
    /// A certificate that opens it, and its key.
    pub host_certificate: (PathBuf, PathBuf),
}

impl Ferry {
    /// Starts one that keeps its files in `dir`, with certificates of the bed's CA, and these accounts.
    ///
    /// # Errors
    /// `openssl` or Python refuse.
    pub fn up(layout: &Layout, dir: &Path, accounts: &Value) -> Result<Self> {
        let ca_key = layout.dir.join("vault").join("ca.key");
        let make = |name: &str, usage: &str| -> Result<(PathBuf, PathBuf)> {
            let (cert, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
            let extensions = format!(
                "basicConstraints = critical,CA:FALSE\nkeyUsage = critical,digitalSignature,keyEncipherment\n\
                 extendedKeyUsage = {usage}\nsubjectAltName = IP:127.0.0.1\n"
            );
            openssl(layout, name, &extensions, &cert, &key, Some(&ca_key))?;
            Ok((cert, key))
        };
        let (cert, key) = make("ferry.mtk.test", "serverAuth")?;
        let host_certificate = make("mtk.mtk.test", "clientAuth")?;
        let script = dir.join("ferry.py");
        fs::write(&script, SERVER)?;
        let mut python = Command::new("python3");
        python.arg(&script).arg(cert).arg(key).arg(layout.ca());
        python.arg(dir.join("accounts.json")).arg(dir.join("asked.log"));
        fs::write(dir.join("accounts.json"), accounts.to_string())?;
        let mut child = python
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start Python")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let port = line.trim().parse().context("the FERRY server did not start")?;
        Ok(Self {
            dir: dir.to_owned(),
            child,
            port,
            host_certificate,
        })
    }

    /// Changes what it knows.
    ///
    /// # Errors
    /// The file system.
    pub fn set(&self, accounts: &Value) -> Result<()> {
        Ok(fs::write(self.dir.join("accounts.json"), accounts.to_string())?)
    }

    /// Who asked what, a line each: `<certificate's name, bearer or None> <path> <account>`.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.join("asked.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

impl Drop for Ferry {
    fn drop(&mut self) {
        // it may have ended by itself
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
