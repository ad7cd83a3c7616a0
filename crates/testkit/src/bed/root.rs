//! The Debian 13 root: made once by mmdebstrap, kept in the cache, and mounted in each bed under a private, writable layer.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cache::Cache;
use super::hash;
use super::layout::Layout;
use crate::pip;
use crate::site::{self, Account};

mod mounts;

pub(super) use mounts::{Tmpfs, bind, furnish, tmpfs};

/// The Debian release of the root: the newest whose HTCondor is one that sites run (23.9).
const SUITE: Suite = Suite {
    name: "trixie",
    has_updates: true,
};

/// A release of Debian.
pub(super) struct Suite {
    pub(super) name: &'static str,
    /// Whether updates and security fixes come beside it, rather than in it.
    pub(super) has_updates: bool,
}

/// Counts changes of this file that change the root without changing a list below.
const RECIPE: &str = "2";

const PACKAGES: &[&str] = &[
    "ca-certificates",
    // the pool, and what its vault credmon imports
    "condor",
    "python3",
    "python3-requests-oauthlib",
    "python3-six",
    "python3-urllib3",
    // what htgettoken imports: pip would build gssapi from source, which needs a compiler
    "python3-gssapi",
    "python3-paramiko",
    // what its htdecodetoken calls
    "jq",
    // the nodes, and the way the Go service pushes to them
    "openssh-client",
    "openssh-server",
    "rsync",
    "iputils-ping",
    // servers and tools for the rest of the bed
    "krb5-admin-server",
    "krb5-kdc",
    "krb5-user",
    "ldap-utils",
    "slapd",
    "openssl",
    "curl",
    "procps",
    "iproute2",
    // what an operator's host has around mtk: where it starts, what it reports to
    "cron",
    "systemd",
    "postfix",
    "prometheus",
    "prometheus-pushgateway",
];

/// The versions the bed was written for and its figures were measured with. Debian keeps no older ones, so another
/// version is used, and said.
const VERSIONS: &[(&str, &str)] = &[
    ("condor", "23.9.6"),
    ("openssh-server", "1:10.0p1"),
    ("krb5-kdc", "1.21.3"),
    ("slapd", "2.6"),
    ("python3", "3.13"),
];

const HTGETTOKEN: &str =
    "htgettoken==2.2 --hash=sha256:b3f8413f2043f9c4687c1d8c7c3b70cbce0aefe1242ce8cdbc4bf0ae0680a6ed";

/// The group of all accounts of the site (Debian's `users`).
pub(super) const GROUP: u32 = 100;

/// The cached root, made if it is not there yet: 30 s to 60 s, and some 350 MB.
///
/// # Errors
/// Not root, no mmdebstrap, a package that cannot be had. The error ends with the last lines of what mmdebstrap or pip said.
pub fn prepare(cache: &Cache) -> Result<PathBuf> {
    let accounts = passwd(&accounts());
    let packages = PACKAGES.join(",");
    let key = hash::key([
        ("recipe", RECIPE.as_bytes()),
        ("suite", SUITE.name.as_bytes()),
        ("packages", packages.as_bytes()),
        ("htgettoken", HTGETTOKEN.as_bytes()),
        ("accounts", accounts.as_bytes()),
    ]);
    let entry = cache.entry("debian", &key, |dir| {
        if !rustix::process::geteuid().is_root() {
            bail!("making the Debian root of the test bed takes root: owners and modes in it must be the real ones");
        }
        // the root is a folder inside the part: nothing of ours lies in it
        let root = dir.join("root");
        debootstrap(dir, &root, &SUITE, &packages)?;
        add_accounts(&root, &accounts)?;
        install_htgettoken(dir, &root)?;
        fs::write(dir.join("versions"), versions(&root)?).context("cannot write the list of versions")?;
        Ok(())
    })?;
    let found = fs::read_to_string(entry.join("versions")).context("cannot read the list of versions")?;
    for line in other_versions(&found) {
        // progress belongs on stderr, and a closed one is no reason to fail
        let _closed = writeln!(std::io::stderr(), "{line}");
    }
    Ok(entry.join("root"))
}

/// Mounts the root `base` at `layout.root`, under a writable layer of this bed, with the bed's names, Kerberos and CA in it.
/// To be called inside the bed's mount namespace, when `layout.run` is a tmpfs and the CA exists.
///
/// # Errors
/// A mount that the kernel refuses, named; a file of the bed that is not there.
pub fn mount(layout: &Layout, base: &Path) -> Result<()> {
    // a short path without characters that mean something in overlayfs's options, wherever the cache lies
    bind(base, &base_of(layout))?;
    furnish(layout, &layout.root, &layout.run.join("root.layer"))
}

/// The same for another root than the bed's own, as `<run>/<name>`.
///
/// # Errors
/// As [`mount`].
pub(super) fn mount_another(layout: &Layout, base: &Path, name: &str) -> Result<PathBuf> {
    let (short, target) = (layout.run.join(format!("{name}.base")), layout.run.join(name));
    bind(base, &short)?;
    mounts::furnish_over(layout, &short, &target, &layout.run.join(format!("{name}.layer")))?;
    Ok(target)
}

fn base_of(layout: &Layout) -> PathBuf {
    layout.run.join("base")
}

/// A command that runs `program` in `root`, with `host` as the machine's name.
///
/// HTCondor and sshd take the principal of their keytab from the machine's own name, and there are many
/// "machines" here: each server that cares gets a UTS namespace.
pub(super) fn daemon(root: &Path, host: &str, program: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args([
            "--uts",
            "--",
            "sh",
            "-c",
            r#"hostname "$0" && exec "$@""#,
            host,
            "chroot",
        ])
        .arg(root)
        .arg(program)
        // nothing of the caller's: a KRB5_CONFIG or a _condor_ variable would reach the servers
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/");
    command
}

/// Every account of the site: of the services, and the bulk robots.
pub(super) fn accounts() -> Vec<Account> {
    let mut all = site::accounts();
    all.extend(site::bulk());
    all.sort();
    all.dedup();
    all
}

pub(super) fn passwd(accounts: &[Account]) -> String {
    accounts
        .iter()
        .map(|Account { name, uid }| format!("{name}:x:{uid}:{GROUP}::/home/{name}:/bin/bash\n"))
        .collect()
}

/// Installs `packages` of `suite` into the folder `root`, from the host's mirrors; `dir` takes files meanwhile.
pub(super) fn debootstrap(dir: &Path, root: &Path, suite: &Suite, packages: &str) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--mode=root", "--variant=apt", "--format=directory"])
        .arg(format!("--include={packages}"))
        // a third less to unpack
        .args([
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/man/*",
        ])
        .args(["--dpkgopt=path-exclude=/usr/share/locale/*"]);
    if !suite.has_updates {
        // a release that moves every day says of itself that it is only good for days; a mirror may be behind. Its
        // signature is checked all the same, and which version it has is told afterwards
        command.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
    }
    let settings =
        apt_settings(&output(Command::new("apt-config").args(["dump", "Acquire"])).unwrap_or_default());
    if !settings.is_empty() {
        let file = dir.join("apt.conf");
        fs::write(&file, &settings).context("cannot write the apt settings")?;
        command.arg(format!("--aptopt={}", file.display()));
    }
    command.arg(suite.name).arg(root);
    // a host that is no Debian, or never ran `apt-get update`, has no mirror to tell: mmdebstrap then takes its own
    let targets = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(IDENTIFIER) $(REPO_URI) $(RELEASE) $(COMPONENT)",
    ]))
    .unwrap_or_default();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    command.args(sources(suite, &targets, codename(&release), keyring()));
    run(&mut command)?;
    // the host's proxy is no business of the root
    let kept = root.join("etc/apt/apt.conf.d/99mmdebstrap");
    if kept.exists() {
        fs::remove_file(&kept).context("cannot remove the apt settings")?;
    }
    let settings = dir.join("apt.conf");
    if settings.exists() {
        fs::remove_file(&settings).context("cannot remove the apt settings")?;
    }
    Ok(())
}

fn keyring() -> Option<&'static str> {
    [
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "/usr/share/keyrings/debian-archive-keyring.pgp",
    ]
    .into_iter()
    .find(|path| Path::new(path).exists())
}

fn codename(os_release: &str) -> &str {
    os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"'))
        .unwrap_or_default()
}

/// The lines of a sources.list for `suite`, from the mirrors `apt-get indextargets` says the host uses for its own release.
fn sources(suite: &Suite, targets: &str, codename: &str, keyring: Option<&str>) -> Vec<String> {
    let name = suite.name;
    let mirror = |release: &str| {
        targets.lines().find_map(|line| {
            let mut words = line.split(' ');
            let (kind, uri, suite, component) = (words.next()?, words.next()?, words.next()?, words.next()?);
            (kind == "Packages" && suite == release && component == "main").then(|| uri.to_owned())
        })
    };
    let signed = keyring
        .map(|path| format!("[signed-by={path}] "))
        .unwrap_or_default();
    let mut lines = Vec::new();
    if let Some(uri) = mirror(codename).or_else(|| mirror("stable")) {
        lines.push(format!("deb {signed}{uri} {name} main"));
        if !suite.has_updates {
            return lines;
        }
        lines.push(format!("deb {signed}{uri} {name}-updates main"));
        let security = mirror(&format!("{codename}-security")).or_else(|| mirror("stable-security"));
        lines.extend(security.map(|uri| format!("deb {signed}{uri} {name}-security main")));
    }
    lines
}

/// How the host's apt reaches its mirrors: proxies and TLS.
fn apt_settings(dump: &str) -> String {
    dump.lines()
        .filter(|line| line.starts_with("Acquire::http") || line.starts_with("Acquire::https"))
        .map(|line| format!("{line}\n"))
        .collect()
}

pub(super) fn add_accounts(root: &Path, passwd: &str) -> Result<()> {
    append(&root.join("etc/passwd"), passwd)?;
    let home = root.join("home");
    let mut shadow = String::new();
    for Account { name, uid } in accounts() {
        // `*`: no password matches, yet sshd does not call the account locked as it would for `!`
        shadow += &format!("{name}:*:20000:0:99999:7:::\n");
        let dir = home.join(name);
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        chown(&dir, Some(uid), Some(GROUP)).with_context(|| format!("cannot give {} away", dir.display()))?;
    }
    append(&root.join("etc/shadow"), &shadow)
}

fn append(path: &Path, text: &str) -> Result<()> {
    fs::OpenOptions::new()
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot add to {}", path.display()))
}

fn install_htgettoken(dir: &Path, root: &Path) -> Result<()> {
    // the host's pip: pure Python, so that its version of Python does not matter, and no pip need be in the root
    pip::install(HTGETTOKEN, dir, &root.join("opt/htgettoken"))?;
    let programs = root.join("usr/local/bin");
    for script in ["htdecodetoken", "htdestroytoken", "httokensh"] {
        let link = programs.join(script);
        symlink(format!("/opt/htgettoken/bin/{script}"), &link)
            .with_context(|| format!("cannot make {}", link.display()))?;
    }
    // pip's own start script knows neither the root's Python nor where the module lies
    let program = programs.join("htgettoken");
    fs::write(
        &program,
        "#!/usr/bin/python3\nimport sys\nsys.path.insert(0, '/opt/htgettoken')\nfrom htgettoken import main\n\
         sys.exit(main())\n",
    )
    .and_then(|()| fs::set_permissions(&program, fs::Permissions::from_mode(0o755)))
    .with_context(|| format!("cannot write {}", program.display()))?;
    // compiled once here: as an ordinary account it would be compiled anew at each start, and measured with it
    run(Command::new("chroot").arg(root).args([
        "python3",
        "-m",
        "compileall",
        "-q",
        "/opt/htgettoken/htgettoken",
    ]))
}

fn versions(root: &Path) -> Result<String> {
    let mut command = Command::new("chroot");
    command
        .arg(root)
        .args(["dpkg-query", "-W", "-f", "${Package} ${Version}\\n"]);
    output(command.args(PACKAGES))
}

/// What to say about packages whose version is not the one of [`VERSIONS`].
fn other_versions(found: &str) -> Vec<String> {
    VERSIONS
        .iter()
        .filter_map(|&(package, expected)| {
            let version = found
                .lines()
                .find_map(|line| line.strip_prefix(package)?.strip_prefix(' '))
                .unwrap_or("missing");
            (!version.starts_with(expected)).then(|| {
                format!(
                    "note: {package} in the Debian root is {version}, the test bed was written for {expected}"
                )
            })
        })
        .collect()
}

/// Runs a command to its end and returns what it printed.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command
        .output()
        .with_context(|| format!("cannot run {name}: is it installed?"))?;
    if !done.status.success() {
        let said =
            String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
        let lines: Vec<&str> = said.lines().collect();
        let last = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default();
        bail!("{name} failed ({}):\n{}", done.status, last.join("\n"));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "Packages http://mirror.test/debian/ bookworm main\n\
        Translations http://mirror.test/debian/ bookworm main\n\
        Packages http://mirror.test/debian/ bookworm-updates main\n\
        Packages http://other.test/node nodistro main\n\
        Packages http://mirror.test/debian-security/ bookworm-security main\n";

    #[test]
    fn the_mirrors_are_the_hosts() {
        assert_eq!(
            sources(&SUITE, TARGETS, "bookworm", Some("/k.gpg")),
            [
                "deb [signed-by=/k.gpg] http://mirror.test/debian/ trixie main",
                "deb [signed-by=/k.gpg] http://mirror.test/debian/ trixie-updates main",
                "deb [signed-by=/k.gpg] http://mirror.test/debian-security/ trixie-security main",
            ]
        );
        let stable = TARGETS.replace("bookworm", "stable");
        assert_eq!(sources(&SUITE, &stable, "trixie", None).len(), 3);
        let rolling = Suite {
            name: "sid",
            has_updates: false,
        };
        assert_eq!(
            sources(&rolling, TARGETS, "bookworm", None),
            ["deb http://mirror.test/debian/ sid main"]
        );
    }

    #[test]
    fn a_host_without_debian_sources_leaves_the_choice_to_mmdebstrap() {
        let other = "Packages http://other.test/node nodistro main\n";
        assert!(sources(&SUITE, other, "noble", None).is_empty());
        assert!(sources(&SUITE, "", "", None).is_empty());
    }

    #[test]
    fn the_codename_may_be_quoted() {
        assert_eq!(codename("ID=debian\nVERSION_CODENAME=bookworm\n"), "bookworm");
        assert_eq!(codename("VERSION_CODENAME=\"trixie\"\n"), "trixie");
        assert_eq!(codename("ID=x\n"), "");
    }

    #[test]
    fn proxies_are_passed_on_and_nothing_else() {
        let dump =
            "Acquire \"\";\nAcquire::http::Proxy \"http://p.test:3128\";\nAcquire::Changelogs::x \"y\";\n";
        assert_eq!(
            apt_settings(dump),
            "Acquire::http::Proxy \"http://p.test:3128\";\n"
        );
    }

    #[test]
    fn another_version_is_named() {
        let found =
            "condor 23.9.6+dfsg-2.1+b10\nkrb5-kdc 1.21.3-5\nopenssh-server 1:10.1p1-1\npython3 3.13.5-1\n";
        let said = other_versions(found);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("openssh-server in the Debian root is 1:10.1p1-1"));
        assert!(said[1].contains("slapd in the Debian root is missing"));
    }

    #[test]
    fn every_account_has_its_own_number() {
        let passwd = passwd(&accounts());
        assert_eq!(passwd.lines().count(), 56);
        assert!(passwd.contains("dunepro:x:50001:100::/home/dunepro:/bin/bash\n"));
        assert!(passwd.contains("robot50:x:51050:100::/home/robot50:/bin/bash\n"));
    }
}
