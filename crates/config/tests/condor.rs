//! How robots prove themselves to credds: which of the places that may say so counts.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;

use config::{CondorAccess, Env, HtCondor, Loaded, Method, Said, Severity};

const HEAD: &str = "vaultServer: v.example.org\ncondorCollectorHost: cm.example.org\n\
    kerberosPrincipalPattern: '{{.Account}}/mtk/h.example.org@EXAMPLE.ORG'\n";

fn parse(rest: &str, env: &Env) -> Loaded {
    config::parse(Path::new("managedTokens.yml"), &format!("{HEAD}{rest}"), env).unwrap()
}

fn access(loaded: &Loaded, role: &str) -> CondorAccess {
    let found = loaded
        .site
        .services
        .iter()
        .find(|service| service.id.role == role);
    let found = found.unwrap_or_else(|| panic!("{:?}", loaded.site.broken));
    found.condor.clone()
}

fn said(value: &str) -> Option<Said> {
    Some(Said {
        value: value.into(),
        place: "/etc/condor/condor_config:7".into(),
    })
}

#[test]
fn the_role_goes_before_the_experiment_before_all_before_htcondor() {
    let env = Env {
        home: Some("/home/me".into()),
        htcondor: HtCondor {
            methods: said("FS, IDTOKENS, SSL"),
            ca_file: said("/condor/ca"),
            certificate: said("/condor/crt"),
            key: said("/condor/key"),
            ..HtCondor::default()
        },
        bearer_files: vec!["/tmp/bt_u1".into()],
        ..Env::default()
    };
    let loaded = parse(
        "mtk: {condor: {caDir: /all}}\nexperiments:\n  dune:\n    condor: {methods: [kerberos, SciTokens], caDir: /dune}\n    roles:\n      \
         a: {account: dunepro, condor: {methods: FS, certificate: ~/c.pem}}\n      b: {account: dunepro}\n  nova:\n    roles:\n      c: {account: novapro}\n",
        &env,
    );
    let a = access(&loaded, "a");
    assert_eq!(a.methods, [Method::Fs]);
    assert_eq!((a.certificate, a.key), (Some("/home/me/c.pem".into()), None));
    assert_eq!(a.ca_dir, Some("/dune".into()));
    let b = access(&loaded, "b");
    assert_eq!(b.methods, [Method::Kerberos, Method::SciTokens]);
    assert_eq!(b.bearer_files, [Path::new("/tmp/bt_u1")]);
    assert_eq!(
        (b.ca_file, b.certificate, b.key),
        (
            Some("/condor/ca".into()),
            Some("/condor/crt".into()),
            Some("/condor/key".into())
        )
    );
    // FS proves nothing about the daemon: it is for those who name it to mtk
    let c = access(&loaded, "c");
    assert_eq!(c.methods, [Method::Token, Method::Ssl]);
    assert_eq!(c.ca_dir, Some("/all".into()));
    assert!(c.bearer_files.is_empty());
    assert_eq!(
        c.token_directories,
        [
            Path::new("/home/me/.condor/tokens.d"),
            Path::new("/etc/condor/tokens.d")
        ]
    );
    let values = &loaded
        .site
        .services
        .iter()
        .find(|s| s.id.role == "c")
        .unwrap()
        .values;
    let methods = values.iter().find(|value| value.key == "condor.methods").unwrap();
    assert_eq!(
        methods.origin.to_string(),
        "HTCondor's configuration, /etc/condor/condor_config:7"
    );
}

/// Each of these stops the service it stands in, and says why.
#[test]
fn what_cannot_be_honoured_stops_the_service() {
    for (condor, reason) in [
        ("{methods: [KERBEROS, PASSWORD]}", "PASSWORD"),
        ("{methods: []}", "no method"),
        ("{method: [SSL]}", "unknown key"),
        ("{key: /k}", "without its certificate"),
        ("{key: /k, certificate: ''}", "without its certificate"),
        ("FS", "condor: a map is wanted here, not text"),
        ("[FS]", "condor: a map is wanted here, not a list"),
        ("{superUser: super@x}", "domain"),
        (
            "{superUserPrincipal: s/m/h@R, superUserKeytab: /k}",
            "which HTCondor user",
        ),
        ("{superUser: s, superUserPrincipal: s/m/h@R}", "go together"),
        (
            "{superUser: s, superUserPrincipal: nobody, superUserKeytab: /k}",
            "condor.superUserPrincipal",
        ),
    ] {
        let loaded = parse(
            &format!(
                "experiments: {{dune: {{roles: {{a: {{account: x, condor: {condor}}}, b: {{account: y}}}}}}}}\n"
            ),
            &Env::default(),
        );
        assert_eq!(loaded.site.services.len(), 1, "{condor}");
        let broken = &loaded.site.broken[0].reason;
        assert!(broken.contains(reason), "{condor}: {broken}");
    }
}

#[test]
fn a_vault_that_credds_do_not_trust_is_a_warning() {
    let env = |hosts: &str| Env {
        htcondor: HtCondor {
            trusted_vault_hosts: said(hosts),
            ..HtCondor::default()
        },
        ..Env::default()
    };
    let warned = |hosts: &str| {
        let loaded = parse("experiments: {dune: {roles: {a: {account: x}}}}\n", &env(hosts));
        let told = |f: &&config::Finding| {
            f.severity == Severity::Warning && f.message.contains("TRUSTED_VAULT_HOSTS")
        };
        loaded.findings.iter().filter(told).count()
    };
    assert_eq!(
        (warned("v.example.org:8200"), warned("w.example.org:8200")),
        (0, 1)
    );
}

/// A key of another place does not fit, and each reason is given once.
#[test]
fn a_certificate_and_its_key_are_of_one_place() {
    let env = Env {
        htcondor: HtCondor {
            certificate: said("/condor/crt"),
            key: said("/condor/key"),
            ..HtCondor::default()
        },
        ..Env::default()
    };
    let loaded = parse(
        "mtk: {condor: {certificate: /all/crt, key: /all/key}}\nexperiments:\n  dune:\n    roles:\n      \
         a: {account: x, condor: {certificate: /a/both}}\n      b: {account: y}\n      \
         c: {account: z, condor: {key: /c/key}}\n      d: {account: w, condor: {certificate: [1]}}\n",
        &env,
    );
    let a = access(&loaded, "a");
    assert_eq!((a.certificate, a.key), (Some("/a/both".into()), None));
    let b = access(&loaded, "b");
    let all = (Some("/all/crt".into()), Some("/all/key".into()));
    assert_eq!((b.certificate, b.key), all);
    let broken = |index: usize| loaded.site.broken[index].reason.as_str();
    assert!(broken(0).contains("without its certificate"), "{}", broken(0));
    assert_eq!(broken(1).matches("text is wanted").count(), 1, "{}", broken(1));
}

#[test]
fn an_experiment_whose_condor_is_no_map_runs_with_nothing_else() {
    let loaded = parse(
        "experiments: {dune: {condor: FS, roles: {a: {account: x}}}, nova: {roles: {b: {account: y}}}}\n",
        &Env::default(),
    );
    assert_eq!(loaded.site.services.len(), 1);
    let told: Vec<_> = loaded
        .findings
        .iter()
        .filter(|f| f.message.contains("a map is wanted"))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].advice, "write condor: {methods: [...]}");
}

#[test]
fn methods_of_htcondor_that_are_not_taken_are_named_once() {
    let env = Env {
        htcondor: HtCondor {
            methods: said("FS, IDTOKENS, TOKEN, PASSWORD"),
            ..HtCondor::default()
        },
        ..Env::default()
    };
    let loaded = parse(
        "experiments: {dune: {roles: {a: {account: x}, b: {account: x}}}}\n",
        &env,
    );
    assert_eq!(access(&loaded, "a").methods, [Method::Token]);
    let told: Vec<_> = loaded
        .findings
        .iter()
        .filter(|f| f.key == "mtk.condor.methods")
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].severity, Severity::Note);
    assert!(
        told[0].message.contains("names FS, PASSWORD,"),
        "{}",
        told[0].message
    );
}
