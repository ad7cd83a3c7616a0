//! A person agrees, and the robot reads bearer tokens; or does not, and is told why.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Stdio},
    time::Instant,
};

use serde_json::{Value, json};

use crate::{
    bed::bed,
    mtk::{Operator, Ran},
};

/// `mtk onboard --json` while it waits for somebody.
struct Onboarding {
    child: Child,
    out: BufReader<ChildStdout>,
    began: Instant,
}

impl Onboarding {
    /// Up to the invitation.
    fn begin(operator: &Operator, service: &str, more: &[&str]) -> (Self, Value) {
        let args: Vec<&str> = ["onboard", service, "--json"]
            .iter()
            .chain(more)
            .copied()
            .collect();
        let began = Instant::now();
        let mut child = operator.start(&args);
        let mut onboarding = Self {
            out: BufReader::new(child.stdout.take().unwrap()),
            child,
            began,
        };
        let first = onboarding.event();
        assert_eq!(first["event"], "open", "{first}");
        (onboarding, first["invitation"].clone())
    }

    fn event(&mut self) -> Value {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?} is no event: {e}"))
    }

    /// The last event, and how it ended.
    fn end(mut self) -> (Value, Ran) {
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        let output = self.child.wait_with_output().unwrap();
        let last = text.lines().last().unwrap_or_default();
        let event = serde_json::from_str(last).unwrap_or_else(|e| panic!("{text:?} ends in no event: {e}"));
        (event, crate::mtk::ran(output, self.began))
    }
}

pub fn onboard(operator: &Operator, service: &str, person: &str) -> (Value, Ran) {
    let (onboarding, invitation) = Onboarding::begin(operator, service, &[]);
    bed().consent(invitation["address"].as_str().unwrap(), person);
    onboarding.end()
}

#[track_caller]
fn refused(event: &Value, kind: &str) {
    assert_eq!(event["event"], "failed", "{event}");
    assert_eq!(event["failure"]["kind"], kind, "{event}");
}

#[test]
fn one_consent_and_everything_else_goes_by_itself() {
    let operator = Operator::new();
    let gone = bed().take_secret("nova", "novapro", "production");
    let before = operator.run(&["--service", "nova_production"]);
    before.only_failed(|e| e.kind != "discover", &["not-onboarded"]);

    let (onboarding, invitation) = Onboarding::begin(&operator, "nova_production", &[]);
    assert_eq!(invitation["credkey"], "novapro/managedtokens/mtk.mtk.test");
    let address = invitation["address"].as_str().unwrap();
    assert!(
        address.contains(invitation["code"].as_str().unwrap()),
        "{invitation}"
    );
    bed().consent(address, "novapro");
    let (done, ran) = onboarding.end();
    assert_eq!(ran.code, Some(0), "{done}\n{}", ran.stderr);
    let result = &done["result"];
    assert_eq!(result["person"], "novapro");
    assert_eq!(result["missing"], json!([]));
    let granted = result["granted"].to_string();
    assert!(granted.contains("wlcg.groups:/nova/production"), "{granted}");

    operator
        .run(&["--service", "nova_production"])
        .all(&["done", "fresh"]);
    drop(gone);
}

#[test]
fn who_may_not_act_for_the_robot_is_told_so_and_nothing_changes() {
    let operator = Operator::new();
    let (event, ran) = onboard(&operator, "nova_production", "mu2epro");
    refused(&event, "not-yours");
    assert_eq!(ran.code, Some(1));
    let text = event["failure"]["text"].as_str().unwrap();
    assert!(text.contains("mu2epro") && text.contains("novapro"), "{text}");
    operator
        .run(&["--service", "nova_production"])
        .all(&["done", "fresh"]);
}

#[test]
fn a_capability_that_is_missing_is_named() {
    let operator = Operator::changed(
        "        account: novapro\n",
        "        account: novapro\n        scopes: ['wlcg.groups:/nova', 'storage.modify:/nova']\n",
    );
    let (event, ran) = onboard(&operator, "nova_production", "novapro");
    assert_eq!(
        event["result"]["missing"],
        json!(["storage.modify:/nova"]),
        "{event}"
    );
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("lacks storage.modify:/nova"),
        "{}",
        ran.stderr
    );
}

#[test]
fn how_long_consents_last_is_the_configurations_word() {
    let text = std::fs::read_to_string(bed().dir.join("managedTokens.yml")).unwrap();
    let operator = Operator::with(&format!("mtk: {{consentLifetime: 30d}}\n{text}"));
    let (event, _) = onboard(&operator, "mu2e", "mu2eana");
    let time = |key: &str| {
        event["result"][key]
            .as_str()
            .unwrap_or_else(|| panic!("{event}"))
            .to_owned()
    };
    assert!(time("expires") > time("at"), "{event}");
}

#[test]
fn nobody_comes() {
    let operator = Operator::new();
    let (onboarding, invitation) = Onboarding::begin(&operator, "nova_production", &["--wait", "1"]);
    assert_eq!(invitation["seconds"], 1);
    let (event, ran) = onboarding.end();
    refused(&event, "timed-out");
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("start again"), "{}", ran.stderr);
}

#[test]
fn a_terminal_shows_a_qr_code() {
    let operator = Operator::new();
    for (more, shown) in [("", true), (" --no-qr", false)] {
        let words = operator.command(&["onboard", "nova_production", "--wait", "1"]);
        let words: Vec<String> = std::iter::once(words.get_program())
            .chain(words.get_args())
            .map(|word| word.to_str().unwrap().to_owned())
            .collect();
        let terminal = Command::new("script")
            .args(["-qefc", &(words.join(" ") + more), "/dev/null"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&terminal.stdout);
        assert!(
            text.contains("https://issuer.mtk.test") && text.contains("The code there is"),
            "{text}"
        );
        assert_eq!(
            text.contains(['\u{2588}', '\u{2580}', '\u{2584}']),
            shown,
            "{text}"
        );
        assert!(
            text.contains("nobody agreed") && text.contains("start again"),
            "{text}"
        );
    }
}

#[test]
fn an_issuer_that_does_not_do_its_part() {
    let operator = Operator::new();
    {
        let _down = bed().issuer_with("token_fail", json!({"status": 503}));
        let (onboarding, invitation) = Onboarding::begin(&operator, "nova_production", &[]);
        bed().consent(invitation["address"].as_str().unwrap(), "novapro");
        refused(&onboarding.end().0, "issuer");
    }
    {
        let _no = bed().issuer_with("no_refresh", json!(true));
        refused(
            &onboard(&operator, "nova_production", "novapro").0,
            "no-refresh-token",
        );
    }
    let _no = bed().issuer_with("no_credkey", json!(true));
    refused(
        &onboard(&operator, "nova_production", "novapro").0,
        "claim-missing",
    );
}

#[test]
fn a_vault_that_forgets_the_login_is_seen() {
    let operator = Operator::new();
    let (onboarding, _) = Onboarding::begin(&operator, "nova_production", &[]);
    bed().seal();
    bed().unseal();
    refused(&onboarding.end().0, "state-lost");
}

#[test]
fn nobody_is_asked_for_a_robot_that_cannot_log_in() {
    let operator = Operator::changed(
        "        account: novapro\n",
        "        account: novapro\n        keytabPathOverride: /nowhere/novapro.keytab\n",
    );
    let ran = operator.mtk(&["onboard", "nova_production", "--json"]);
    assert_eq!(ran.code, Some(1));
    assert!(!ran.stdout.contains("\"open\""), "{}", ran.stdout);
    assert!(ran.stdout.contains("\"keytab\""), "{}", ran.stdout);
    let unknown = operator.mtk(&["onboard", "nova_typo"]);
    assert_eq!(unknown.code, Some(2));
    let several = operator.mtk(&["onboard", "nova"]);
    assert_eq!(several.code, Some(2), "{}", several.stderr);
}

/// What Vault asks the issuer for stands in the address of direct mode alone; what the issuer publishes, and what the robot
/// gets today, are known wherever they can be had.
#[test]
fn what_cannot_come_of_it_is_told_before_anybody_agrees() {
    let operator = Operator::changed(
        "        account: novapro\n",
        "        account: novapro\n        scopes: ['wlcg.groups:/nova', 'storage.modify:/nova', 'compute.cancel']\n",
    );
    let _published = bed().issuer_with(
        "scopes_supported",
        json!(["openid", "wlcg.groups", "storage.modify:/"]),
    );
    let nobody = ["--wait", "1"];
    let (onboarding, invited) = Onboarding::begin(&operator, "nova_production", &nobody);
    refused(&onboarding.end().0, "timed-out");
    assert_eq!(invited["person"], "novapro");
    assert!(invited.get("asked").is_none(), "{invited}");
    assert_eq!(invited["not_asked"], json!([]), "{invited}");
    let lacks = json!(["storage.modify:/nova", "compute.cancel"]);
    assert_eq!(invited["missing_now"], lacks, "{invited}");
    assert!(
        invited["now"].to_string().contains("storage.read:/nova"),
        "{invited}"
    );
    assert_eq!(invited["not_published"], json!(["compute.cancel"]), "{invited}");

    let role = "/v1/auth/oidc-nova/role/production";
    let directly = bed().vault_role_with(role, json!({"callback_mode": "direct", "poll_interval": 1}));
    let said = operator.mtk(&["onboard", "nova_production", "--wait", "1"]);
    // whoever was never onboarded has no token that names its issuer: the address does
    let gone = bed().take_secret("nova", "novapro", "production");
    let (onboarding, invited) = Onboarding::begin(&operator, "nova_production", &nobody);
    refused(&onboarding.end().0, "timed-out");
    drop((directly, gone));
    assert!(invited.get("now").is_none(), "{invited}");
    assert!(
        invited["asked"].to_string().contains("wlcg.groups:/nova"),
        "{invited}"
    );
    assert_eq!(invited["not_asked"], lacks, "{invited}");
    assert_eq!(invited["not_published"], json!(["compute.cancel"]), "{invited}");
    for told in [
        "Vault does not ask the issuer for storage.modify:/nova compute.cancel",
        "does not publish compute.cancel",
        "the bearer token lacks storage.modify:/nova compute.cancel",
    ] {
        assert!(said.stderr.contains(told), "{told}: {}", said.stderr);
    }
    assert!(
        said.stdout.contains("agree there as novapro") && said.stdout.contains("code_challenge"),
        "{}",
        said.stdout
    );
}

#[test]
fn nobody_is_asked_where_the_policy_bars_the_robot_whoever_agrees() {
    let operator = Operator::new();
    let barred = bed().without_slashes("nova", "production");
    let ran = operator.mtk(&["onboard", "nova_production", "--json"]);
    drop(barred);
    assert_eq!(ran.code, Some(1));
    assert!(!ran.stdout.contains("\"open\""), "{}", ran.stdout);
    assert!(ran.stdout.contains("\"not-permitted\""), "{}", ran.stdout);
}
