//! Whole configurations out of memory.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{collections::BTreeMap, io, path::Path};

use condor_config::{Config, Environment, Place, Source, read};

#[derive(Default)]
struct Files(BTreeMap<String, String>);

impl Source for Files {
    fn file(&self, path: &Path) -> io::Result<String> {
        let found = self.0.get(path.to_str().unwrap());
        found.cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let names: Vec<String> = self
            .0
            .keys()
            .filter(|path| Path::new(path).parent() == Some(directory))
            .map(|path| Path::new(path).file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        if names.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(names)
    }
}

fn files(all: &[(&str, &str)]) -> Files {
    let owned = all
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
    Files(owned.collect())
}

fn with(variables: &[(&str, &str)], all: &[(&str, &str)]) -> Config {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let environment = Environment {
        variables: variables.iter().map(own).collect(),
        host: Some("ap1.example.org".into()),
        ..Environment::default()
    };
    read(&environment, &files(all))
}

fn global(text: &str) -> Config {
    with(&[], &[("/etc/condor/condor_config", text)])
}

#[track_caller]
fn value(config: &Config, name: &str) -> String {
    config
        .get(name)
        .unwrap()
        .map(|found| found.value)
        .unwrap_or_default()
}

fn said(config: &Config) -> Vec<String> {
    config.findings().iter().map(ToString::to_string).collect()
}

#[test]
fn files_are_read_in_htcondors_order() {
    let config = with(
        &[("_condor_E", "environment"), ("HOME", "/home/me")],
        &[
            (
                "/etc/condor/condor_config",
                "A = global\nB = global\nC = global\nLOCAL_CONFIG_DIR = /etc/condor/config.d\nLOCAL_CONFIG_FILE = /l1, /l2\n",
            ),
            ("/etc/condor/config.d/50-a", "B = fifty\nC = $(C) fifty\n"),
            ("/etc/condor/config.d/10-b", "B = ten\nC = $(C) ten\n"),
            ("/etc/condor/config.d/.hidden", "B = hidden\n"),
            ("/etc/condor/config.d/60-c.rpmsave", "B = saved\n"),
            ("/l1", "C = $(C) l1\nLOCAL_CONFIG_FILE = /l1 /l3\n"),
            ("/l2", "C = $(C) l2\n"),
            ("/l3", "C = $(C) l3\nE = file\n"),
            ("/home/me/.condor/user_config", "D = mine\n"),
        ],
    );
    assert_eq!(value(&config, "A"), "global");
    assert_eq!(value(&config, "b"), "fifty");
    assert_eq!(value(&config, "C"), "global ten fifty l1 l3");
    assert_eq!(value(&config, "D"), "mine");
    let e = config.get("E").unwrap().unwrap();
    assert_eq!(
        (e.value.as_str(), e.place),
        ("environment", Place::Environment("_condor_E".into()))
    );
    let names: Vec<_> = config.files().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "/etc/condor/condor_config",
            "/etc/condor/config.d/10-b",
            "/etc/condor/config.d/50-a",
            "/l1",
            "/l3",
            "/home/me/.condor/user_config"
        ]
    );
    assert_eq!(said(&config), [""; 0]);
}

#[test]
fn the_environment_names_the_file_or_that_there_is_none() {
    let all = [
        ("/etc/condor/condor_config", "A = etc\n"),
        ("/mine", "A = mine\n"),
    ];
    assert_eq!(value(&with(&[], &all), "A"), "etc");
    assert_eq!(value(&with(&[("CONDOR_CONFIG", "/mine")], &all), "A"), "mine");
    let only = with(&[("CONDOR_CONFIG", "ONLY_ENV"), ("_CONDOR_B", "2")], &all);
    assert_eq!(
        (value(&only, "A"), value(&only, "B")),
        (String::new(), "2".to_owned())
    );
    let none = with(&[("CONDOR_CONFIG", "/none")], &all);
    assert!(
        said(&none)[0].starts_with("environment CONDOR_CONFIG: /none cannot be read"),
        "{:?}",
        said(&none)
    );
    // no HTCondor on this host at all: nothing is wrong with that
    assert_eq!(said(&with(&[], &[])), [""; 0]);
}

/// Seen of 25.14.1: the order of the environment decides, not the case.
#[test]
fn of_two_variables_that_differ_in_case_the_later_counts() {
    let all = [("/etc/condor/condor_config", "A = file\nTOOL.B = tool\n")];
    let config = with(
        &[("_CONDOR_A", "up"), ("_condor_A", "low"), ("_Condor_b", "mix")],
        &all,
    );
    assert_eq!(
        (value(&config, "A"), value(&config, "B")),
        ("low".to_owned(), "tool".to_owned())
    );
    let config = with(
        &[("_condor_A", "low"), ("_CONDOR_A", "up"), ("_condor_TOOL.B", "7")],
        &all,
    );
    assert_eq!(
        (value(&config, "A"), value(&config, "B")),
        ("up".to_owned(), "7".to_owned())
    );
}

#[test]
fn branches_nest() {
    let config = global(
        "if 0\nA=1\nif true\nA=3\nendif\nelse\nA=2\nendif\nif defined A\nB=1\nelif true\nB=2\nelse\nB=3\nendif\n\
         if version < 1\nC=1\nelif version >= 23.0\nC=2\nelif true\nC=3\nendif\nif $(A) > 1\nD=1\nelse\nD=2\nendif\n",
    );
    let all = ["A", "B", "C", "D"].map(|name| value(&config, name));
    assert_eq!(all, ["2", "1", "2", "2"]);
    assert_eq!(said(&config).len(), 1);
    assert!(
        said(&config)[0].starts_with("/etc/condor/condor_config:23: this condition counts as false"),
        "{:?}",
        said(&config)
    );
}

#[test]
fn includes_are_read_and_commands_are_not_run() {
    let config = with(
        &[],
        &[
            (
                "/etc/condor/condor_config",
                "D = /etc/more\ninclude : $(D)/a\ninclude ifexist : /none\ninclude : /missing\n\
                 include command : /usr/bin/pool\ninclude : /usr/bin/pool |\ninclude command into /cache : x\nB = b\n",
            ),
            ("/etc/more/a", "A = a\ninclude : /etc/more/b\ninclude : b\n"),
            ("/etc/more/b", "C = c\n"),
        ],
    );
    let all = ["A", "B", "C"].map(|name| value(&config, name));
    assert_eq!(all, ["a", "b", "c"]);
    let said = said(&config);
    assert_eq!(said.len(), 5, "{said:?}");
    assert!(
        said[0].starts_with("/etc/more/a:3: this file is not included"),
        "{said:?}"
    );
    let said = &said[1..];
    assert!(
        said[0].starts_with("/etc/condor/condor_config:4: /missing cannot be read"),
        "{said:?}"
    );
    assert!(
        said[1..].iter().all(|text| text.contains("no command is run")),
        "{said:?}"
    );
}

#[test]
fn files_that_include_each_other_end() {
    let config = with(
        &[],
        &[
            ("/etc/condor/condor_config", "A = 1\ninclude : /x\n"),
            ("/x", "include : /x\ninclude : /x\n"),
        ],
    );
    assert_eq!(value(&config, "A"), "1");
    assert!(said(&config).iter().any(|text| text.contains("too deep")));
}

/// Without a bound on all of it together, each file may cost what one value may.
#[test]
fn what_takes_long_in_every_file_takes_long_once() {
    let nested = format!("A = {}{}\n", "$(Z:".repeat(700), ")".repeat(700));
    let conditions = "if $(A)\nendif\n".repeat(100);
    let itself = "include : /etc/condor/condor_config\n".repeat(2);
    let text = format!("{nested}{itself}{conditions}");
    let before = std::time::Instant::now();
    let config = global(&text);
    assert!((2..=1000).contains(&config.files().count()));
    let said = said(&config);
    assert!(
        said.iter().any(|line| line.contains("takes too long")),
        "{said:?}"
    );
    assert!(before.elapsed() < std::time::Duration::from_secs(30));
}

#[test]
fn templates_set_what_a_client_reads() {
    let config = global(
        "use ROLE : Personal, NoSuch\nuse security:get_htcondor_idtokens\nuse FEATURE : GPUs\nuse X : Y\n",
    );
    assert_eq!(value(&config, "COLLECTOR_HOST"), "127.0.0.1:0");
    assert_eq!(
        value(&config, "SEC_CLIENT_AUTHENTICATION_METHODS"),
        "FS,IDTOKENS,KERBEROS,SCITOKENS,SSL,ANONYMOUS"
    );
    assert_eq!(value(&config, "SEC_DEFAULT_ENCRYPTION"), "required");
    let place = config.get("COLLECTOR_HOST").unwrap().unwrap().place;
    assert_eq!(place.to_string(), "/etc/condor/condor_config:1");
    assert_eq!(
        said(&config),
        [
            "/etc/condor/condor_config:1: use ROLE:NoSuch is not known here",
            "/etc/condor/condor_config:4: use X:Y is not known here"
        ]
    );
}

#[test]
fn what_is_not_understood_is_named_with_its_line_and_the_rest_is_read() {
    let config = global(
        "nonsense here\n+D = 7\nE-F = 3\nG : 1\nerror : $(G) secret\nH = $RANDOM_CHOICE(a,b)\nI @=end\nx\n",
    );
    assert_eq!(value(&config, "G"), "1");
    let said = said(&config);
    let lines: Vec<&str> = said.iter().map(|text| text.split(": ").next().unwrap()).collect();
    assert_eq!(
        lines,
        [1, 2, 3, 4, 5, 7].map(|line| format!("/etc/condor/condor_config:{line}")),
        "{said:?}"
    );
    assert!(!said[4].contains("secret"));
    let error = config.get("H").unwrap_err();
    assert_eq!(
        error.to_string(),
        "/etc/condor/condor_config:6: H has no value here: $RANDOM_CHOICE() is not evaluated here"
    );
    // a setting that is named like a word
    assert_eq!(value(&global("use = x\nif = y\n"), "IF"), "y");
    let config = global("USE_PROCD = no\nIf.X = 1\nINCLUDE_IT = 2\nerror_x = 3\n");
    assert_eq!(
        (value(&config, "use_procd").as_str(), config.findings().len()),
        ("no", 0)
    );
}

#[test]
fn a_list_of_files_that_is_a_command_is_named() {
    let config = global("LOCAL_CONFIG_FILE = /usr/bin/pool_config |\nA = 1\n");
    assert_eq!(value(&config, "A"), "1");
    assert_eq!(
        said(&config),
        ["/etc/condor/condor_config:1: LOCAL_CONFIG_FILE is a command: no command is run"]
    );
}

/// The environment of a process holds passwords, and so may settings.
#[test]
fn debug_shows_how_many_and_not_what() {
    let secret = "correct-horse";
    let environment = Environment {
        variables: vec![
            ("_condor_PW".into(), secret.into()),
            ("PASS".into(), secret.into()),
        ],
        ..Environment::default()
    };
    let config = read(&environment, &files(&[]));
    assert_eq!(value(&config, "PW"), secret);
    let shown = format!("{environment:?} {config:?}");
    assert!(!shown.contains(secret), "{shown}");
    assert!(shown.contains("variables: 2"), "{shown}");
}
