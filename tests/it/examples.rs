//! The examples of the protocol crates, against the bed's servers.

use credd_client::{Credd, CreddAddress, Identity, Options};
use credential::SecretBytes;
use kerberos::Gss;
use testkit::site::{ACCESS_POINTS, COLLECTOR, REALM};

use crate::bed::bed;
use crate::waiting::block;

#[path = "../../crates/cedar/examples/schedds.rs"]
#[expect(dead_code, reason = "an example's main is for people")]
mod schedds;
#[path = "../../crates/credd-client/examples/store.rs"]
#[expect(dead_code, reason = "an example's main is for people")]
mod store;

const ACCOUNT: &str = "mu2eana";
const SERVICE: &str = "example";

#[test]
fn schedds_of_the_pool_by_cedar_alone() {
    let address = format!("<{}:9618>", COLLECTOR.address);
    let ads = schedds::schedds(&address).unwrap();
    let mut names: Vec<&str> = ads.iter().filter_map(|ad| ad.text("Name")).collect();
    names.sort_unstable();
    assert_eq!(names, ACCESS_POINTS.map(|host| host.name));
}

#[test]
fn a_store_by_credd_client_alone() {
    block(async {
        let gss = Gss::new(1);
        let principal = format!("{ACCOUNT}/managedtokens/mtk.mtk.test@{REALM}");
        let ticket = store::ticket(&gss, &bed().keytab(ACCOUNT), &principal)
            .await
            .unwrap();
        let identity = Identity::kerberos(ticket, gss, ACCOUNT);
        let json = SecretBytes::new(b"{\"vault_url\": \"https://vault.mtk.test:8200/v1/x\"}\n".to_vec());
        let name = ACCESS_POINTS[0].name;
        let stored = store::store(COLLECTOR.name, name, identity.clone(), SERVICE, &json)
            .await
            .unwrap();
        assert_eq!(stored.user, format!("{ACCOUNT}@mtk.test"));
        let file = bed().oauth_file("ap1", ACCOUNT, &format!("{SERVICE}.top"));
        assert!(file.exists(), "{}", file.display());
        let address = CreddAddress::from_entry(&format!(
            "<{}:9618?alias={name}&sock=credd>",
            ACCESS_POINTS[0].address
        ));
        let credd = Credd::new(address.unwrap(), identity, Options::default());
        credd.delete(ACCOUNT, SERVICE, None).await.unwrap();
    });
}

/// What a README shows is what runs here.
#[test]
fn the_readme_shows_the_example() {
    let readme = include_str!("../../crates/credd-client/README.md");
    let example = include_str!("../../crates/credd-client/examples/store.rs");
    let (_, shown) = readme.split_once("```rust,no_run\n").unwrap();
    let (_, shown) = shown.split_once("\n\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    assert!(shown.lines().count() > 10, "{shown}");
    assert!(example.contains(shown), "{shown}");
}
