//! Where a bed keeps what.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::cache::Cache;

/// The places of one bed.
///
/// `dir` is seen by the host and stays when the bed is gone (logs!); `run` and `root` exist only inside the bed's
/// mount namespace, on a tmpfs, and vanish with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The bed's name.
    pub name: String,
    /// The bed's folder, on the host: files for mtk and for tests, logs, the control socket. The same path inside.
    pub dir: PathBuf,
    /// A short path inside the namespace, on a tmpfs: server state.
    pub run: PathBuf,
    /// The Debian root as seen inside: an overlay over the cached root, writable and private to this bed.
    pub root: PathBuf,
}

impl Layout {
    /// The places of the bed `name`.
    ///
    /// # Errors
    /// The name is not one to make a folder of: 1 to 40 characters of `a-z A-Z 0-9 . _ -`, no dot in front.
    pub fn new(cache: &Cache, name: &str) -> Result<Self> {
        let fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > 40 || name.starts_with('.') || !name.chars().all(fine) {
            bail!(
                "{name:?} cannot name a test bed: 1 to 40 characters of a-z A-Z 0-9 . _ -, no dot in front"
            );
        }
        let run = PathBuf::from("/run/mtk-bed");
        Ok(Self {
            name: name.to_owned(),
            dir: cache.dir.join("beds").join(name),
            root: run.join("root"),
            run,
        })
    }

    /// Makes the bed's folders on the host; those with keys are for their owner alone.
    ///
    /// # Errors
    /// The file system.
    pub fn create(&self) -> Result<()> {
        for (dir, mode) in [
            (self.dir.clone(), 0o755),
            (self.logs(), 0o755),
            (self.keytabs(), 0o700),
            (self.dir.join("vault"), 0o700),
            (self.dir.join("ssh"), 0o755),
        ] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(&dir)
                .with_context(|| format!("cannot make {}", dir.display()))?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// The folder of logs: `<bed>/logs`.
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// The log of one server: `<bed>/logs/<server>.log`.
    pub fn log(&self, server: &str) -> PathBuf {
        self.logs().join(format!("{server}.log"))
    }

    /// The folder of keytabs, one a principal: `<bed>/keytabs`.
    pub fn keytabs(&self) -> PathBuf {
        self.dir.join("keytabs")
    }

    /// One keytab: `<bed>/keytabs/<name>.keytab`, for an account, `host-vault`, `host-condor`, `host-ap1` or `host-gss`.
    pub fn keytab(&self, name: &str) -> PathBuf {
        self.keytabs().join(format!("{name}.keytab"))
    }

    /// The bed's hosts file, to be bound over `/etc/hosts` wherever a server looks for names.
    pub fn hosts(&self) -> PathBuf {
        self.dir.join("hosts")
    }

    /// The bed's krb5.conf, to be bound over `/etc/krb5.conf`.
    pub fn krb5_conf(&self) -> PathBuf {
        self.dir.join("krb5.conf")
    }

    /// The bed's own CA alone.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The host's CA bundle with the bed's CA added, to stand in the place of a system store.
    pub fn ca_bundle(&self) -> PathBuf {
        self.dir.join("ca-bundle.pem")
    }

    /// The certificate and the key of one server of the bed, `vault` or `issuer`.
    pub fn certificate(&self, server: &str) -> (PathBuf, PathBuf) {
        let vault = self.dir.join("vault");
        (
            vault.join(format!("{server}.pem")),
            vault.join(format!("{server}.key")),
        )
    }

    /// The root token of the vault server.
    pub fn root_token(&self) -> PathBuf {
        self.dir.join("vault").join("root.token")
    }

    /// Host keys of the nodes, as mtk reads them.
    pub fn known_hosts(&self) -> PathBuf {
        self.dir.join("ssh").join("known_hosts")
    }

    /// Everything about the running bed, for programs.
    pub fn bed_json(&self) -> PathBuf {
        self.dir.join("bed.json")
    }

    /// The socket on which the bed takes commands.
    pub fn control(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// Which process the bed is, on the host.
    pub(super) fn pid_file(&self) -> PathBuf {
        self.dir.join("pid")
    }

    /// Where the bed being started finds the parts it is made of.
    pub(super) fn parts_file(&self) -> PathBuf {
        self.dir.join("parts.json")
    }

    /// Leaves a word for the host: `ready` or `failed`.
    pub(super) fn mark(&self, mark: &str, text: &str) -> Result<()> {
        let half = self.dir.join(format!("{mark}.half"));
        fs::write(&half, text).with_context(|| format!("cannot write {}", half.display()))?;
        fs::rename(&half, self.dir.join(mark)).with_context(|| format!("cannot mark the bed as {mark}"))
    }

    /// The word left by [`Layout::mark`], if there is one.
    pub(super) fn marked(&self, mark: &str) -> Option<String> {
        fs::read_to_string(self.dir.join(mark)).ok()
    }

    /// Removes what a bed of the same name left: marks, secrets, logs.
    pub(super) fn forget_last_run(&self) -> Result<()> {
        for entry in fs::read_dir(&self.dir).with_context(|| format!("cannot read {}", self.dir.display()))? {
            let path = entry?.path();
            let gone = if path.is_dir() && !path.is_symlink() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            gone.with_context(|| format!("cannot remove {}", path.display()))?;
        }
        self.create()
    }

    /// A path of the bed's Debian root (`/etc/x`) as seen from outside the chroot.
    pub fn in_root(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A command that runs inside the bed's Debian root.
    pub fn chroot(&self, program: &str) -> std::process::Command {
        let mut command = std::process::Command::new("chroot");
        command.arg(&self.root).arg(program);
        command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env_remove("KRB5_CONFIG")
            .env("LC_ALL", "C.UTF-8");
        command
    }
}

/// A bed below a folder of a test's own.
#[cfg(test)]
pub(super) fn below(folder: impl Into<PathBuf>, name: &str) -> Result<Layout> {
    Layout::new(&Cache { dir: folder.into() }, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(name: &str) -> Result<Layout> {
        below("/c", name)
    }

    #[test]
    fn places() {
        let bed = layout("default").unwrap();
        assert_eq!(bed.log("ap1"), Path::new("/c/beds/default/logs/ap1.log"));
        assert_eq!(
            bed.keytab("dunepro"),
            Path::new("/c/beds/default/keytabs/dunepro.keytab")
        );
        assert_eq!(
            bed.in_root("/etc/krb5.keytab"),
            Path::new("/run/mtk-bed/root/etc/krb5.keytab")
        );
    }

    #[test]
    fn a_name_cannot_leave_the_folder() {
        for bad in ["", "..", ".hidden", "a/b", "a b", &"x".repeat(41)] {
            assert!(layout(bad).is_err(), "{bad:?}");
        }
    }
}
