//! SSL without a certificate of ours: TLS proves the daemon, and to the daemon we are nobody.

use std::{
    fs,
    os::unix::fs::chown,
    process::{Child, Stdio},
};

use credd_client::{Collector, Method, Options, ads};
use testkit::site::COLLECTOR;

use super::{ACCOUNT, certificate, options, runtime};
use crate::bed::bed;
use crate::waiting::wait_until;

const PORT: u16 = 9621;

/// A collector of its own that answers nobody without SSL. That of the bed is left alone: it keeps the policy of a
/// level of access through a change of its configuration.
struct Insisting(Child);

impl Insisting {
    fn start() -> Self {
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
            "COLLECTOR.SEC_READ_AUTHENTICATION_METHODS = SSL".to_owned(),
        ];
        let more = more.join("\n");
        fs::write(
            root("/etc/condor/insisting.conf"),
            format!("{configuration}\n{more}\n"),
        )
        .unwrap();
        let owner =
            std::os::unix::fs::MetadataExt::uid(&fs::metadata(root("/var/lib/condor/condor/spool")).unwrap());
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
        wait_until(
            || std::net::TcpStream::connect((COLLECTOR.address, PORT)).is_ok(),
            || started.log(),
        );
        started
    }

    fn log(&self) -> String {
        let path = bed().layout().in_root("/var/lib/condor/insisting/CollectorLog");
        fs::read_to_string(path).unwrap_or_default()
    }
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

#[test]
fn nobody_may_ask_a_collector_that_proves_itself() {
    let insisting = Insisting::start();
    let collector = Collector::new(&format!("{}:{PORT}", COLLECTOR.name)).unwrap();
    let query = ads::Query::all(ads::Kind::Any, &["Name"]);
    let ask = |options: &Options| {
        runtime().block_on(async {
            let mut answer = collector.stream(&query, ads::Limits::DEFAULT, options).await?;
            // to its end, which an answer must have, be there anything in it or not
            while answer.next().await?.is_some() {}
            Ok::<_, credd_client::Error>(answer.mapped_user().to_owned())
        })
    };
    // it does insist
    ask(&options(&[Method::Kerberos])).unwrap_err();
    let user = ask(&options(&[Method::Ssl])).unwrap_or_else(|e| panic!("{e:?}\n{}", insisting.log()));
    assert_eq!(user, "unauthenticated@unmapped");
    // with a certificate we are somebody
    let reader = credd_client::Identity::new(ACCOUNT).with_certificate(certificate(ACCOUNT));
    let known = Options {
        reader: Some(reader),
        ..options(&[Method::Ssl])
    };
    assert_eq!(ask(&known).unwrap(), "dunepro@mtk.test");
}

/// We do not even offer it (`ssl_with_a_client_certificate`); HTCondor's own tool does, and the credd refuses.
#[test]
fn nobody_may_not_store() {
    let layout = bed().layout();
    let file = layout.in_root("/tmp/nobody.json");
    fs::write(&file, "{\"vault_url\": \"https://vault.mtk.test:8200/v1/x\"}\n").unwrap();
    let mut tool = layout.chroot("setpriv");
    tool.args([
        "--reuid=50001",
        "--regid=100",
        "--clear-groups",
        "condor_store_cred",
    ]);
    tool.args(["add-oauth", "-s", "nobody", "-i", "/tmp/nobody.json"]);
    tool.env("CONDOR_CONFIG", "/etc/condor/ap1.conf")
        .env("HOME", "/tmp")
        .env("_condor_SEC_CLIENT_AUTHENTICATION_METHODS", "SSL")
        .env(
            "_condor_CREDD_HOST",
            "<127.0.1.101:9618?alias=ap1.mtk.test&sock=credd>",
        );
    let output = tool.output().unwrap();
    fs::remove_file(&file).unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success(), "{said}");
    for account in [ACCOUNT, "unauthenticated"] {
        assert!(!bed().oauth_file("ap1", account, "nobody.top").exists());
    }
}
