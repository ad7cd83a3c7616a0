//! Rules of the file that need a text of their own.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use config::{Env, Error, Kind, Loaded, Severity};

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

fn reasons(loaded: &Loaded) -> String {
    loaded
        .site
        .broken
        .iter()
        .map(|b| b.reason.as_str())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_environment_names_the_vault_server_before_the_file() {
    let rest = "experiments: {dune: {roles: {production: {account: a, vaultServerOverride: v2}}}}";
    let env = Env {
        gettoken_opts: Some("-v -a vault.env.org".into()),
        ..Env::default()
    };
    let loaded = load_with(rest, &env);
    let service = &loaded.site.services[0];
    assert_eq!(service.vault_server, "vault.env.org");
    let origin = service
        .values
        .iter()
        .find(|v| v.key == "vaultServer")
        .unwrap()
        .origin
        .to_string();
    assert_eq!(origin, "environment _condor_SEC_CREDENTIAL_GETTOKEN_OPTS");

    let env = Env {
        gettoken_opts: Some("-v".into()),
        ..Env::default()
    };
    let loaded = load_with(rest, &env);
    assert_eq!(loaded.site.services[0].vault_server, "v2");
    assert!(loaded.findings.iter().any(|f| f.severity == Severity::Warning));
}

#[test]
fn the_default_role_is_left_out_of_the_name() {
    let loaded = load("experiments: {mu2e: {roles: {default: {account: mu2eana, desiredUIDOverride: 5}}}}");
    let service = &loaded.site.services[0];
    assert_eq!(
        (service.id.to_string().as_str(), service.name.to_string().as_str()),
        ("mu2e_default", "mu2e")
    );
    assert_eq!(service.destinations(5).unwrap()[1].path, "/tmp/vt_u5-mu2e");
    assert_eq!(
        service.destinations(5).unwrap()[2].path,
        "/tmp/default_role_mu2e_5"
    );
    assert_eq!(service.role_file_content(), "default\n");
}

#[test]
fn names_are_lower_case_at_htcondor_as_with_the_go_service() {
    let loaded = load("EXPERIMENTS: {DUNE: {Roles: {Production: {ACCOUNT: dunepro}}}}");
    let service = &loaded.site.services[0];
    assert_eq!(service.id.to_string(), "DUNE_Production");
    assert_eq!(service.name.to_string(), "dune_production");
    assert_eq!(service.role_file_content(), "production\n");
    assert!(
        loaded
            .findings
            .iter()
            .any(|f| f.severity == Severity::Note && f.message.contains("dune_production"))
    );
}

#[test]
fn a_service_without_what_it_needs_says_what() {
    let text = "experiments: {dune: {roles: {production: {destinationNodes: n}}}}";
    let loaded = config::parse(Path::new("site.yml"), text, &Env::default()).unwrap();
    let reasons = reasons(&loaded);
    for what in ["there is no account", "no Vault server", "neither a collector"] {
        assert!(reasons.contains(what), "{reasons}");
    }
    let text = "vaultServer: v\ncondorCreddHost: c\nexperiments: {dune: {roles: {production: {account: a}}}}";
    let loaded = config::parse(Path::new("site.yml"), text, &Env::default()).unwrap();
    assert!(
        loaded.site.broken[0].reason.contains("kerberosPrincipalPattern"),
        "{}",
        loaded.site.broken[0].reason
    );
}

#[test]
fn a_principal_needs_its_realm() {
    let loaded = load("experiments: {dune: {roles: {p: {account: a, userPrincipalOverride: a/b}}}}");
    assert!(
        reasons(&loaded).contains("is not a Kerberos principal"),
        "{}",
        reasons(&loaded)
    );
}

#[test]
fn hostile_values_do_not_pass() {
    for role in [
        "{account: '../x'}",
        "{account: a b}",
        "{account: '-oProxyCommand=x'}",
        "{account: a, destinationNodes: ['-oProxyCommand=x']}",
        "{account: a, destinationNodes: ['a;b']}",
        "{account: a, desiredUIDOverride: -1}",
        "{account: a, vaultServerOverride: 'a b'}",
        "{account: a, primary: maybe}",
        "{account: a, tokenGetterOverride: pushTokens}",
        "{account: [a]}",
    ] {
        let loaded = load(&format!(
            "experiments: {{dune: {{roles: {{production: {role}}}}}}}"
        ));
        assert_eq!(loaded.site.services.len(), 0, "{role}");
        assert_eq!(loaded.site.broken.len(), 1, "{role}");
    }
}

#[test]
fn a_template_that_cannot_be_used_costs_the_role_file_only() {
    for template in [
        "/tmp/{{.Schedds}}",
        "/tmp/{{index .Nodes 0}}",
        "tmp/x",
        "/tmp/../etc/{{.Account}}",
        "/tmp/{{range .Nodes}}x{{end}}",
    ] {
        let rest = format!(
            "defaultRoleFileDestinationTemplate: '{template}'\nexperiments: {{dune: {{roles: {{p: {{account: a}}}}}}}}"
        );
        let loaded = load(&rest);
        assert!(loaded.has_errors(), "{template}");
        assert_eq!(
            loaded.site.services[0].destinations(5).unwrap().len(),
            2,
            "{template}"
        );
    }
}

#[test]
fn root_and_nobody_are_no_destinations() {
    let loaded = load("experiments: {dune: {roles: {p: {account: a}}}}");
    assert!(loaded.site.services[0].destinations(0).is_err());
    assert!(loaded.site.services[0].destinations(u32::MAX).is_err());
}

#[test]
fn a_broken_role_keeps_its_place_on_the_node() {
    let loaded = load(
        "experiments: {dune: {roles: {
           production: {account: dunepro, destinationNodes: [n1], oops: 1},
           calibration: {account: dunepro, destinationNodes: [n1, n2]}}}}",
    );
    let calibration = &loaded.site.services[0];
    let has_default = |node| {
        calibration
            .destinations_on(node, 5)
            .unwrap()
            .iter()
            .any(|d| d.kind == Kind::VaultTokenDefault)
    };
    assert!(!has_default("n1"));
    assert!(has_default("n2"));
    assert!(!calibration.primary);
}

#[test]
fn two_services_of_one_name_and_different_accounts_do_not_touch() {
    let loaded = load(
        "experiments: {
           dune-near: {experimentOverride: dune, roles: {production: {account: nearpro, destinationNodes: [n1]}}},
           dune-far: {experimentOverride: dune, roles: {production: {account: farpro, destinationNodes: [n1]}}}}",
    );
    assert_eq!(config::check(&loaded.site), []);
    let [near, far] = loaded.site.services.as_slice() else {
        panic!()
    };
    assert_eq!(near.name, far.name);
    assert_eq!((near.yields.len(), far.yields.len()), (0, 0));
}

#[test]
fn collisions_are_found() {
    let messages = |rest: &str| {
        let all = config::check(&load(rest).site);
        all.iter()
            .map(|f| format!("{}: {}", f.severity, f.message))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let text = messages(
        "experiments: {dune: {roles: {
           production: {account: dunepro, destinationNodes: [n1, n2, n3, n4, n5]},
           calibration: {account: dunepro, destinationNodes: [n1, n2, n3, n4]}}}}",
    );
    assert!(
        text.contains(
            "warning: dune_production, dune_calibration of account dunepro want /tmp/vt_u<uid of dunepro> on \
             n1, n2, n3 and 1 more: it is dune_production's"
        ),
        "{text}"
    );
    let text = messages(
        "defaultRoleFileDestinationTemplate: /tmp/role_{{.Experiment}}
experiments: {dune: {roles: {
           production: {account: dunepro, destinationNodes: [n1]},
           analysis: {account: duneana, destinationNodes: [n1]}}}}",
    );
    assert!(
        text.contains(
            "error: dune_production, dune_analysis of different accounts would write /tmp/role_dune"
        )
    );
    let text = messages(
        "experiments: {
           dune: {roles: {production: {account: dunepro}}},
           dune-2: {experimentOverride: dune, roles: {production: {account: dunepro}}}}",
    );
    assert!(
        text.contains("error: dune_production stores dune_production of dunepro at the same credds"),
        "{text}"
    );
    let text = messages(
        "experiments: {dune: {roles: {
           production: {account: dunepro, desiredUIDOverride: 7},
           analysis: {account: duneana, desiredUIDOverride: 7}}}}",
    );
    assert!(text.contains("error: uid 7 is dune_production's"), "{text}");
}

#[test]
fn two_marked_primary_is_an_error_and_the_first_counts() {
    let loaded = load(
        "experiments: {dune: {roles: {
           a: {account: dunepro, destinationNodes: [n1]},
           b: {account: dunepro, destinationNodes: [n1], primary: true},
           c: {account: dunepro, destinationNodes: [n1], primary: true}}}}",
    );
    let primary: Vec<_> = loaded.site.services.iter().map(|s| s.primary).collect();
    assert_eq!(primary, [false, true, false]);
    assert!(loaded.has_errors());
}

#[test]
fn the_samples_retries_are_made_to_fit() {
    let loaded =
        load("timeouts: {pushTimeout: 30s}\nworkerType: {pushTokens: {numRetries: 3, retrySleep: 60s}}");
    let push = loaded.site.retries.push;
    assert_eq!((push.retries, push.pause.as_millis()), (3, 7500));
    assert!(
        loaded
            .findings
            .iter()
            .any(|f| f.message.contains("pauses are shortened to 7.5s")),
        "{loaded:#?}"
    );
}

#[test]
fn a_file_that_is_no_map_gives_no_plan() {
    let read = |text: &str| config::parse(Path::new("x"), text, &Env::default());
    assert!(matches!(read("- a\n"), Err(Error::NotAMap { .. })));
    assert!(matches!(read("a: ["), Err(Error::Syntax { .. })));
    assert!(matches!(read("a: 1\na: 2"), Err(Error::Syntax { at, .. }) if at.line == 2));
    assert!(read("").unwrap().site.services.is_empty());
}

#[test]
fn a_file_anybody_may_write_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("managedTokens.yml");
    std::fs::write(&path, HEAD).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o646)).unwrap();
    assert!(config::load(&path, &Env::default()).unwrap().has_errors());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(!config::load(&path, &Env::default()).unwrap().has_errors());
}

#[test]
fn known_hosts_and_keys_are_found_where_openssh_looks() {
    let home = tempfile::tempdir().unwrap();
    let ssh = home.path().join(".ssh");
    std::fs::create_dir(&ssh).unwrap();
    for name in ["known_hosts", "id_ed25519"] {
        std::fs::write(ssh.join(name), "").unwrap();
    }
    let env = Env {
        home: Some(home.path().to_owned()),
        ..Env::default()
    };
    let loaded = load_with("experiments: {dune: {roles: {p: {account: a}}}}", &env);
    let service = &loaded.site.services[0];
    assert_eq!(service.ssh.known_hosts[0], ssh.join("known_hosts"));
    assert_eq!(service.ssh.identity_files, [ssh.join("id_ed25519")]);
}

#[test]
fn no_text_whatever_makes_it_panic() {
    let whole = include_str!("../../../fixtures/config/typos.yml");
    let lines: Vec<&str> = whole.lines().collect();
    let mut read = 0;
    for skip in 0..lines.len() {
        let text: String = lines
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != skip)
            .map(|(_, l)| format!("{l}\n"))
            .collect();
        // what is in the way of a key's value becomes its value
        for text in [text.clone(), text.replace(": ", ":\n"), text.replace('e', "[")] {
            read += usize::from(config::parse(Path::new("x"), &text, &Env::default()).is_ok());
        }
    }
    for cut in (0..whole.len()).filter(|c| whole.is_char_boundary(*c)) {
        if cut % 7 == 0 {
            read += usize::from(config::parse(Path::new("x"), &whole[..cut], &Env::default()).is_ok());
        }
    }
    assert!(read > 20, "{read}");
}

/// Files laid over one another, as `conf.d` does.
fn laid(files: &[(&str, &str)]) -> Loaded {
    let files: Vec<_> = files.iter().map(|(name, text)| (name.into(), *text)).collect();
    config::parse_all(Path::new("managedTokens.yml"), &files, &Env::default()).unwrap()
}

#[test]
fn drop_ins_add_services_and_override_values_and_say_where_each_stands() {
    let loaded = laid(&[
        ("managedTokens.yml", HEAD),
        (
            "conf.d/10-dune.yml",
            "experiments: {dune: {roles: {production: {account: dunepro}}}}",
        ),
        (
            "conf.d/20-more.json",
            r#"{"VaultServer": "vault2.example.org", "experiments": {"Dune": {"roles": {"analysis": {"account": "duneana"}}}}}"#,
        ),
    ]);
    let ids: Vec<_> = loaded.site.services.iter().map(|s| s.id.to_string()).collect();
    assert_eq!(ids, ["dune_production", "dune_analysis"]);
    let service = &loaded.site.services[0];
    assert_eq!(service.vault_server, "vault2.example.org");
    let origin = |key: &str| {
        let value = service.values.iter().find(|v| v.key == key).unwrap();
        loaded.site.origin(&value.origin)
    };
    assert_eq!(origin("vaultServer"), "conf.d/20-more.json:1");
    assert_eq!(origin("account"), "conf.d/10-dune.yml:1");
    let replaced = loaded
        .findings
        .iter()
        .find(|f| f.message.contains("replaces"))
        .unwrap();
    assert_eq!(
        (
            replaced.severity,
            replaced.file.as_path(),
            replaced.message.as_str()
        ),
        (
            Severity::Note,
            Path::new("conf.d/20-more.json"),
            "this replaces what stands in managedTokens.yml:1"
        )
    );
}

#[test]
fn an_error_in_a_drop_in_names_the_drop_in() {
    let loaded = laid(&[
        ("managedTokens.yml", HEAD),
        ("conf.d/a.yml", "experiments:\n  dune: {roles: {p: {acount: x}}}"),
        ("conf.d/b.yml", "experiments:\n  mu2e: {roles: {p: {account: x}}}"),
    ]);
    assert_eq!(loaded.site.services.len(), 1);
    let finding = loaded
        .findings
        .iter()
        .find(|f| f.advice == "is account meant?")
        .unwrap();
    assert_eq!(
        (finding.file.as_path(), finding.line),
        (Path::new("conf.d/a.yml"), 2)
    );
    assert_eq!(loaded.site.place(loaded.site.broken[0].at), "conf.d/a.yml:2");
    let texts = [
        ("managedTokens.yml".into(), HEAD),
        ("conf.d/x.yml".into(), "a: ["),
    ];
    match config::parse_all(Path::new("managedTokens.yml"), &texts, &Env::default()) {
        Err(Error::Syntax { path, .. }) => assert_eq!(path, Path::new("conf.d/x.yml")),
        other => assert!(other.is_err()),
    }
}

#[test]
fn templates_choose_and_compose() {
    let text = "
defaultRoleFileDestinationTemplate: '/tmp/{{if eq .Role \"default\"}}jobsub{{else}}{{printf \"%s-%d\" .Account .DesiredUID}}{{end}}_{{len .Nodes}}_{{index .Nodes 0}}'
experiments: {dune: {roles: {
  default: {account: duneana, destinationNodes: [n1, n2]},
  production: {account: dunepro, destinationNodes: [n1]}}}}";
    let loaded = load(text);
    assert!(!loaded.has_errors(), "{:#?}", loaded.findings);
    let path = |index: usize| {
        loaded.site.services[index].destinations(50001).unwrap()[2]
            .path
            .clone()
    };
    assert_eq!(
        (path(0).as_str(), path(1).as_str()),
        ("/tmp/jobsub_2_n1", "/tmp/dunepro-50001_1_n1")
    );
}

#[test]
fn an_account_of_two_experiments_is_a_warning() {
    let loaded = load(
        "experiments:
  dune: {roles: {production: {account: pro, destinationNodes: [n1]}}}
  dune-2: {experimentOverride: dune, roles: {analysis: {account: pro, destinationNodes: [n2]}}}
  mu2e: {roles: {production: {account: pro, destinationNodes: [n3]}, analysis: {account: pro}}}",
    );
    let findings = config::check(&loaded.site);
    let said: Vec<_> = findings.iter().filter(|f| f.key.ends_with(".account")).collect();
    assert_eq!(said.len(), 1, "{findings:#?}");
    assert_eq!(
        (said[0].severity, said[0].key.as_str(), said[0].message.as_str()),
        (
            Severity::Warning,
            "mu2e_production.account",
            "account pro serves dune_production as well, of another experiment"
        )
    );
}

#[test]
fn another_owner_of_the_files_is_an_error_and_the_account_is_not() {
    for (owner, wrong) in [
        ("dunepro", false),
        ("5", false),
        ("root", true),
        ("dunepro:dune", true),
        (":9010", true),
    ] {
        let loaded = load(&format!(
            "fileCopierOptions: '--perms --chmod=u=r,go= --chown={owner}'\nexperiments: {{dune: {{roles: {{p: {{account: dunepro, \
             desiredUIDOverride: 5}}}}}}}}"
        ));
        assert_eq!(loaded.has_errors(), wrong, "{owner}: {:#?}", loaded.findings);
        assert_eq!(loaded.site.services[0].file_mode, 0o400, "{owner}");
    }
}
