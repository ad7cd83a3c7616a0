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
    bed::{Cache, Layout},
    hostile::relay::{Relay, Side, Verdict},
    site::{ACCESS_POINTS, COLLECTOR, Host},
};

/// Of a service nobody has, so that nothing of the bed changes.
const SERVICE: &str = "witness";

const CREDENTIAL: &str =
    "{\"vault_token\": \"hvs.invented\", \"vault_url\": \"https://vault.mtk.test:8200/v1/secret/x\"}\n";

fn layout() -> Layout {
    let dir = PathBuf::from(std::env::var_os("MTK_BED").expect("run inside a test bed"));
    let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
    let cache = Cache {
        dir: dir.parent().unwrap().parent().unwrap().to_path_buf(),
    };
    Layout::new(&cache, &name).unwrap()
}

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
fn record(layout: &Layout, stem: &str, daemon: Host, tool: impl FnOnce(SocketAddr, Command) -> Command) {
    let lines = Arc::new(Mutex::new(String::new()));
    let written = lines.clone();
    let upstream = SocketAddr::from((daemon.address, daemon.port));
    // the tools take the name for Kerberos from the address, so it must be the daemon's own
    let start = |hook| match daemon == COLLECTOR {
        true => Relay::start(daemon.address, upstream, hook),
        false => Relay::behind_shared_port(daemon.address, upstream, "credd", hook),
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
    let output = tool(relay.address(), tools(layout)).output().unwrap();
    // what it says counts: a query of what is not there ends with 1
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(relay.connections(), 1, "{stem}: {said}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/cedar");
    let path = folder.join(format!("{stem}.hex"));
    std::fs::write(&path, lines.lock().unwrap().as_str()).unwrap();
    println!("{}: {}", path.display(), said.trim());
}

/// Any of the tools, as the robot of dunepro.
fn tools(layout: &Layout) -> Command {
    // not as root: then they would take the daemon's own keytab
    let mut command = layout.chroot("setpriv");
    command.args(["--reuid=50001", "--regid=100", "--clear-groups"]);
    command
        .env("CONDOR_CONFIG", "/etc/condor/ap1.conf")
        .env("KRB5CCNAME", "FILE:/tmp/witness.ccache")
        .env("_condor_SEC_CLIENT_AUTHENTICATION_METHODS", "KERBEROS")
        .env("HOME", "/tmp");
    command
}

#[test]
#[ignore = "run by cargo xtask fixtures cedar"]
fn record_the_tools() {
    let layout = layout();
    let [ap1, ..] = ACCESS_POINTS;
    std::fs::copy(layout.keytab("dunepro"), layout.in_root("/tmp/witness.keytab")).unwrap();
    std::fs::write(layout.in_root("/tmp/witness.json"), CREDENTIAL).unwrap();
    for file in ["witness.keytab", "witness.json"] {
        chown(layout.in_root(format!("/tmp/{file}")), Some(50001), None).unwrap();
    }
    let principal = "dunepro/managedtokens/mtk.mtk.test@MTK.TEST";
    done(tools(&layout).args(["kinit", "-k", "-t", "/tmp/witness.keytab", principal]));
    for (stem, words) in [
        (
            "tool-add",
            &["add-oauth", "-s", SERVICE, "-i", "/tmp/witness.json"][..],
        ),
        ("tool-query", &["query-oauth", "-s", SERVICE]),
        ("tool-query-handle", &["query-oauth", "-s", SERVICE, "-H", "h1"]),
        ("tool-delete", &["delete-oauth", "-s", SERVICE]),
    ] {
        record(&layout, stem, ap1, |relay, mut tool| {
            tool.env("_condor_CREDD_HOST", format!("<{relay}?alias={}>", ap1.name));
            tool.arg("condor_store_cred").args(words);
            tool
        });
    }
    record(&layout, "tool-status", COLLECTOR, |relay, mut tool| {
        let attributes = ["Name", "Machine", "MyAddress", "CredDIpAddr", "CondorVersion"];
        tool.args(["condor_status", "-pool", &relay.to_string(), "-schedd"]);
        tool.args(["-constraint", "Name =!= \"nobody\"", "-af"])
            .args(attributes);
        tool
    });
    for file in ["witness.keytab", "witness.json", "witness.ccache"] {
        std::fs::remove_file(layout.in_root(format!("/tmp/{file}"))).unwrap();
    }
}
