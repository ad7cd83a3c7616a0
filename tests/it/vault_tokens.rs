//! Bearer tokens of the real secrets engine and issuer: whole, with less in them, and checked against the issuer's keys.

use std::sync::Arc;

use credential::{BearerToken, Principal, Profile};
use jiff::Timestamp;
use kerberos::{Gss, Keytab, Mech, Target};
use serde_json::json;
use testkit::site::{self, ACCESS_POINTS, VAULT};
use vault_client::{Client, Error, Login, Options, Restriction, SecretPath};

use crate::{
    bed::{bed, top_token},
    mtk::Operator,
    waiting::block,
};

/// A robot, logged in.
pub struct Robot {
    pub client: Client,
    tls: Arc<tls::ClientConfig>,
    pub login: Login,
    pub path: SecretPath,
}

/// Who believes the bed's CA alone.
pub fn trusting() -> Arc<tls::ClientConfig> {
    let trust = tls::Trust {
        system: false,
        ca_file: Some(bed().layout().ca()),
        ..tls::Trust::default()
    };
    tls::client_config(&trust).unwrap()
}

/// A robot's ticket, for one login after another.
pub struct Ticketed {
    gss: Gss,
    ticket: kerberos::Ticket,
    pub principal: Principal,
}

impl Ticketed {
    pub async fn new() -> Self {
        let account = site::SERVICES[0].account();
        let principal: Principal = account.principal().parse().unwrap();
        let keytab = Keytab::open(&bed().keytab(&account.name), &principal).unwrap();
        let gss = Gss::new(1);
        let ticket = gss.acquire(&keytab).await.unwrap();
        Self {
            gss,
            ticket,
            principal,
        }
    }

    /// An AP-REQ for this service.
    pub async fn for_service(&self, service: &str) -> Vec<u8> {
        let target = Target::Principal(service.to_owned());
        let begun = self.gss.begin(&self.ticket, &target, Mech::Krb5, false).await;
        begun.unwrap().1
    }

    pub async fn log_in(&self, client: &Client, ap_req: &[u8]) -> Result<Login, Error> {
        client
            .login_kerberos("dune", "production", ap_req, &self.principal, Timestamp::now())
            .await
    }
}

impl Robot {
    pub async fn new() -> Self {
        let tls = trusting();
        let client = Client::new(Options::new(VAULT.name.parse().unwrap(), tls.clone())).unwrap();
        let ticketed = Ticketed::new().await;
        let ap_req = ticketed.for_service(&client.kerberos_target()).await;
        let login = ticketed.log_in(&client, &ap_req).await.unwrap();
        let path = SecretPath::new("dune", ticketed.principal.credkey(), "production").unwrap();
        Self {
            client,
            tls,
            login,
            path,
        }
    }

    async fn less(&self, scopes: &[&str], audiences: &[&str]) -> Result<BearerToken, Error> {
        let restriction = Restriction::new(scopes, audiences)?;
        self.client
            .bearer_with_less(&self.login.token, &self.path, &restriction, 60)
            .await
            .map(|bearer| bearer.token)
    }
}

#[test]
fn a_token_may_do_less_and_be_for_others() {
    block(async {
        let robot = Robot::new().await;
        let whole = robot
            .client
            .bearer(&robot.login.token, &robot.path, 60)
            .await
            .unwrap();
        let claims = whole.token.claims().unwrap();
        assert_eq!(claims.profile(), Profile::Wlcg);
        assert!(
            claims
                .missing(["storage.read:/dune/x", "compute.create"])
                .is_empty()
        );
        assert!(claims.groups.contains(&"/dune/production".to_owned()));

        let less = robot.less(&["storage.read:/dune"], &[]).await.unwrap();
        let claims = less.claims().unwrap();
        assert_eq!(claims.scope, "storage.read:/dune");
        assert_eq!(claims.missing(["compute.create"]), ["compute.create"]);

        let audiences = ["https://b.example.org", "https://a.example.org"];
        let others = robot.less(&["compute.create"], &audiences).await.unwrap();
        assert_eq!(others.claims().unwrap().aud, audiences, "in the order asked for");

        let refused = robot.less(&["storage.modify:/nova"], &[]).await.unwrap_err();
        assert!(matches!(refused, Error::ExchangeRefused { .. }), "{refused:?}");
        let refused = robot.less(&[], &["https://forbidden.example"]).await.unwrap_err();
        assert!(
            matches!(refused, Error::ExchangeRefused { .. }) && !refused.retryable(),
            "{refused:?}"
        );
        robot.client.revoke_self(&robot.login.token).await.unwrap();
    });
}

#[test]
fn the_issuers_own_keys_vouch_for_its_tokens() {
    block(async {
        let robot = Robot::new().await;
        let bearer = robot
            .client
            .bearer(&robot.login.token, &robot.path, 60)
            .await
            .unwrap();
        let keys = vault_client::issuer_keys(site::ISSUER_URL, &robot.tls)
            .await
            .unwrap();
        let claims = bearer.token.verify(&keys, Timestamp::now()).unwrap();
        assert_eq!(claims.iss, site::ISSUER_URL);
        // one letter of the signature
        let mut text = bearer.token.expose().to_owned();
        let at = text.rfind('.').unwrap() + 1;
        let other = if &text[at..=at] == "A" { "B" } else { "A" };
        text.replace_range(at..=at, other);
        let forged = BearerToken::new(text).unwrap();
        assert!(forged.verify(&keys, Timestamp::now()).is_err());
        let vault = format!("https://{}:{}", VAULT.name, VAULT.port);
        assert!(vault_client::issuer_keys(&vault, &robot.tls).await.is_err());
        robot.client.revoke_self(&robot.login.token).await.unwrap();
    });
}

#[test]
fn each_credd_may_have_a_tree_of_its_own() {
    let operator = Operator::changed(
        "vaultServer:",
        "mtk: {vault: {tokenPerCredd: true}}\nvaultServer:",
    );
    let args = ["refresh", "--service", "nova_production", "--output", "json"];
    let tokens = || ACCESS_POINTS.map(|ap| top_token(ap.server, "novapro", "nova_production").0);
    let report = operator.report(&args);
    report.all(&["done"]);
    // a login and its proof for each, and one node token
    assert_eq!(report.traffic("vault_requests"), 2 * 3 + 1);
    let [first, second, third] = tokens();
    assert!(first != second && second != third && first != third);
    assert_eq!(bed().alias_of(&second), "novapro/managedtokens/mtk.mtk.test");

    let idle = operator.report(&args);
    idle.all(&["fresh"]);
    assert_eq!(idle.traffic("vault_requests"), 0);

    // what is lost at one is made anew for that one
    for kind in ["top", "use"] {
        let file = format!("nova_production.{kind}");
        let _absent = std::fs::remove_file(bed().oauth_file("ap2", "novapro", &file));
    }
    let mended = operator.report(&args);
    mended.all(&["done", "fresh"]);
    assert_eq!(mended.traffic("vault_requests"), 2);
    let [same, new, also_same] = tokens();
    assert!(same == first && also_same == third && new != second);

    // the end of one is nobody else's
    bed()
        .vault("POST", "/v1/auth/token/revoke", Some(json!({"token": new})))
        .unwrap();
    assert!(bed().is_alive(&first) && bed().is_alive(&third) && !bed().is_alive(&new));
}
