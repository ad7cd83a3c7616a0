//! How nodes are reached, where no role says otherwise.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::Plan;
use crate::{
    Checking, Origin, Ssh, Transport, role,
    section::{self, Section},
    ssh,
    tree::Value,
};

impl<'t> Plan<'_, 't> {
    pub(super) fn ssh(&mut self, mtk: &Section<'t>) -> (Ssh, bool) {
        let section = mtk.child("ssh", self.report);
        let home = self.env.home.as_deref();
        let known_hosts = self.paths(&section, "knownHosts");
        let given = known_hosts.is_some();
        let known_hosts = known_hosts.unwrap_or_else(|| {
            let mut all = role::user_known_hosts(home);
            all.extend(role::global_known_hosts());
            // if there is none at all, an error should name the one to make
            if all.is_empty() {
                all.push("/etc/ssh/ssh_known_hosts".into());
            }
            all
        });
        let identity_files = self
            .paths(&section, "identityFiles")
            .or_else(|| self.paths(&section, "identityFile"))
            .unwrap_or_else(|| default_identities(home));
        let transport = self.transport(&section);
        let ssh = Ssh {
            port: 22,
            known_hosts,
            identity_files,
            certificate_files: Vec::new(),
            agent: None,
            connect_timeout: Duration::from_secs(30),
            transport,
            user: None,
            address: None,
            host_key_alias: None,
            gssapi_server: None,
            kerberos: true,
            public_keys: true,
            checking: Checking::Strict,
            host_key_algorithms: None,
            kex_algorithms: None,
            ciphers: None,
            macs: None,
            jump: Vec::new(),
        };
        (ssh, given)
    }

    pub(super) fn transport(&mut self, section: &Section<'t>) -> Transport {
        let read = |v: &Value| match section::text(v)?.as_str() {
            "auto" => Ok(Transport::Auto),
            "libssh2" => Ok(Transport::Libssh2),
            "russh" => Ok(Transport::Russh),
            "openssh" => Ok(Transport::OpenSsh),
            other => Err(format!("{other:?} is none of auto, libssh2, russh, openssh")),
        };
        self.value(section, "transport", read).unwrap_or_else(|| {
            let default = Transport::default();
            self.keep(section.path_of("transport"), default.to_string(), Origin::Default);
            default
        })
    }

    /// A list of paths. Unlike other lists a text is one path: paths may hold blanks and commas.
    pub(super) fn paths(&mut self, section: &Section<'t>, key: &str) -> Option<Vec<PathBuf>> {
        let home = self.env.home.clone();
        let read = |v: &Value| -> Result<Paths, String> {
            let texts = match v {
                Value::List(items) => items
                    .iter()
                    .map(|i| section::text(&i.value))
                    .collect::<Result<_, _>>()?,
                other => vec![section::text(other)?],
            };
            let resolve =
                |t: String| ssh::expand(&t, home.as_deref()).ok_or(format!("{t:?} cannot be resolved"));
            Ok(Paths(texts.into_iter().map(resolve).collect::<Result<_, _>>()?))
        };
        self.value(section, key, read).map(|p| p.0)
    }
}

fn default_identities(home: Option<&Path>) -> Vec<PathBuf> {
    let names = ["id_ed25519", "id_ecdsa", "id_rsa"];
    let ssh = home.map(|h| h.join(".ssh"));
    ssh.iter()
        .flat_map(|dir| names.iter().map(move |n| dir.join(n)))
        .filter(|p| p.is_file())
        .collect()
}

struct Paths(Vec<PathBuf>);

impl fmt::Display for Paths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, path) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{}", path.display())?;
        }
        Ok(())
    }
}
