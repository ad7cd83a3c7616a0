//! The files in fixtures/config, read as a run would.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use config::{Env, Finding, Kind, Loaded, Service, Severity, Transport};

fn fixture(name: &str) -> Loaded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/config")
        .join(name);
    config::load(&path, &Env::default()).unwrap()
}

fn service<'l>(loaded: &'l Loaded, id: &str) -> &'l Service {
    loaded
        .site
        .services
        .iter()
        .find(|s| s.id.to_string() == id)
        .unwrap_or_else(|| panic!("no {id}: {loaded:#?}"))
}

fn of(findings: &[Finding], severity: Severity) -> Vec<String> {
    findings
        .iter()
        .filter(|f| f.severity == severity)
        .map(|f| format!("{}:{} {}", f.line, f.key, f.message))
        .collect()
}

#[test]
fn every_key_of_the_go_service_is_known() {
    for name in ["every-key.yml", "every-key.json"] {
        let loaded = fixture(name);
        assert_eq!(
            of(&loaded.findings, Severity::Error),
            Vec::<String>::new(),
            "{name}"
        );
        assert_eq!(
            of(&loaded.findings, Severity::Warning),
            Vec::<String>::new(),
            "{name}"
        );
        assert!(loaded.site.broken.is_empty(), "{:?}", loaded.site.broken);
        assert_eq!(loaded.site.services.len(), 3);
    }
}

#[test]
fn yaml_and_json_come_to_the_same() {
    let (yaml, json) = (fixture("every-key.yml"), fixture("every-key.json"));
    // places in the file differ, nothing else
    let strip = |l: &Loaded| {
        let services: Vec<_> = l
            .site
            .services
            .iter()
            .map(|s| {
                let values: Vec<_> = s
                    .values
                    .iter()
                    .map(|v| format!("{}={}", v.key, v.value))
                    .collect();
                format!(
                    "{} {} {} {:?} {values:?} {:?}",
                    s.id,
                    s.name,
                    s.principal,
                    s.keytab,
                    s.destinations(7)
                )
            })
            .collect();
        let values: Vec<_> = l
            .site
            .values
            .iter()
            .map(|v| format!("{}={}", v.key, v.value))
            .collect();
        let later: std::collections::BTreeSet<_> = l.site.later.iter().map(|k| k.key.clone()).collect();
        (services, values, later)
    };
    assert_eq!(strip(&yaml), strip(&json));
}

#[test]
fn what_stands_at_the_top_holds_for_a_role_that_says_nothing() {
    let loaded = fixture("every-key.yml");
    let s = service(&loaded, "dune_production");
    assert_eq!(s.name.to_string(), "dune_production");
    assert_eq!(s.account, "dunepro");
    assert_eq!(
        s.principal.to_string(),
        "dunepro/managedtokens/mtk.example.org@EXAMPLE.ORG"
    );
    assert_eq!(s.credkey, "dunepro/managedtokens/mtk.example.org");
    assert_eq!(s.keytab, Path::new("/opt/managed-tokens/keytabs/dunepro.keytab"));
    assert_eq!(s.uid, None);
    assert_eq!(s.vault_server, "vault.example.org");
    assert_eq!(s.collectors, ["cm1.example.org", "cm2.example.org:9618"]);
    assert_eq!(s.schedd_constraint.as_deref(), Some("IsJobsubLite =?= true"));
    assert_eq!(s.credds, ["credd.example.org"]);
    assert!(s.store && s.primary && !s.disable_notifications);
    assert_eq!(s.nodes, ["gpvm01.example.org", "gpvm02.example.org"]);
    assert_eq!(
        (s.ssh.port, s.ssh.connect_timeout),
        (2222, Duration::from_secs(7))
    );
    assert_eq!(s.min_token_lifetime, Duration::from_secs(2 * 86_400));
    let files: Vec<_> = s
        .destinations(50001)
        .unwrap()
        .into_iter()
        .map(|d| (d.path, d.kind, d.mode))
        .collect();
    assert_eq!(
        files,
        [
            ("/tmp/vt_u50001".to_owned(), Kind::VaultTokenDefault, 0o400),
            (
                "/tmp/vt_u50001-dune_production".to_owned(),
                Kind::VaultTokenService,
                0o400
            ),
            ("/tmp/50001_dunepro".to_owned(), Kind::DefaultRole, 0o400),
        ]
    );
    assert_eq!(s.role_file_content(), "production\n");
}

#[test]
fn overrides_win_and_say_where_they_stand() {
    let loaded = fixture("every-key.yml");
    let s = service(&loaded, "dune-2_production");
    assert_eq!(s.name.to_string(), "dune_production");
    assert_eq!(s.principal.to_string(), "dunepro/kerberos/principal@OTHER.ORG");
    assert_eq!(s.credkey, "dunepro/kerberos/principal");
    assert_eq!(s.keytab, Path::new("/special/path/to/keytab"));
    assert_eq!(s.uid, Some(12345));
    assert_eq!(s.vault_server, "vault2.example.org");
    assert_eq!(
        (s.credds.as_slice(), s.collectors.as_slice()),
        (
            ["specialcredd.example.org".to_owned()].as_slice(),
            ["specialcm.example.org".to_owned()].as_slice()
        )
    );
    assert_eq!(s.schedd_constraint.as_deref(), Some("true"));
    assert!(s.disable_notifications);
    assert_eq!((s.file_mode, s.ssh.port), (0o600, 22));
    // as the Go service: the file's own name for the experiment, HTCondor's for the token file
    let files = s.destinations(12345).unwrap();
    assert_eq!(files[1].path, "/tmp/vt_u12345-dune_production");
    assert_eq!(files[2].path, "/tmp/jobsub_default_role_dune-2_12345");
    let keytab = s.values.iter().find(|v| v.key == "keytab").unwrap();
    assert!(
        keytab.origin.to_string().starts_with("override in line "),
        "{}",
        keytab.origin
    );

    let s = service(&loaded, "dune-2_analysis");
    assert!(!s.store);
    assert_eq!(
        s.principal.to_string(),
        "duneana/other/mtk.example.org@EXAMPLE.ORG"
    );
}

#[test]
fn the_rest_of_the_file_is_taken_too() {
    let site = fixture("every-key.yml").site;
    let s = Duration::from_secs;
    assert_eq!(
        site.timeouts,
        config::Timeouts {
            global: s(400),
            kerberos: s(21),
            vault_storer: s(61),
            ping: s(11),
            push: s(240)
        }
    );
    assert_eq!((site.retries.push.retries, site.retries.push.pause), (3, s(60)));
    assert_eq!((site.retries.store.retries, site.retries.store.pause), (2, s(5)));
    assert_eq!(
        (site.retries.get_token.retries, site.retries.kerberos.retries),
        (2, 1)
    );
    assert_eq!(
        site.db_location,
        Some(PathBuf::from("/var/lib/managed-tokens/managed-tokens.db"))
    );
    let told = &site.notifications;
    assert_eq!(told.threshold, 3);
    assert_eq!(
        told.mail.as_ref().map(|m| (m.host.as_str(), m.port)),
        Some(("localhost", 25))
    );
    assert_eq!(told.receivers.admins, ["admin@example.org"]);
    assert_eq!(told.stakeholders["dune"], ["dune@example.org"]);
    let hook = told.receivers.slack.as_ref().unwrap();
    assert!(hook.expose().ends_with("/services/T000/B000/XXXX"));
    assert_ne!(Some(hook), told.test_receivers.slack.as_ref());
    assert!(
        site.later
            .iter()
            .any(|k| k.key == "serviceCreddVaultTokenPathRoot" && k.reason.contains("credd"))
    );
    // no value of a key that may be a secret is kept
    assert!(!format!("{site:?}").contains("T000"));
}

#[test]
fn our_own_keys_do_what_they_say() {
    let loaded = fixture("every-mtk-key.yml");
    assert_eq!(of(&loaded.findings, Severity::Error), Vec::<String>::new());
    let site = &loaded.site;
    let day = Duration::from_secs(86_400);
    assert_eq!(site.state_dir, Some(PathBuf::from("/srv/mtk")));
    assert_eq!((site.renew_before, site.node_token_lifetime), (day * 10, day * 6));
    assert_eq!(site.min_token_lifetime, day * 3);
    let l = site.limits;
    assert_eq!(
        (
            l.vault_concurrency,
            l.credd_concurrency,
            l.node_concurrency,
            l.per_node
        ),
        (3, 4, 5, 2)
    );
    assert_eq!(site.vault.ca_file, Some("/etc/mtk/ca.pem".into()));
    assert_eq!(site.vault.alias.as_deref(), Some("vault-service.example.org"));
    assert_eq!(
        site.vault.certificate_name.as_deref(),
        Some("vault-1.example.org")
    );
    assert!(site.vault.token_per_credd);
    let s = service(&loaded, "dune_production");
    assert_eq!(s.ssh.transport, Transport::Russh);
    assert_eq!(s.ssh.known_hosts, [PathBuf::from("/etc/mtk/known_hosts")]);
    assert_eq!(s.ssh.identity_files, [PathBuf::from("/etc/mtk/id_ed25519")]);
}

#[test]
fn a_shared_file_has_one_owner_on_each_node() {
    let loaded = fixture("every-mtk-key.yml");
    let kinds = |id: &str, node: &str| -> Vec<Kind> {
        service(&loaded, id)
            .destinations_on(node, 50001)
            .unwrap()
            .into_iter()
            .map(|d| d.kind)
            .collect()
    };
    let all = [
        Kind::VaultTokenDefault,
        Kind::VaultTokenService,
        Kind::DefaultRole,
    ];
    assert_eq!(kinds("dune_production", "gpvm01.example.org"), all);
    assert_eq!(kinds("dune_production", "gpvm02.example.org"), all);
    assert_eq!(
        kinds("dune_calibration", "gpvm01.example.org"),
        [Kind::VaultTokenService]
    );
    assert!(service(&loaded, "dune_production").primary && !service(&loaded, "dune_calibration").primary);
    let findings = config::check(&loaded.site);
    assert!(
        findings.iter().all(|f| f.severity == Severity::Note),
        "{findings:#?}"
    );
    assert!(
        findings
            .iter()
            .any(|f| f.message.contains("it is dune_production's")),
        "{findings:#?}"
    );
}

#[test]
fn every_typo_is_found_where_it_is() {
    let loaded = fixture("typos.yml");
    let text = loaded
        .findings
        .iter()
        .map(|f| format!("{f}\n"))
        .collect::<String>();
    let text = text.replace(&format!("{}:", loaded.site.path.display()), "");
    for expected in [
        "3:1: error: condorColectorHost: unknown key (is condorCollectorHost meant?)",
        "6:19: error: minTokenLifetime: \"3 days\" is not a span of time",
        "7:13: warning: sshOptions: StrictHostKeyChecking=no weakens trust and is honoured: whoever stands in between gets the tokens",
        "7:13: warning: sshOptions: ProxyCommand is not supported",
        "8:1: error: test: this is a flag of the Go service",
        "11:3: error: timeouts.pingTimout: unknown key (is pingTimeout meant?)",
        "13:25: error: mtk.node.tokenLifetime: a Vault token in a file may live 1000000s at the most",
        "19:9: error: experiments.dune.roles.production.destinationNode: unknown key (is destinationNodes meant?)",
        "23:39: error: experiments.dune.roles.analysis.disableNotificationsOverride: \"yes\" is neither true nor false",
        "28:5: error: experiments.mu2e.experimentOveride: unknown key (is experimentOverride meant?)",
        "31:16: error: experiments.mu2e.roles.default: a map is wanted here, not text",
        "error: experiments.nova_x.roles.production: \"nova_x_production\" is not a service name",
        "error: experiments.nova_x.roles.production.desiredUIDOverride: uid 0 is not an account's",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
}

#[test]
fn a_typo_inside_a_role_stops_that_service_only() {
    let loaded = fixture("typos.yml");
    let running: Vec<_> = loaded.site.services.iter().map(|s| s.id.to_string()).collect();
    assert_eq!(running, ["dune_calibration"]);
    let broken: Vec<_> = loaded.site.broken.iter().map(|b| b.id.to_string()).collect();
    assert_eq!(
        broken,
        [
            "dune_production",
            "dune_analysis",
            "mu2e_production",
            "mu2e_default",
            "nova_x_production"
        ]
    );
    let mu2e = &loaded.site.broken[2];
    assert!(mu2e.reason.contains("experimentOveride"), "{}", mu2e.reason);
    // what cannot be read falls back to the default
    assert_eq!(loaded.site.min_token_lifetime, Duration::from_secs(3 * 86_400));
    assert_eq!(loaded.site.node_token_lifetime, Duration::from_secs(7 * 86_400));
    assert_eq!(loaded.site.timeouts.push, Duration::from_secs(30));
}

#[test]
fn the_made_up_site_is_read_whole() {
    let loaded = fixture("made-up-site.yml");
    let services = &loaded.site.services;
    let experiments: std::collections::BTreeSet<_> = services.iter().map(|s| &s.id.experiment).collect();
    let nodes: std::collections::BTreeSet<_> = services.iter().flat_map(|s| &s.nodes).collect();
    let pairs: usize = services.iter().map(|s| s.nodes.len()).sum();
    assert_eq!(
        (experiments.len(), services.len(), nodes.len(), pairs),
        (21, 23, 77, 97)
    );
    assert!(loaded.site.broken.is_empty());
    let mut findings = loaded.findings;
    findings.extend(config::check(&loaded.site));
    // the retries that the Go service's own sample file has, and nothing else
    assert_eq!(of(&findings, Severity::Error), Vec::<String>::new());
    let warnings = of(&findings, Severity::Warning);
    assert!(
        warnings.len() == 1 && warnings[0].contains("3 pauses of 1m do not fit"),
        "{warnings:#?}"
    );
}
