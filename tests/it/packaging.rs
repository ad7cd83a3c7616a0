//! What a package puts beside the binary, installed in the bed's Debian as a package would, and started by the real cron.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use testkit::site::NODES;

use crate::bed::{Ends, bed};
use crate::waiting::wait_until;

/// Where Postfix's sendmail leaves what is to be sent.
const DROP_BOX: &str = "/var/spool/postfix/maildrop";

/// A host that mtk was installed on; what was put there goes when this is dropped.
struct Installed;

impl Installed {
    fn new() -> Self {
        // from here on what is there goes again
        let installed = Self;
        let _ = fs::remove_dir_all(place(DROP_BOX));
        install("packaging/sysusers.d/mtk.conf", "/usr/lib/sysusers.d/mtk.conf");
        install("packaging/tmpfiles.d/mtk.conf", "/usr/lib/tmpfiles.d/mtk.conf");
        succeeds(inside("systemd-sysusers").arg("/usr/lib/sysusers.d/mtk.conf"));
        succeeds(inside("systemd-tmpfiles").args(["--create", "/usr/lib/tmpfiles.d/mtk.conf"]));
        fs::copy(crate::mtk::binary(), place("/usr/bin/mtk")).unwrap();
        fs::create_dir_all(place(DROP_BOX)).unwrap();
        succeeds(inside("chown").args(["postfix:postdrop", DROP_BOX]));
        fs::set_permissions(place(DROP_BOX), fs::Permissions::from_mode(0o1730)).unwrap();
        for (from, to) in [
            ("keytabs", "/opt/managed-tokens/keytabs"),
            ("ssh", "/var/lib/mtk/.ssh"),
        ] {
            fs::create_dir_all(place(to)).unwrap();
            for entry in fs::read_dir(bed().dir.join(from)).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    fs::copy(entry.path(), place(to).join(entry.file_name())).unwrap();
                }
            }
            succeeds(inside("chown").args(["-R", "mtk:mtk", to]));
        }
        let dir = bed().dir.display().to_string();
        let config = fs::read_to_string(bed().dir.join("managedTokens.yml"))
            .unwrap()
            .replace(&format!("{dir}/keytabs"), "/opt/managed-tokens/keytabs")
            .replace(&format!("{dir}/ssh"), "/var/lib/mtk/.ssh")
            .replace(&format!("{dir}/state"), "/var/lib/mtk/go");
        fs::write(place("/etc/managed-tokens/managedTokens.yml"), config).unwrap();
        installed
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        for path in [
            "/usr/bin/mtk",
            "/etc/cron.d/mtk",
            "/run/crond.reboot",
            "/usr/lib/sysusers.d/mtk.conf",
            "/usr/lib/tmpfiles.d/mtk.conf",
            "/usr/lib/systemd/system/mtk-run.service",
            "/usr/lib/systemd/system/mtk-run.timer",
        ] {
            let _ = fs::remove_file(place(path));
        }
        // nobody's if the install broke off before it
        let _ = inside("userdel").arg("mtk").stderr(Stdio::null()).status();
        for path in [
            "/var/lib/mtk",
            "/opt/managed-tokens",
            "/etc/managed-tokens",
            DROP_BOX,
        ] {
            let _ = fs::remove_dir_all(place(path));
        }
    }
}

/// A path of the bed's Debian, from outside.
fn place(path: &str) -> PathBuf {
    bed().layout().in_root(path)
}

fn inside(program: &str) -> Command {
    let mut command = bed().layout().chroot(program);
    command.env_remove("MTK_AS_ROOT").stdin(Stdio::null());
    command
}

fn install(file: &str, to: &str) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let to = place(to);
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(&from, &to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    fs::set_permissions(&to, fs::Permissions::from_mode(0o644)).unwrap();
}

#[track_caller]
fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// What waits to be mailed: no mail server runs, so sendmail leaves it in its drop box.
fn mails() -> Vec<String> {
    let read = |entry: std::io::Result<fs::DirEntry>| {
        String::from_utf8_lossy(&fs::read(entry.unwrap().path()).unwrap()).into_owned()
    };
    let mut mails: Vec<String> = fs::read_dir(place(DROP_BOX)).unwrap().map(read).collect();
    // HTCondor tells its administrator of every start
    mails.retain(|mail| mail.contains("Cron"));
    mails
}

/// cron, as if the host had just come up.
fn cron() -> Ends {
    // it keeps by this file that it ran `@reboot` jobs since then
    let _ = fs::remove_file(place("/run/crond.reboot"));
    Ends(inside("cron").arg("-f").spawn().unwrap())
}

#[test]
fn cron_runs_mtk_as_its_own_user_and_mails_nothing() {
    let _installed = Installed::new();
    let crontab =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/cron.d/mtk")).unwrap();
    assert!(crontab.contains("17 * * * * "), "{crontab}");
    // the same line at once instead of at the 17th minute; what it prints behind mtk is the only thing to be mailed
    let line = crontab
        .replace("17 * * * * ", "@reboot ")
        .replace("mtk run --quiet", "mtk run --quiet; echo control");
    fs::write(place("/etc/cron.d/mtk"), line).unwrap();
    let cron = cron();
    wait_until(
        || !mails().is_empty(),
        || "cron ran nothing to its end".to_owned(),
    );
    let mails = mails();
    let status = inside("runuser")
        .args(["-u", "mtk", "--", "mtk", "status"])
        .output()
        .unwrap();
    assert!(
        status.status.success(),
        "cron made nothing fresh:\n{}{}",
        String::from_utf8_lossy(&status.stdout),
        String::from_utf8_lossy(&status.stderr)
    );
    drop(cron);
    let state = fs::metadata(place("/var/lib/mtk")).unwrap();
    assert_ne!(state.uid(), 0, "the state is root's");
    assert_eq!(state.mode() & 0o777, 0o700);
    for node in NODES {
        let pushed = bed().node_path(node.server, "/tmp/vt_u50001-dune_production");
        assert!(pushed.exists(), "{}", pushed.display());
    }
    let [mail] = mails.as_slice() else {
        panic!("{mails:?}")
    };
    // a record of the queue file: its kind, its length, the line; the first behind the headers' empty one
    assert!(
        mail.contains("N\0N\u{7}control"),
        "a run with everything fresh said something: {mail:?}"
    );

    for command in [
        &["run"][..],
        &["uids", "refresh"],
        &["uids", "accept", "dunepro"],
        &["state", "import", "-"],
        &["doctor"],
        &["explain", "login"],
    ] {
        let refused = inside("mtk").args(command).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{command:?}");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            said.contains("not as root") && said.contains("--as-root"),
            "{command:?}: {said}"
        );
    }
    // what root asks of some Vault is counted elsewhere
    let counted = place("/run/mtk-budget");
    fs::create_dir_all(&counted).unwrap();
    inside("mtk")
        .args(["token", "get", "-a", "localhost:1", "--nokerberos", "--oidc"])
        .env("XDG_RUNTIME_DIR", "/run/mtk-budget")
        .output()
        .unwrap();
    let requests = fs::read_dir(&counted).unwrap().count();
    fs::remove_dir_all(&counted).unwrap();
    assert!(requests > 0, "nothing was counted");
    for entry in fs::read_dir(place("/var/lib/mtk")).unwrap() {
        let entry = entry.unwrap();
        assert_ne!(entry.metadata().unwrap().uid(), 0, "{}", entry.path().display());
    }
}

#[test]
fn systemd_takes_the_units_and_finds_them_tight() {
    let _installed = Installed::new();
    for unit in ["mtk-run.service", "mtk-run.timer"] {
        install(
            &format!("packaging/systemd/{unit}"),
            &format!("/usr/lib/systemd/system/{unit}"),
        );
    }
    // the line that a site with a textfile elsewhere is told to use
    let unit = place("/usr/lib/systemd/system/mtk-run.service");
    let text = fs::read_to_string(&unit).unwrap();
    assert!(text.contains("\n#ReadWritePaths=/"), "{text}");
    fs::write(&unit, text.replace("\n#ReadWritePaths=/", "\nReadWritePaths=/")).unwrap();
    let verified = succeeds(inside("systemd-analyze").args(["verify", "--man=no"]).args([
        "/usr/lib/systemd/system/mtk-run.service",
        "/usr/lib/systemd/system/mtk-run.timer",
    ]));
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(!said.contains("mtk-run"), "{said}");
    // 0 is as tight as can be, 10 is none at all: a network client cannot do without sockets
    succeeds(
        inside("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=15", "--no-pager"])
            .arg("/usr/lib/systemd/system/mtk-run.service"),
    );
}
