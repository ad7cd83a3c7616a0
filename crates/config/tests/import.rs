//! What an import writes means what it read.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use config::{Env, Format, Loaded};

fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/config");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

fn load(texts: &[(PathBuf, String)]) -> Loaded {
    config::parse_all(Path::new("managedTokens.yml"), texts, &Env::default()).unwrap()
}

fn import(texts: &[(PathBuf, String)], format: Format, single: bool) -> Vec<(PathBuf, String)> {
    config::import(texts, format, single).unwrap().files
}

/// Messages of findings, without places.
fn said(loaded: &Loaded) -> Vec<String> {
    let findings = loaded
        .findings
        .iter()
        .map(|f| format!("{} {} {}", f.severity, f.key.to_lowercase(), f.message));
    // which other line it is differs by nature
    let mut all: Vec<_> = findings.filter(|f| !f.contains("stands in line")).collect();
    all.sort();
    all
}

#[test]
fn an_import_means_the_same_in_every_form() {
    for name in [
        "every-key.yml",
        "every-key.json",
        "every-mtk-key.yml",
        "typos.yml",
        "made-up-site.yml",
    ] {
        let texts = vec![(PathBuf::from(name), fixture(name))];
        let before = load(&texts);
        for (format, single) in [
            (Format::Yaml, false),
            (Format::Yaml, true),
            (Format::Json, false),
            (Format::Json, true),
        ] {
            let files = import(&texts, format, single);
            let after = load(&files);
            assert!(
                config::same_meaning(&before.site, &after.site),
                "{name} {format:?} {single}: {files:#?}"
            );
            if format == Format::Yaml {
                assert_eq!(said(&before), said(&after), "{name}");
            }
            let experiments = before.site.services.iter().map(|s| s.id.experiment.as_str());
            let experiments = experiments.chain(before.site.broken.iter().map(|b| b.id.experiment.as_str()));
            let experiments: std::collections::BTreeSet<_> = experiments.collect();
            assert_eq!(
                files.len(),
                if single { 1 } else { 1 + experiments.len() },
                "{name}"
            );
            // once tidy, tidy for good
            assert_eq!(
                import(&files, format, single),
                files,
                "{name} {format:?} {single}"
            );
        }
    }
}

#[test]
fn a_site_that_means_something_else_is_told_apart() {
    let text = fixture("made-up-site.yml");
    let one = load(&[("a.yml".into(), text.clone())]);
    for (from, to) in [
        ("minTokenLifetime: 3d", "minTokenLifetime: 4d"),
        ("u=r,go=", "u=rw,go="),
        ("51003", "51999"),
    ] {
        let other = load(&[("a.yml".into(), text.replacen(from, to, 1))]);
        assert!(!config::same_meaning(&one.site, &other.site), "{from}");
    }
}

#[test]
fn comments_stay_with_their_keys_and_none_is_lost() {
    let text = "# our site\n\n# ask Jane first\nVAULTSERVER: v.example.org # the new one\nexperiments:\n  # the near one\n  dune:\n    \
                roles:\n      production:\n        account: dunepro\n        destinationNodes:\n          - n1\n          # until May\n          \
                - n2\n# the end\n";
    let files = import(&[("site.yml".into(), text.into())], Format::Yaml, false);
    let names: Vec<_> = files.iter().map(|(path, _)| path.to_str().unwrap()).collect();
    assert_eq!(names, ["managedTokens.yml", "conf.d/01-dune.yml"]);
    let main = &files[0].1;
    assert!(
        main.contains("what is in effect.\n# our site\n")
            && main.ends_with("# Comments that stood at no key:\n# the end\n"),
        "{main}"
    );
    let vault = "# Vault: host, host:port or https://...\n# ask Jane first\n# the new one\nvaultServer: v.example.org\n";
    assert!(main.contains(vault), "{main}");
    assert!(
        main.contains("#   consentLifetime:  # how long a consent"),
        "{main}"
    );
    let dune = &files[1].1;
    assert!(dune.contains("  # the near one\n  dune:\n"), "{dune}");
    assert!(
        dune.contains("          - n1\n          # until May\n          - n2\n"),
        "{dune}"
    );
}

#[test]
fn a_key_that_stands_twice_is_for_its_writer_to_decide() {
    let error = config::import(
        &[(
            "site.yml".into(),
            "experiments: {dune: {roles: {p: {account: a, Account: b}}}}",
        )],
        Format::Yaml,
        false,
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "site.yml:1:46: experiments.dune.roles.p.Account stands there twice"
    );
}
