//! A collector that answers nobody who does not say who asks.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    process::{Child, Stdio},
};

use testkit::site::COLLECTOR;

use crate::{bed::bed, waiting::wait_until};

const PORT: u16 = 9621;

/// One of its own, until it is dropped. That of the bed is left alone: it keeps the policy of a level of access through a
/// change of its configuration.
pub struct Insisting(Child);

impl Insisting {
    /// It takes this method from readers.
    pub fn on(method: &str) -> Self {
        let layout = bed().layout();
        let root = |path: &str| layout.in_root(path);
        let configuration = fs::read_to_string(root("/etc/condor/condor.conf")).unwrap();
        let here = "/var/lib/condor/insisting";
        let more = [
            "USE_SHARED_PORT = False".to_owned(),
            format!("COLLECTOR_HOST = {}:{PORT}", COLLECTOR.name),
            format!("LOCAL_DIR = {here}"),
            format!("LOG = {here}"),
            "COLLECTOR_ADDRESS_FILE = $(LOCAL_DIR)/address".to_owned(),
            "SEC_READ_AUTHENTICATION = REQUIRED".to_owned(),
            // its log says who asked
            "COLLECTOR_DEBUG = D_SECURITY:1".to_owned(),
            format!("COLLECTOR.SEC_READ_AUTHENTICATION_METHODS = {method}"),
        ];
        let more = more.join("\n");
        fs::write(
            root("/etc/condor/insisting.conf"),
            format!("{configuration}\n{more}\n"),
        )
        .unwrap();
        let owner = fs::metadata(root("/var/lib/condor/condor/spool")).unwrap().uid();
        for name in ["", "/spool", "/lock", "/execute", "/run"] {
            let dir = root(&format!("{here}{name}"));
            fs::create_dir_all(&dir).unwrap();
            chown(&dir, Some(owner), None).unwrap();
        }
        let mut command = layout.chroot("condor_collector");
        command.args(["-f", "-p", &PORT.to_string()]);
        command.env("CONDOR_CONFIG", "/etc/condor/insisting.conf");
        let output = Stdio::null;
        let child = command.stdout(output()).stderr(output()).spawn().unwrap();
        let started = Self(child);
        let listens = || std::net::TcpStream::connect((COLLECTOR.address, PORT)).is_ok();
        wait_until(listens, || started.log());
        started
    }

    /// As an entry of `COLLECTOR_HOST`.
    pub fn address(&self) -> String {
        format!("{}:{PORT}", COLLECTOR.name)
    }

    /// Tells it what the bed's own collector knows of an access point.
    pub fn is_told_of(&self, access_point: &str) {
        for (command, which) in [("UPDATE_SCHEDD_AD", "Scheduler"), ("UPDATE_AD_GENERIC", "CredD")] {
            let constraint = format!("MyType == \"{which}\" && Name == \"{access_point}\"");
            let known = tool(
                "condor.conf",
                "condor_status",
                &["-any", "-long", "-constraint", &constraint],
            );
            assert!(known.contains("MyAddress"), "{known}");
            let file = "/tmp/insisting.ad";
            fs::write(bed().layout().in_root(file), known).unwrap();
            tool("insisting.conf", "condor_advertise", &["-tcp", command, file]);
            fs::remove_file(bed().layout().in_root(file)).unwrap();
        }
    }

    pub fn log(&self) -> String {
        let path = bed().layout().in_root("/var/lib/condor/insisting/CollectorLog");
        fs::read_to_string(path).unwrap_or_default()
    }
}

/// What HTCondor's own tool says, as root.
fn tool(configuration: &str, program: &str, words: &[&str]) -> String {
    let mut command = bed().layout().chroot(program);
    command.env("CONDOR_CONFIG", format!("/etc/condor/{configuration}"));
    let output = command.args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {words:?}: {said}{why}");
    said
}

impl Drop for Insisting {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        let layout = bed().layout();
        fs::remove_dir_all(layout.in_root("/var/lib/condor/insisting")).unwrap();
        fs::remove_file(layout.in_root("/etc/condor/insisting.conf")).unwrap();
    }
}
