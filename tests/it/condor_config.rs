//! HTCondor's own configuration: what we read of it is what the real `condor_config_val` of both pools says, and mtk takes
//! from it what its own file leaves open.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::Command,
};

use condor_config::{Config, Disk, Environment, Source};
use testkit::{
    bed::pool_sid,
    site::{ACCESS_POINTS, COLLECTOR, SECOND_POOL, VAULT},
};

use crate::{bed::bed, mtk::Operator};

/// A Debian root, with files by their names inside it.
struct Root {
    outside: PathBuf,
    program: fn(&str) -> Command,
    version: [u32; 3],
}

impl Source for Root {
    fn file(&self, path: &Path) -> io::Result<String> {
        Disk.file(&self.at(path))
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        Disk.names(&self.at(directory))
    }
}

impl Root {
    fn at(&self, path: &Path) -> PathBuf {
        self.outside.join(path.strip_prefix("/").unwrap())
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.at(Path::new(path));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn read(&self, variables: &[(&str, &str)]) -> Config {
        let environment = Environment {
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            root: true,
            version: self.version,
            ..Environment::default()
        };
        condor_config::read(&environment, self)
    }

    /// Value, and where it is from, as `condor_config_val` has them; `None` for what it does not know.
    fn asked(&self, variables: &[(&str, &str)], name: &str) -> Option<(String, String)> {
        let mut command = (self.program)("env");
        command
            .arg("-i")
            .args(variables.iter().map(|(name, value)| format!("{name}={value}")));
        let output = command.args(["condor_config_val", "-v", name]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        // several lines of a block, then those about it
        let (value, about) = text.split_once("\n # at: ")?;
        // a block, of which they have the last line
        if let Some((_, block)) = value.split_once(" @=end\n") {
            let lines: Vec<&str> = block
                .lines()
                .map(str::trim)
                .filter(|line| *line != "@end")
                .collect();
            return Some((lines.join("\n"), String::new()));
        }
        let (_, value) = value.split_once(" = ")?;
        Some((value.trim().to_owned(), about.lines().next().unwrap().to_owned()))
    }
}

fn roots() -> [Root; 2] {
    [
        Root {
            outside: bed().layout().root.clone(),
            program: |program| bed().layout().chroot(program),
            version: [23, 9, 6],
        },
        Root {
            outside: pool_sid::root_of(bed().layout()),
            program: |program| pool_sid::chroot(bed().layout(), program),
            version: [25, 14, 1],
        },
    ]
}

const HERE: &str = "/tmp/mtk-condor-config";

const GLOBAL: &str = r#"
# continued \
DOMAIN = example.org
HERE = /tmp/mtk-condor-config
LOCAL_CONFIG_DIR = $(HERE)/config.d
LOCAL_CONFIG_FILE = $(HERE)/local1, $(HERE)/local2
CONDOR_HOST = cm.$(DOMAIN)
COLLECTOR_HOST = $(CONDOR_HOST):9618, \
   # not this one \
   cm2.$(DOMAIN)
SEC_CREDENTIAL_GETTOKEN_OPTS = -a $(VAULT:vault.$(DOMAIN)) \  
   --nokerberos
EMPTY =
TAKEN = $(EMPTY:other) $(NOTHING) end
LIST = one
LIST = $(LIST), two
list = $(List:none), three
OWN = $(OWN:first) second
TOOL.WHO = tool
WHO = anybody
TALK @=end
  line $(DOMAIN)
  # no line
  line two \
  goes on
@end
A$(WHO) = named by another
if version >= 24.0
  VERSION_SAYS = new
  if ! defined NOTHING
    NESTED = yes
  endif
elif defined DOMAIN
  VERSION_SAYS = old
else
  VERSION_SAYS = neither
endif
if defined EMPTY
  IS_EMPTY = no
else
  IS_EMPTY = yes
endif
include : $(HERE)/more/first
include ifexist : $(HERE)/none
use ROLE : Submit
use SECURITY : STRONG
use FEATURE : GPUs
DOLLARS = $$(X) $(DOLLAR)(Y) $ $(not one)
DIR = $DIRNAME(COMMON)
BASE = $BASENAME(COMMON)
COMMON = $(HERE)/common.file
HOME_IS = $ENV(HOME) $ENV(NO_SUCH) $ENV(NO_SUCH:else)
"#;

const NAMES: &[&str] = &[
    "DOMAIN",
    "LOCAL_CONFIG_DIR",
    "COLLECTOR_HOST",
    "SEC_CREDENTIAL_GETTOKEN_OPTS",
    "EMPTY",
    "TAKEN",
    "LIST",
    "OWN",
    "WHO",
    "TALK",
    "Atool",
    "VERSION_SAYS",
    "NESTED",
    "IS_EMPTY",
    "FIRST",
    "SECOND",
    "LATER",
    "LOCAL",
    "ORDER",
    "HIDDEN",
    "DOLLARS",
    "DIR",
    "BASE",
    "HOME_IS",
    "FROM_ENVIRONMENT",
    "LOUD",
    "NO_SUCH_SETTING",
    "SEC_DEFAULT_ENCRYPTION",
    "TRUSTED_VAULT_HOSTS",
    "SEC_CLIENT_AUTHENTICATION_METHODS",
    "AUTH_SSL_CLIENT_CAFILE",
];

#[test]
fn what_is_read_is_what_condor_config_val_says() {
    for root in roots() {
        root.write(&format!("{HERE}/condor_config"), GLOBAL);
        root.write(
            &format!("{HERE}/more/first"),
            "FIRST = 1\ninclude : $(HERE)/more/second\nORDER = $(ORDER:) first\n",
        );
        root.write(&format!("{HERE}/more/second"), "SECOND = 2\n");
        for (name, text) in [
            ("20-b", "LATER = twenty\nORDER = $(ORDER) 20\n"),
            (
                "10-a",
                "LATER = ten\nORDER = $(ORDER) 10\nAUTH_SSL_CLIENT_CAFILE = $(HERE)/ca.pem\n",
            ),
            (".hidden", "HIDDEN = yes\n"),
            ("30-c.rpmsave", "HIDDEN = yes\n"),
            ("40-d~", "HIDDEN = yes\n"),
        ] {
            root.write(&format!("{HERE}/config.d/{name}"), text);
        }
        root.write(
            &format!("{HERE}/local1"),
            "LOCAL = 1\nORDER = $(ORDER) l1\nLOCAL_CONFIG_FILE = $(HERE)/local3 $(HERE)/local1\n",
        );
        root.write(&format!("{HERE}/local2"), "ORDER = $(ORDER) l2\n");
        root.write(
            &format!("{HERE}/local3"),
            "ORDER = $(ORDER) l3\nTRUSTED_VAULT_HOSTS = a:8200\n",
        );
        let file = format!("{HERE}/condor_config");
        let variables = [
            ("CONDOR_CONFIG", file.as_str()),
            ("HOME", "/root"),
            ("PATH", "/usr/bin:/bin"),
            ("_condor_FROM_ENVIRONMENT", "$(DOMAIN) low"),
            ("_CONDOR_LOUD", "up"),
            ("_condor_loud", "low"),
            ("_condor_TOOL.LATER", "tool"),
        ];
        let config = root.read(&variables);
        let mut known = 0;
        for name in NAMES {
            let ours = config.get(name).unwrap();
            let theirs = root.asked(&variables, name);
            known += usize::from(theirs.is_some());
            match (ours, theirs) {
                (Some(ours), Some((value, place))) => {
                    assert_eq!(ours.value, value, "{name} in {:?}", root.version);
                    // they part file and line by a comma
                    if let condor_config::Place::File { path, line } = &ours.place
                        && !place.contains("use ")
                        && !place.is_empty()
                    {
                        // of continued lines they have the last
                        let (file, at) = place.rsplit_once(", line ").unwrap();
                        let at: u32 = at.parse().unwrap();
                        assert!(
                            Path::new(file) == &**path && (*line..=line + 2).contains(&at),
                            "{name} is from {place} in {:?}, not from {}",
                            root.version,
                            ours.place
                        );
                    }
                }
                (None, None) => {}
                (ours, theirs) => panic!("{name} in {:?}: {ours:?} is not {theirs:?}", root.version),
            }
        }
        assert!(known > 22, "condor_config_val knows only {known}");
        assert_eq!(config.findings(), []);
        std::fs::remove_dir_all(root.at(Path::new(HERE))).unwrap();
    }
}

/// The daemons' own configuration of each pool, setting by setting.
#[test]
fn every_setting_of_the_pools_is_read() {
    for (root, server) in roots().iter().zip([ACCESS_POINTS[0].server, SECOND_POOL.server]) {
        let file = format!("/etc/condor/{server}.conf");
        let text = root.file(Path::new(&file)).unwrap();
        let variables = [("CONDOR_CONFIG", file.as_str()), ("PATH", "/usr/bin:/bin")];
        let config = root.read(&variables);
        assert_eq!(config.findings(), []);
        let names: BTreeMap<&str, ()> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| Some((line.split_once('=')?.0.trim(), ())))
            .collect();
        assert!(names.len() > 50, "{names:?}");
        // all in one call: one line each
        let mut command = (root.program)("env");
        command
            .arg(format!("CONDOR_CONFIG={file}"))
            .args(["condor_config_val", "-dump", "-expand"]);
        let dump = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let theirs: BTreeMap<String, &str> = dump
            .lines()
            .filter_map(|line| line.split_once(" = "))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim()))
            .collect();
        let mut compared = 0;
        for name in names.keys() {
            let Some(value) = theirs.get(&name.to_ascii_lowercase()) else {
                continue;
            };
            let ours = config
                .get(name)
                .unwrap()
                .map(|found| found.value)
                .unwrap_or_default();
            // truth values are shown in small letters
            assert!(
                ours.eq_ignore_ascii_case(value),
                "{name} of {server}: {ours} is not {value}"
            );
            compared += 1;
        }
        assert!(compared > 50, "only {compared} of {} were compared", names.len());
    }
}

/// A site that keeps collector, Vault options and trusted hosts in HTCondor's configuration.
#[test]
fn mtk_takes_from_htcondor_what_its_own_file_leaves_open() {
    let ours = std::fs::read_to_string(bed().dir.join("managedTokens.yml")).unwrap();
    let left: Vec<&str> = ours
        .lines()
        .filter(|line| !line.starts_with("condorCollectorHost") && !line.starts_with("vaultServer"))
        .collect();
    assert_eq!(left.len() + 2, ours.lines().count());
    let operator = Operator::with(&left.join("\n"));
    let file = operator.path().join("condor_config");
    let (vault, collector) = (VAULT.name, COLLECTOR.name);
    let text = format!(
        "CONDOR_HOST = {collector}\nCOLLECTOR_HOST = $(CONDOR_HOST):9618\nSEC_CREDENTIAL_GETTOKEN_OPTS = -a {vault}\n\
         TRUSTED_VAULT_HOSTS = other.mtk.test:8200\ninclude command : /usr/bin/pool\n"
    );
    std::fs::write(&file, text).unwrap();
    let mtk = |args: &[&str]| {
        let output = operator
            .command(args)
            .env("CONDOR_CONFIG", &file)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, shown) = mtk(&["config", "show", "--origin"]);
    assert_eq!(code, Some(0), "{shown}");
    for (key, line) in [("condorCollectorHost", 2), ("vaultServer", 3)] {
        let place = format!("HTCondor's configuration, {}:{line}", file.display());
        let said = shown
            .lines()
            .any(|shown| shown.contains(key) && shown.contains(&place));
        assert!(said, "no {key} from {place} in\n{shown}");
    }
    let (_, checked) = mtk(&["config", "check"]);
    for part in ["no command is run", "TRUSTED_VAULT_HOSTS"] {
        assert!(checked.contains(part), "{checked}");
    }
    let (code, _) = mtk(&["refresh", "--service", "nova_production"]);
    assert_eq!(code, Some(0));
}
