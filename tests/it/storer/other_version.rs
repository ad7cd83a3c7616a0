//! Under the condor_submit of another version of HTCondor, in a root of its own.

use std::{
    os::unix::fs::{chown, symlink},
    process::Command,
    time::Instant,
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use testkit::{bed::pool_sid, site::SECOND_POOL};

use super::Submitter;
use crate::{
    bed::bed,
    credmon,
    mtk::{Ran, binary, ran},
};

/// The second pool's root, with mtk under the storer's names and what a submitter has there.
struct Elsewhere<'a> {
    robot: &'a Submitter,
    home: String,
}

impl<'a> Elsewhere<'a> {
    fn new(robot: &'a Submitter) -> Self {
        let home = format!("/tmp/submitter-{}", std::process::id());
        let elsewhere = Self { robot, home };
        let at = |file: &str| pool_sid::in_root(bed().layout(), &format!("{}/{file}", elsewhere.home));
        std::fs::create_dir_all(at("")).unwrap();
        std::fs::write(at("mtk"), "").unwrap();
        mount(binary(), at("mtk"), "", MountFlags::BIND, None).unwrap();
        symlink("mtk", at("condor_credential_storer")).unwrap();
        std::fs::copy(robot.person.at("ccache"), at("ccache")).unwrap();
        for file in ["", "ccache"] {
            chown(at(file), Some(robot.account.uid), Some(100)).unwrap();
        }
        elsewhere
    }

    /// A program of that root, as the submitter.
    fn run(&self, program: &str, args: &[&str]) -> Ran {
        let began = Instant::now();
        let mut command = Command::new("chroot");
        command
            .arg(format!("--userspec={}:100", self.robot.account.uid))
            .arg(pool_sid::root_of(bed().layout()))
            .args(["sh", "-c", r#"cd && exec "$@""#, "sh", program])
            .args(args)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &self.home)
            .env("KRB5CCNAME", format!("FILE:{}/ccache", self.home))
            .env(
                "CONDOR_CONFIG",
                format!("/etc/condor/{}.conf", SECOND_POOL.server),
            )
            .env(
                "HTGETTOKENOPTS",
                format!("--credkey={}", self.robot.account.credkey()),
            )
            // this condor_submit looks for the whole name; the credmon is content with the issuer
            .env("_condor_VAULT_CREDMON_PROVIDER_NAMES", "dune_production")
            .env(
                "_condor_SEC_CREDENTIAL_STORER",
                format!("{}/condor_credential_storer", self.home),
            );
        ran(command.output().unwrap(), began)
    }
}

impl Drop for Elsewhere<'_> {
    fn drop(&mut self) {
        self.run("condor_rm", &["-all"]);
        let at = |file: &str| pool_sid::in_root(bed().layout(), file);
        // a test that failed may have left the mount busy
        let _ = unmount(at(&format!("{}/mtk", self.home)), UnmountFlags::DETACH);
        let _ = std::fs::remove_dir_all(at(&self.home));
        for kind in ["vt", "bt"] {
            let stem = format!("/tmp/{kind}_u{}", self.robot.account.uid);
            for rest in ["", "-dune_production", "-dune_production_weak"] {
                let _absent = std::fs::remove_file(at(&format!("{stem}{rest}")));
            }
        }
    }
}

#[test]
fn a_condor_submit_of_another_version_has_it_store_what_a_job_needs() {
    credmon::hearing(SECOND_POOL.server);
    let robot = Submitter::new(44);
    let there = Elsewhere::new(&robot);
    let text = "executable = /bin/true\nhold = true\nuse_oauth_services = dune_production\n\
                dune_production_oauth_permissions_weak = compute.read\n\
                dune_production_oauth_resource_weak = https://ce.example\nqueue\n";
    let file = format!("{}/weak.sub", there.home);
    std::fs::write(pool_sid::in_root(bed().layout(), &file), text).unwrap();
    for _ in 0..2 {
        let submitted = there.run("condor_submit", &["weak.sub"]);
        assert_eq!(
            submitted.code,
            Some(0),
            "{}{}",
            submitted.stdout,
            submitted.stderr
        );
        assert!(
            submitted.stdout.contains("1 job(s) submitted"),
            "{}",
            submitted.stdout
        );
    }
    let server = SECOND_POOL.server;
    assert_eq!(
        robot.used_at(server, "dune_production")["sub"],
        robot.account.name.as_str()
    );
    let claims = robot.used_at(server, "dune_production_weak");
    assert_eq!(
        (&claims["scope"], &claims["aud"]),
        (&"compute.read".into(), &"https://ce.example".into())
    );
}
