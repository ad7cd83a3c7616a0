//! A person inside the bed's Debian root, where the programs that mtk stands in for are: a home, a ticket, mtk beside them.

use std::{
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use testkit::site::{REALM, VAULT};

use crate::{
    bed::bed,
    mtk::{Ran, binary, ran},
};

pub struct Person {
    /// As the person sees it.
    pub home: String,
    pub uid: u32,
}

impl Person {
    /// Somebody with this number, and a ticket of `principal` by the bed's keytab of that name.
    pub fn new(uid: u32, keytab: &str, principal: &str) -> Self {
        let name = format!("person-{}-{:x}", std::process::id(), rand_number());
        let person = Self {
            home: format!("/tmp/{name}"),
            uid,
        };
        std::fs::create_dir_all(person.at("bin")).unwrap();
        let program = person.at("bin/mtk");
        std::fs::write(&program, "").unwrap();
        mount(binary(), &program, "", MountFlags::BIND, None).unwrap();
        for name in [
            "htgettoken",
            "htdecodetoken",
            "htdestroytoken",
            "condor_vault_storer",
            "condor_credential_storer",
        ] {
            symlink("mtk", person.at("bin").join(name)).unwrap();
        }
        std::fs::copy(bed().keytab(keytab), person.at("keytab")).unwrap();
        for path in ["", "bin", "keytab"] {
            chown(person.at(path), Some(uid), Some(100)).unwrap();
        }
        std::fs::set_permissions(person.at("keytab"), std::fs::Permissions::from_mode(0o400)).unwrap();
        let kinit = person.run("kinit", &["-k", "-t", "keytab", principal]);
        assert_eq!(kinit.code, Some(0), "{}", kinit.stderr);
        person
    }

    /// alice, onboarded for dune.
    pub fn alice() -> Self {
        bed().onboard("dune", "default", "alice", "alice");
        // an account that is there, for ssh-keygen wants one, and nobody else's
        Self::new(51050, "alice", &format!("alice@{REALM}"))
    }

    /// A file of the person's, from outside.
    pub fn at(&self, file: impl AsRef<Path>) -> PathBuf {
        let home = bed().layout().in_root(&self.home);
        if file.as_ref() == Path::new("") {
            return home;
        }
        home.join(file)
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.at(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
    }

    /// A program, in the person's home, with nothing of our environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("chroot");
        command
            .arg(format!("--userspec={}:100", self.uid))
            .arg(bed().layout().in_root("/"))
            .args(["sh", "-c", r#"cd && exec "$@""#, "sh", program])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &self.home)
            .env("KRB5CCNAME", format!("FILE:{}/ccache", self.home))
            .env("TZ", "UTC")
            .env("LC_ALL", "C.UTF-8")
            .stdin(std::process::Stdio::null());
        command
    }

    pub fn run(&self, program: &str, args: &[&str]) -> Ran {
        let began = Instant::now();
        ran(self.command(program).args(args).output().unwrap(), began)
    }

    /// mtk under one of its names.
    pub fn ours(&self, name: &str) -> Command {
        self.command(&format!("{}/bin/{name}", self.home))
    }

    /// `mtk token get` at the bed's Vault.
    pub fn get(&self, args: &[&str]) -> Ran {
        let began = Instant::now();
        let mut command = self.ours("mtk");
        command
            .args(["token", "get", "-a", VAULT.name, "-i", "dune"])
            .args(args);
        ran(command.output().unwrap(), began)
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        // a test that failed may have left the mount busy
        let _ = unmount(self.at("bin/mtk"), UnmountFlags::DETACH);
        let _ = std::fs::remove_dir_all(self.at(""));
        for place in ["/tmp", "/run"] {
            let Ok(entries) = std::fs::read_dir(bed().layout().in_root(place)) else {
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let ours = ["vt_u", "bt_u"]
                    .iter()
                    .any(|kind| name.starts_with(&format!("{kind}{}", self.uid)));
                if ours {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
    }
}

fn rand_number() -> u128 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos()
}
