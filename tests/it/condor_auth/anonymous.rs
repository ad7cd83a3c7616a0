//! SSL without a certificate of ours: TLS proves the daemon, and to the daemon we are nobody.

use std::fs;

use credd_client::{Collector, Method, Options, ads};

use super::{ACCOUNT, certificate, options, runtime};
use crate::{bed::bed, insisting::Insisting};

#[test]
fn nobody_may_ask_a_collector_that_proves_itself() {
    let insisting = Insisting::on("SSL");
    let collector = Collector::new(&insisting.address()).unwrap();
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
