//! What HTCondor's own tools say, written down through a relay that only listens: `cargo xtask fixtures cedar`.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use cedar::wire::Mode;
use testkit::{
    bed::{Layout, pool_sid},
    hostile::relay::{Relay, Side, Verdict},
    site::{ACCESS_POINTS, COLLECTOR, Host, SECOND_POOL},
};

use crate::bed::bed;

/// Of a service nobody has, so that nothing of the bed changes.
const SERVICE: &str = "witness";

const CREDENTIAL: &str =
    "{\"vault_token\": \"hvs.invented\", \"vault_url\": \"https://vault.mtk.test:8200/v1/secret/x\"}\n";

#[track_caller]
fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}{complained}");
    said
}

/// Runs one tool through a relay to `daemon`, and writes what both sides said: a line a message, `>` the tool's, `<`
/// the daemon's, `=` behind it where it was sealed, and the payload as it is inside the frames.
fn record(tools: Tools<'_>, stem: &str, what: Daemon, tool: impl FnOnce(SocketAddr, Command) -> Command) {
    let lines = Arc::new(Mutex::new(String::new()));
    let written = lines.clone();
    let daemon = tools.daemon(what);
    let upstream = SocketAddr::from((daemon.address, daemon.port));
    // the tools take the name for Kerberos from the address, so it must be the daemon's own
    let start = |hook| match what {
        Daemon::Collector => Relay::start(daemon.address, upstream, hook),
        Daemon::Credd => Relay::behind_shared_port(daemon.address, upstream, "credd", hook),
    };
    let relay = start(Arc::new(move |passing| {
        let mut lines = written.lock().unwrap();
        lines.push(if passing.from == Side::Client { '>' } else { '<' });
        lines.push_str(if passing.mode == Mode::Sealed { "= " } else { " " });
        passing
            .payload
            .iter()
            .for_each(|b| write!(lines, "{b:02x}").unwrap());
        lines.push('\n');
        Verdict::Pass
    }))
    .unwrap();
    let output = tool(relay.address(), tools.command()).output().unwrap();
    // what it says counts: a query of what is not there ends with 1
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(relay.connections(), 1, "{stem}: {said}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/cedar");
    let path = folder.join(format!("{}-{stem}.hex", tools.prefix));
    std::fs::write(&path, lines.lock().unwrap().as_str()).unwrap();
    println!("{}: {}", path.display(), said.trim());
}

/// Whom a tool talks to.
#[derive(Clone, Copy)]
enum Daemon {
    Collector,
    Credd,
}

/// The tools of one version, and the pool they talk to.
#[derive(Clone, Copy)]
struct Tools<'a> {
    layout: &'a Layout,
    /// Of the recordings' names.
    prefix: &'static str,
    second: bool,
}

impl Tools<'_> {
    /// Any of them, as the robot of dunepro.
    fn command(self) -> Command {
        // not as root: then they would take the daemon's own keytab
        let mut command = self.chroot("setpriv");
        command.args(["--reuid=50001", "--regid=100", "--clear-groups"]);
        let config = if self.second { SECOND_POOL.server } else { "ap1" };
        command
            .env("CONDOR_CONFIG", format!("/etc/condor/{config}.conf"))
            .env("KRB5CCNAME", "FILE:/tmp/witness.ccache")
            .env("_condor_SEC_CLIENT_AUTHENTICATION_METHODS", "KERBEROS")
            .env("HOME", "/tmp");
        command
    }

    fn chroot(self, program: &str) -> Command {
        if self.second {
            pool_sid::chroot(self.layout, program)
        } else {
            self.layout.chroot(program)
        }
    }

    fn file(self, name: &str) -> PathBuf {
        let path = format!("/tmp/{name}");
        if self.second {
            pool_sid::in_root(self.layout, &path)
        } else {
            self.layout.in_root(path)
        }
    }

    fn daemon(self, what: Daemon) -> Host {
        let [ap1, ..] = ACCESS_POINTS;
        match what {
            _ if self.second => SECOND_POOL,
            Daemon::Collector => COLLECTOR,
            Daemon::Credd => ap1,
        }
    }

    fn own(self, name: &str) -> PathBuf {
        let file = self.file(name);
        chown(&file, Some(50001), None).unwrap();
        file
    }

    /// Everything these tools are recorded doing.
    fn record(self) {
        std::fs::write(self.file("witness.json"), CREDENTIAL).unwrap();
        let credential = self.own("witness.json");
        for (stem, words) in [
            (
                "add",
                &["add-oauth", "-s", SERVICE, "-i", "/tmp/witness.json"][..],
            ),
            ("query", &["query-oauth", "-s", SERVICE]),
            ("query-handle", &["query-oauth", "-s", SERVICE, "-H", "h1"]),
            ("delete", &["delete-oauth", "-s", SERVICE]),
        ] {
            record(self, stem, Daemon::Credd, |relay, mut tool| {
                let name = self.daemon(Daemon::Credd).name;
                tool.env("_condor_CREDD_HOST", format!("<{relay}?alias={name}>"));
                tool.arg("condor_store_cred").args(words);
                tool
            });
        }
        record(self, "status", Daemon::Collector, |relay, mut tool| {
            let attributes = ["Name", "Machine", "MyAddress", "CredDIpAddr", "CondorVersion"];
            tool.args(["condor_status", "-pool", &relay.to_string(), "-schedd"]);
            tool.args(["-constraint", "Name =!= \"nobody\"", "-af"])
                .args(attributes);
            tool
        });
        std::fs::remove_file(credential).unwrap();
    }
}

#[test]
#[ignore = "run by cargo xtask fixtures cedar"]
fn record_the_tools() {
    let layout = bed().layout();
    let old = Tools {
        layout,
        prefix: "tool",
        second: false,
    };
    let new = Tools {
        prefix: "tool-25",
        second: true,
        ..old
    };
    std::fs::copy(layout.keytab("dunepro"), old.file("witness.keytab")).unwrap();
    let keytab = old.own("witness.keytab");
    let principal = "dunepro/managedtokens/mtk.mtk.test@MTK.TEST";
    // there is no kinit in the other root
    done(
        old.command()
            .args(["kinit", "-k", "-t", "/tmp/witness.keytab", principal]),
    );
    std::fs::remove_file(keytab).unwrap();
    std::fs::copy(old.file("witness.ccache"), new.file("witness.ccache")).unwrap();
    new.own("witness.ccache");
    for tools in [old, new] {
        tools.record();
        std::fs::remove_file(tools.file("witness.ccache")).unwrap();
    }
}
