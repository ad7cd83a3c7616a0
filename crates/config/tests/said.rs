//! What is shown of the values in effect, and what is said of those that are not as somebody meant them.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use config::{Env, Loaded, Severity};

const HEAD: &str = "vaultServer: vault.example.org
condorCollectorHost: cm.example.org
kerberosPrincipalPattern: '{{.Account}}/managedtokens/mtk.example.org@EXAMPLE.ORG'
";

fn load_with(rest: &str, env: &Env) -> Loaded {
    config::parse(Path::new("site.yml"), &format!("{HEAD}{rest}"), env).unwrap()
}

fn load(rest: &str) -> Loaded {
    load_with(rest, &Env::default())
}

#[test]
fn what_nobody_wrote_is_shown_by_its_whole_name() {
    let loaded = load("experiments: {}");
    let of = |key: &str| {
        loaded
            .site
            .values
            .iter()
            .find(|v| v.key == key)
            .map(|v| v.value.as_str())
    };
    assert_eq!(of("mtk.limits.perNode"), Some("4"));
    assert_eq!(of("mtk.vault.quota.requests"), Some("360"));
    assert_eq!(of("mtk.uids.order"), Some("ferry go nss"));
    assert_eq!(of("mtk.metrics.timeout"), Some("5s"));
    assert_eq!(of("timeouts.pushTimeout"), Some("30s"));
    assert_eq!(of("timeout"), None);
}

#[test]
fn a_password_in_an_address_is_used_and_not_shown() {
    let loaded = load(
        "loki: {host: 'https://u:hunter2@loki.example.org'}\ntracing: {url: 'https://o.example.org/v1?key=hunter2'}\n\
         prometheus: {host: 'u:hunter2@push.example.org:9091'}\nexperiments: {}",
    );
    let site = &loaded.site;
    assert_eq!(
        site.loki.as_ref().unwrap().url,
        "https://u:hunter2@loki.example.org"
    );
    assert_eq!(
        site.traces.as_ref().unwrap().url,
        "https://o.example.org/v1?key=hunter2"
    );
    let push = site.metrics.pushgateway.as_deref();
    assert_eq!(push, Some("http://u:hunter2@push.example.org:9091"));
    assert!(
        site.values
            .iter()
            .any(|v| v.key == "loki.host" && v.value == "https://***@loki.example.org")
    );
    let shown = format!("{loaded:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn the_transport_is_shown_and_its_error_says_why() {
    let shown = |text: &str| {
        let loaded = load(&format!("mtk: {{ssh: {{transport: {text}}}}}\nexperiments: {{}}"));
        let found = loaded.site.values.iter().find(|v| v.key == "mtk.ssh.transport");
        let found = found.unwrap();
        let errors: Vec<String> = loaded
            .findings
            .iter()
            .filter(|f| f.severity == Severity::Error)
            .map(|f| f.message.clone())
            .collect();
        (format!("{} {}", found.value, found.origin), errors.join("; "))
    };
    assert_eq!(shown("russh"), ("russh line 4".into(), String::new()));
    assert_eq!(shown("").0, "auto default");
    let (value, error) = shown("[russh]");
    assert_eq!(value, "auto default");
    assert!(error.contains("not a list"), "{error}");
    assert!(shown("telnet").1.contains("none of auto"));
}

#[test]
fn log_files_of_nobody_are_named() {
    let noted = |name: &str| {
        let loaded = load(&format!("logs: {{{name}: {{logfile: /l}}}}\nexperiments: {{}}"));
        loaded
            .findings
            .iter()
            .any(|f| f.message.contains("no program logs here"))
    };
    assert!(noted("token-psuh"));
    for name in ["mtk", "Token-Push", "refresh-uids-from-ferry"] {
        assert!(!noted(name), "{name}");
    }
}

#[test]
fn ferrys_robot_says_what_is_wrong_with_it() {
    let whole = "serviceExperiment: fermilab, serviceKeytabPath: /k";
    let told = |keys: &str| -> String {
        let loaded = load(&format!(
            "ferry: {{host: f.example.org, {keys}}}\nexperiments: {{}}"
        ));
        let all = loaded.findings.iter().filter(|f| f.key.starts_with("ferry"));
        all.map(|f| format!("{} {}: {}; ", f.severity, f.key, f.advice))
            .collect()
    };
    assert_eq!(
        told(&format!("{whole}, serviceKerberosPrincipal: nobody")),
        "error ferry.serviceKerberosPrincipal: write name/part@REALM; "
    );
    assert_eq!(
        told("serviceExperiment: 'a b/c', serviceKeytabPath: /k, serviceKerberosPrincipal: f/m@R"),
        "error ferry.serviceExperiment: look at serviceRole, too; "
    );
    assert_eq!(told("hostCert: /c"), "warning ferry: name both, or neither; ");
    assert!(told(whole).starts_with("warning ferry: give hostCert"));
}

#[test]
fn ferrys_robot_finds_vault_as_a_role_does() {
    let text = "ferry: {host: f, serviceExperiment: x, serviceKeytabPath: /k, serviceKerberosPrincipal: f/m@R}\nexperiments: {}";
    let server = |env: &Env, text: &str| {
        let loaded = config::parse(Path::new("site.yml"), text, env).unwrap();
        let told = loaded.findings.iter().any(|f| f.key == "ferry.vaultServer");
        match loaded.site.ferry.unwrap().login {
            Some(config::FerryLogin::Robot { vault_server, .. }) => (vault_server, told),
            _ => (String::new(), told),
        }
    };
    let mut env = Env::default();
    assert_eq!(server(&env, text), (String::new(), true));
    env.htcondor.gettoken_opts = Some(config::Said {
        value: "-a condor.example.org".into(),
        place: "x".into(),
    });
    assert_eq!(server(&env, text).0, "condor.example.org");
    let top = format!("vaultServer: top.example.org\n{text}");
    assert_eq!(server(&env, &top).0, "top.example.org");
    env.gettoken_opts = Some("-a env.example.org".into());
    assert_eq!(server(&env, &top).0, "env.example.org");
}

#[test]
fn a_line_of_sshs_configuration_is_one_finding_at_its_place() {
    let home = tempfile::tempdir().unwrap();
    let ssh = home.path().join(".ssh");
    std::fs::create_dir(&ssh).unwrap();
    std::fs::write(ssh.join("config"), "Port 2200\nInclude more\nInclude .\n").unwrap();
    std::fs::write(ssh.join("more"), "\nKnownHostsCommand /bin/x\n").unwrap();
    let env = Env {
        home: Some(home.path().to_owned()),
        ..Env::default()
    };
    let loaded = load_with(
        "experiments: {dune: {roles: {a: {account: x, destinationNodes: [g1]}, b: {account: x, destinationNodes: [g2]}}}}",
        &env,
    );
    let told: Vec<_> = loaded
        .findings
        .iter()
        .filter(|f| f.file.starts_with(&ssh) || f.message.contains(".ssh"))
        .map(|f| (f.file.strip_prefix(&ssh).unwrap().to_owned(), f.line))
        .collect();
    assert_eq!(told, [("".into(), 0), ("more".into(), 2)]);
    let values = &loaded.site.services[0].values;
    let on = values.iter().find(|v| v.key == "ssh on g1").unwrap();
    assert_eq!(on.origin.to_string(), "ssh's configuration");
}

#[test]
fn the_systems_ssh_through_another_host_is_said_before_a_run_meets_it() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".ssh")).unwrap();
    let text = "Host inner* !inner9\n  ProxyJump gate.test\n";
    std::fs::write(home.path().join(".ssh/config"), text).unwrap();
    let env = Env {
        home: Some(home.path().to_owned()),
        ..Env::default()
    };
    let said = |transport: &str| -> Vec<String> {
        let loaded = load_with(
            &format!(
                "mtk: {{ssh: {{transport: {transport}}}}}\nexperiments: {{dune: {{roles: {{a: {{account: x, \
                 destinationNodes: [outer, inner1, inner2, inner9]}}}}}}}}"
            ),
            &env,
        );
        let told = config::check(&loaded.site).into_iter();
        told.filter(|f| f.severity == Severity::Error)
            .map(|f| f.message)
            .collect()
    };
    let told = said("openssh");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("inner1, inner2 cannot be reached"),
        "{told:?}"
    );
    for transport in ["auto", "russh", "libssh2"] {
        assert_eq!(said(transport), [] as [String; 0], "{transport}");
    }
}
