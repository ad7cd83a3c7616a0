//! Outputs: what a service gives out beside the files of the Go service, and who may write what where.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{path::Path, time::Duration};

use config::{Content, Env, Finding, Kind, Loaded, Owner, Service, Severity, To};

const HEAD: &str = "vaultServer: vault.example.org
condorCollectorHost: cm.example.org
kerberosPrincipalPattern: '{{.Account}}/managedtokens/mtk.example.org@EXAMPLE.ORG'
";

fn load(rest: &str) -> Loaded {
    config::parse(Path::new("site.yml"), &format!("{HEAD}{rest}"), &Env::default()).unwrap()
}

/// One role with these outputs.
fn with(outputs: &str) -> Loaded {
    load(&format!(
        "experiments: {{dune: {{roles: {{production: {{account: dunepro, desiredUIDOverride: 50001, \
         destinationNodes: [n1, n2], outputs: {{{outputs}}}}}}}}}}}"
    ))
}

#[track_caller]
fn service(loaded: &Loaded) -> &Service {
    assert!(loaded.site.broken.is_empty(), "{:?}", loaded.site.broken);
    loaded.site.services.first().unwrap()
}

/// The errors of the check, one text each.
fn errors(loaded: &Loaded) -> Vec<String> {
    let errors = config::check(&loaded.site).into_iter();
    errors
        .filter(|f: &Finding| f.severity == Severity::Error)
        .map(|f| f.message)
        .collect()
}

#[test]
fn a_bearer_token_goes_where_discovery_looks() {
    let loaded = with("bearer: {content: bearer}");
    let service = service(&loaded);
    let output = &service.outputs[0];
    assert_eq!(
        output.content,
        Content::Bearer {
            scopes: vec![],
            audiences: vec![]
        }
    );
    assert_eq!(output.minimum, Duration::from_secs(4800));
    let files = service.destinations_on("n2", 50001).unwrap();
    let bearer = files.iter().find(|f| f.kind == Kind::Output(0)).unwrap();
    assert_eq!((bearer.path.as_str(), bearer.mode), ("/tmp/bt_u50001", 0o400));
    assert_eq!(files.len(), 4, "{files:?}");
}

#[test]
fn every_kind_goes_everywhere() {
    let loaded = with(
        "ce: {content: bearer, scopes: [compute.create, compute.read], audiences: 'https://ce', minimumLifetime: 20m, \
          to: here, path: '/etc/tokens/{{.Name}}.token', mode: '0600', owner: frontend}, \
         proxy: {content: file, source: /etc/mtk/proxy.pem, nodes: [n2], path: '/tmp/x509up_u{{.DesiredUID}}'}, \
         vault: {content: vaultToken, to: command, command: [/usr/bin/put, --name, '{{.Name}}'], deadline: 5s}",
    );
    let service = service(&loaded);
    let [ce, proxy, vault] = service.outputs.as_slice() else {
        panic!()
    };
    let Content::Bearer { scopes, audiences } = &ce.content else {
        panic!()
    };
    assert_eq!((scopes.len(), audiences[0].as_str()), (2, "https://ce"));
    assert_eq!(ce.minimum, Duration::from_secs(1200));
    let To::Here { mode, owner, .. } = &ce.to else {
        panic!()
    };
    assert_eq!((*mode, owner), (0o600, &Some(Owner::Name("frontend".into()))));
    assert_eq!(
        service.output_path(ce, 50001).unwrap(),
        "/etc/tokens/dune_production.token"
    );
    let on = |node| service.destinations_on(node, 50001).unwrap();
    assert!(!on("n1").iter().any(|f| f.path == "/tmp/x509up_u50001"));
    assert!(on("n2").iter().any(|f| f.path == "/tmp/x509up_u50001"));
    assert_eq!(
        proxy.minimum,
        Duration::from_secs(3 * 86_400),
        "as minTokenLifetime has it"
    );
    let To::Command {
        program,
        arguments,
        deadline,
    } = &vault.to
    else {
        panic!()
    };
    assert_eq!(
        (program.to_str().unwrap(), *deadline),
        ("/usr/bin/put", Duration::from_secs(5))
    );
    assert_eq!(service.arguments(arguments, 50001), ["--name", "dune_production"]);
    assert_eq!(errors(&loaded), [""; 0]);
}

#[test]
fn the_nearer_takes_the_place_of_the_farther() {
    let loaded = load(
        "mtk: {outputs: {a: {content: bearer, path: /tmp/site}, b: {content: bearer, path: '/tmp/b{{.Name}}'}}}
experiments:
  dune:
    outputs: {a: {content: bearer, path: /tmp/experiment}}
    roles:
      production: {account: p, destinationNodes: [n], desiredUIDOverride: 5, outputs: {b: }}
      analysis: {account: q, destinationNodes: [n], desiredUIDOverride: 6, outputs: {a: {content: bearer, path: /tmp/role}}}
",
    );
    assert!(loaded.site.broken.is_empty(), "{:?}", loaded.site.broken);
    let paths = |service: &Service| -> Vec<String> {
        let outputs = service.outputs.iter();
        outputs.map(|o| service.output_path(o, 5).unwrap()).collect()
    };
    assert_eq!(paths(&loaded.site.services[0]), ["/tmp/experiment"]);
    assert_eq!(
        paths(&loaded.site.services[1]),
        ["/tmp/role", "/tmp/bdune_analysis"]
    );
}

#[test]
fn what_cannot_be_meant_stops_the_service_and_says_why() {
    for (output, why) in [
        ("a: {}", "none of vaultToken, bearer, file"),
        (
            "a: {content: password, path: /x}",
            "none of vaultToken, bearer, file",
        ),
        ("a: 5", "a map is wanted"),
        ("a: {content: vaultToken}", "where this output goes"),
        ("a: {content: bearer, pth: /x}", "unknown key"),
        ("a: {content: file, path: /x}", "absolute path"),
        ("a: {content: file, source: etc/x, path: /x}", "absolute path"),
        (
            "a: {content: bearer, source: /y, path: /x}",
            "means nothing for content",
        ),
        (
            "a: {content: vaultToken, scopes: [x], path: /x}",
            "means nothing for content",
        ),
        ("a: {content: bearer, path: x}", "absolute path"),
        ("a: {content: bearer, path: '/tmp/../etc/x'}", "absolute path"),
        ("a: {content: bearer, path: '/tmp/{{.Nobody}}'}", "no field"),
        ("a: {content: bearer, mode: '0644'}", "no mode for a secret"),
        ("a: {content: bearer, mode: '0200'}", "no mode for a secret"),
        ("a: {content: bearer, owner: root}", "means nothing for to"),
        ("a: {content: bearer, to: here}", "where this output goes"),
        (
            "a: {content: bearer, to: here, path: /x, nodes: [n1]}",
            "means nothing for to",
        ),
        (
            "a: {content: bearer, nodes: [n3]}",
            "not among the destinationNodes",
        ),
        ("a: {content: bearer, to: mars}", "none of nodes, here, command"),
        (
            "a: {content: bearer, command: [/bin/cat]}",
            "means nothing for to",
        ),
        ("a: {content: bearer, to: command}", "which command"),
        (
            "a: {content: bearer, to: command, command: '/bin/cat x'}",
            "a list is wanted",
        ),
        (
            "a: {content: bearer, to: command, command: [cat]}",
            "whole path of a program",
        ),
        (
            "a: {content: bearer, to: command, command: [/bin/cat], path: /x}",
            "means nothing for to",
        ),
    ] {
        let loaded = with(output);
        let reason = loaded
            .site
            .broken
            .first()
            .map(|b| b.reason.as_str())
            .unwrap_or("it was accepted");
        assert!(reason.contains(why), "{output}: {reason}");
    }
    // nor is there a service without the outputs its experiment was meant to have
    let loaded = load("experiments: {dune: {outputs: 5, roles: {production: {account: dunepro}}}}");
    let broken = &loaded.site.broken[0].reason;
    assert!(broken.contains("a map is wanted here"), "{broken}");
}

#[test]
fn two_that_would_write_one_file_are_an_error_and_one_of_them_writes_it() {
    let roles = |production: &str, analysis: &str| {
        load(&format!(
            "experiments: {{dune: {{roles: {{
               production: {{account: dunepro, desiredUIDOverride: 50001, destinationNodes: [n1], {production}}},
               analysis: {{account: dunepro, desiredUIDOverride: 50001, destinationNodes: [n1], {analysis}}}}}}}}}"
        ))
    };
    let bearer = "outputs: {bearer: {content: bearer}}";
    let loaded = roles(bearer, bearer);
    let found = errors(&loaded);
    assert!(
        found[0].contains("/tmp/bt_u50001") && found[0].contains("each a bearer token"),
        "{found:?}"
    );
    let writers = loaded.site.services.iter().filter(|s| {
        let files = s.destinations_on("n1", 50001).unwrap();
        files.iter().any(|f| f.path == "/tmp/bt_u50001")
    });
    assert_eq!(writers.count(), 1);

    let here = "outputs: {b: {content: bearer, to: here, path: /etc/tokens/one}}";
    let loaded = roles(here, here);
    assert!(errors(&loaded)[0].contains("this host"), "{:?}", errors(&loaded));
    assert!(!loaded.site.services[0].yields_here(0) && loaded.site.services[1].yields_here(0));

    let loaded = roles(
        "outputs: {v: {content: vaultToken, path: '/tmp/vt_u{{.DesiredUID}}'}}",
        "primary: true",
    );
    assert!(
        errors(&loaded).iter().any(|e| e.contains("/tmp/vt_u50001")),
        "{:?}",
        errors(&loaded)
    );

    let apart = "outputs: {b: {content: bearer, path: '/tmp/bt_{{.Name}}'}}";
    assert_eq!(
        errors(&roles(apart, apart)),
        [""; 0],
        "two roles on one account are a warning, no error"
    );
}

#[test]
fn one_node_under_two_names_is_one_node() {
    let home = std::env::temp_dir().join(format!("mtk-config-alias-{}", std::process::id()));
    std::fs::create_dir_all(home.join(".ssh")).unwrap();
    std::fs::write(
        home.join(".ssh/config"),
        "Host alias\n  HostName N1.example.org.\n",
    )
    .unwrap();
    let env = Env {
        home: Some(home.clone()),
        ..Env::default()
    };
    let text = format!(
        "{HEAD}experiments:
  dune: {{roles: {{production: {{account: a, desiredUIDOverride: 5, destinationNodes: [n1.example.org, alias]}}}}}}
  mu2e: {{roles: {{production: {{account: b, desiredUIDOverride: 6, destinationNodes: [alias], \
         defaultRoleFileDestinationTemplateOverride: /tmp/role}}}}}}
  nova: {{roles: {{production: {{account: c, desiredUIDOverride: 7, destinationNodes: [n1.example.org], \
         defaultRoleFileDestinationTemplateOverride: /tmp/role}}}}}}
"
    );
    let loaded = config::parse(Path::new("site.yml"), &text, &env).unwrap();
    std::fs::remove_dir_all(&home).unwrap();
    let found = errors(&loaded).join("\n");
    assert!(found.contains("under each name of that node"), "{found}");
    assert!(
        found.contains("of different accounts would write /tmp/role"),
        "{found}"
    );
}
