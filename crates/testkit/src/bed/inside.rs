//! What runs inside the namespaces: process 1, the process that starts the servers, and the way in.
//!
//! The program that brings a bed up must hand the words after `testbed __inside` to [`main`]: a bed is
//! started and entered by that program starting itself again.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::WaitOptions;
use serde_json::{Value, json};

use super::layout::Layout;
use super::parts::Parts;
use super::servers::Servers;
use super::{
    Cache, certs, commands, files, htvault, issuer, kdc, ldap, nodes, pool, process, root, run, vault,
};
use crate::site::{self, VAULT, VAULT_ADMIN_PORT};

/// Does what the words say: `outer`, `init` or `supervise` with the cache's folder, the bed's name and the owner, or `enter`.
///
/// # Errors
/// Not called by us, or what failed.
pub fn main(words: &[OsString]) -> Result<ExitCode> {
    let word = |n: usize| words.get(n).and_then(|word| word.to_str()).unwrap_or_default();
    if word(0) == "enter" {
        return enter(words.get(1..).unwrap_or_default());
    }
    let cache = Cache {
        dir: PathBuf::from(words.get(1).context("no cache")?),
    };
    let layout = Layout::new(&cache, word(2))?;
    let owned = word(3) == "parent";
    match word(0) {
        "outer" => outer(&layout, words),
        "init" => init(words, owned),
        "supervise" => supervise(&layout),
        other => bail!("{other:?} is nothing to do inside a bed"),
    }
}

/// Leaves the caller's session, says which process this is, and becomes `unshare`.
fn outer(layout: &Layout, words: &[OsString]) -> Result<ExitCode> {
    rustix::process::setsid().context("setsid")?;
    let pid = std::process::id();
    let start = process::start_time(pid).context("this process is not in /proc")?;
    let half = layout.pid_file().with_extension("half");
    fs::write(&half, format!("{pid} {start}\n"))?;
    fs::rename(&half, layout.pid_file())?;
    let mut unshare = Command::new("unshare");
    unshare.args([
        "--mount",
        "--pid",
        "--net",
        "--uts",
        "--ipc",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    unshare
        .args(["--propagation", "private", "--"])
        .arg(std::env::current_exe()?);
    unshare.args(again("init", words));
    Err(unshare.exec()).context("cannot run unshare")
}

fn again<'a>(role: &'a str, words: &'a [OsString]) -> impl Iterator<Item = &'a OsStr> {
    ["testbed", "__inside", role]
        .into_iter()
        .map(OsStr::new)
        .chain(words.iter().skip(1).map(OsString::as_os_str))
}

/// Process 1: starts the supervisor, and reaps whoever loses its parent, until the supervisor or the owner is gone.
fn init(words: &[OsString], owned: bool) -> Result<ExitCode> {
    if owned {
        std::thread::spawn(|| {
            // the owner holds the other end and never writes: the end of file is its death, however it died
            let _bytes = std::io::stdin().read_to_end(&mut Vec::new());
            std::process::exit(0);
        });
    }
    // reaping everything here would take the supervisor's children from it, so it is a process of its own
    let supervisor = Command::new(std::env::current_exe()?)
        .args(again("supervise", words))
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start the supervisor")?;
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, _))) if u32::try_from(pid.as_raw_nonzero().get()) == Ok(supervisor.id()) => {
                return Ok(ExitCode::FAILURE);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait"),
        }
    }
}

fn supervise(layout: &Layout) -> Result<ExitCode> {
    let servers = Servers::new(layout);
    let begin = Instant::now();
    let stages = Mutex::new(String::new());
    let say = |stage: &str| {
        let mut stages = stages.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *stages += &format!("{stage} after {:.1} s\n", begin.elapsed().as_secs_f64());
        // only told: the bed is as good without
        let _untold = fs::write(layout.dir.join("stages"), stages.as_bytes());
    };
    match start(layout, &servers, &say) {
        Ok(()) => {
            let listener = commands::listen(layout)?;
            say("ready");
            layout.mark("ready", "")?;
            commands::serve(layout, &servers, &listener)
        }
        Err(error) => {
            layout.mark("failed", &format!("{error:#}"))?;
            Err(error)
        }
    }
}

fn start(layout: &Layout, servers: &Servers, say: &(dyn Fn(&str) + Sync)) -> Result<()> {
    let parts: Parts =
        serde_json::from_slice(&fs::read(layout.parts_file())?).context("the list of parts")?;
    files::write(layout)?;
    certs::make(layout)?;
    namespace(layout)?;
    root::mount(layout, &parts.root)?;
    run(layout.chroot("ip").args(["link", "set", "lo", "up"]))
        .context("cannot bring the loopback interface up")?;
    say("namespaces");
    // everything else wants its keytab
    kdc::start(layout, &mut servers.clone())?;
    say("keytabs");
    ldap::start(layout, &mut servers.clone())?;
    issuer::start(layout, &mut servers.clone(), &parts.issuer)?;
    vault::start(layout, &mut servers.clone(), &parts.bao, &parts.oauthapp)?;
    let jobs: [(&str, &(dyn Fn() -> Result<()> + Sync)); 5] = [
        ("KDC", &|| kdc::ready(layout, servers)),
        ("LDAP", &|| ldap::ready(layout, servers)),
        ("issuer and vault server", &|| {
            vault::listening(layout, servers)?;
            vault::initialise(layout)?;
            issuer::ready(layout, servers)?;
            htvault::configure(layout)?;
            htvault::seed(layout)?;
            vault::ready(layout, servers)
        }),
        ("pool", &|| {
            pool::start(layout, &mut servers.clone())?;
            pool::ready(layout)
        }),
        ("nodes", &|| {
            nodes::start(layout, &mut servers.clone())?;
            nodes::ready(layout)
        }),
    ];
    let failed: Vec<String> = std::thread::scope(|scope| {
        let threads = jobs.map(|(name, job)| (name, scope.spawn(move || job().map(|()| say(name)))));
        threads
            .into_iter()
            .filter_map(|(name, thread)| {
                let done = thread.join().unwrap_or_else(|_| Err(anyhow!("panicked")));
                done.err().map(|error| format!("{name}: {error:#}"))
            })
            .collect()
    });
    if !failed.is_empty() {
        bail!("{}\nlogs: {}", failed.join("\n"), layout.logs().display());
    }
    let text = serde_json::to_string_pretty(&describe(layout, servers))?;
    fs::write(layout.bed_json(), text + "\n").context("cannot write bed.json")
}

/// Makes the host's view private: a name of its own, a `/run` of its own, and an `/etc` whose changes stay here.
fn namespace(layout: &Layout) -> Result<()> {
    rustix::system::sethostname(site::HOST.as_bytes()).context("cannot set the host name")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("private mounts")?;
    if layout.dir.starts_with("/run") || layout.dir.starts_with("/etc") {
        bail!("the cache may not lie in /run or /etc: a bed has its own. Set XDG_CACHE_HOME");
    }
    // sockets of the host's resolvers and daemons lie in the host's /run, too
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), c"mode=755")
        .context("cannot mount a tmpfs at /run")?;
    let (upper, work) = (layout.run.join("etc"), layout.run.join("etc.work"));
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    let options = format!(
        "lowerdir=/etc,upperdir={},workdir={}",
        upper.display(),
        work.display()
    );
    let options = std::ffi::CString::new(options)?;
    mount(
        "overlay",
        "/etc",
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .context("cannot mount an overlay at /etc")?;
    for (path, text) in [
        ("/etc/hosts", files::hosts().into_bytes()),
        ("/etc/krb5.conf", files::krb5_conf().into_bytes()),
        ("/etc/resolv.conf", Vec::new()),
        ("/etc/hostname", format!("{}\n", site::HOST).into_bytes()),
    ] {
        replace(Path::new(path), &text)?;
    }
    let bundle = fs::read(layout.ca_bundle())?;
    for store in certs::stores() {
        replace(&store, &bundle)?;
    }
    Ok(())
}

fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    // a link would lead out of what is ours
    if path.symlink_metadata().is_ok() {
        fs::remove_file(path).with_context(|| format!("cannot replace {}", path.display()))?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// Everything about the bed, for programs: `bed.json`.
fn describe(layout: &Layout, servers: &Servers) -> Value {
    let hosts: serde_json::Map<String, Value> = site::hosts()
        .map(|host| {
            let about = json!({
                "host": host.name, "address": host.address.to_string(), "port": host.port,
                "log": layout.log(host.server), "pid": servers.pid(host.server).ok().flatten(),
            });
            (host.server.to_owned(), about)
        })
        .collect();
    let accounts: Vec<Value> = site::accounts()
        .into_iter()
        .chain(site::bulk())
        .map(|account| {
            json!({
                "name": account.name, "uid": account.uid, "principal": account.principal(),
                "credkey": account.credkey(), "keytab": layout.keytab(&account.name),
            })
        })
        .collect();
    json!({
        "name": layout.name, "dir": layout.dir, "run": layout.run, "root": layout.root,
        "realm": site::REALM, "krb5_conf": layout.krb5_conf(), "hosts_file": layout.hosts(),
        "ca": layout.ca(), "ca_bundle": layout.ca_bundle(), "known_hosts": layout.known_hosts(),
        "control": layout.control(), "managed_tokens": layout.dir.join("managedTokens.yml"),
        "bulk": layout.dir.join("bulk.yml"),
        "vault": {
            "url": format!("https://{}:{}", VAULT.name, VAULT.port),
            "admin": format!("http://{}:{VAULT_ADMIN_PORT}", VAULT.address),
            "root_token": layout.root_token(),
        },
        "issuer": site::ISSUER_URL, "servers": hosts, "accounts": accounts,
    })
}

/// Runs a command inside, in the folder the caller stands in: the first word is the bed's folder, the second that folder.
fn enter(words: &[OsString]) -> Result<ExitCode> {
    let [dir, cwd, program, arguments @ ..] = words else {
        bail!("no command to run")
    };
    std::env::set_current_dir(cwd)
        .with_context(|| format!("{} is not to be seen inside a bed", Path::new(cwd).display()))?;
    let mut command = Command::new(program);
    // a bed is root's whole, and mtk in it
    command
        .args(arguments)
        .env("MTK_BED", dir)
        .env("MTK_AS_ROOT", "1");
    // the bed's krb5.conf is in its place, and tickets of tests are no business of the host's default cache
    command
        .env_remove("KRB5_CONFIG")
        .env("KRB5CCNAME", "FILE:/run/krb5cc");
    Err(command.exec()).with_context(|| format!("cannot run {}", Path::new(program).display()))
}
