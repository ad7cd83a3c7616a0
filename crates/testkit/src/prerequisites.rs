//! What the host must have before anything is built or run, and how it gets it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::bed::run;

/// What a prerequisite is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// The test bed.
    Bed,
    /// Building mtk itself.
    Build,
    /// Some tests.
    Tests,
}

/// How to see whether it is there.
#[derive(Clone, Copy, Debug)]
enum Sign {
    /// A program in the path.
    Program(&'static str),
    /// A file.
    File(&'static str),
    /// A module of Python.
    Module(&'static str),
    /// A library of LLVM.
    Libclang,
}

/// Something the host must have.
#[derive(Clone, Copy, Debug)]
pub struct Prerequisite {
    sign: Sign,
    /// The Debian package that brings it.
    pub package: &'static str,
    /// What it is for.
    pub purpose: For,
}

const fn program(name: &'static str, package: &'static str, purpose: For) -> Prerequisite {
    Prerequisite {
        sign: Sign::Program(name),
        package,
        purpose,
    }
}

const fn file(path: &'static str, package: &'static str, purpose: For) -> Prerequisite {
    Prerequisite {
        sign: Sign::File(path),
        package,
        purpose,
    }
}

/// All of them.
pub const ALL: [Prerequisite; 20] = [
    program("unshare", "util-linux", For::Bed),
    program("nsenter", "util-linux", For::Bed),
    program("mmdebstrap", "mmdebstrap", For::Bed),
    program("openssl", "openssl", For::Bed),
    file("/etc/ssl/certs/ca-certificates.crt", "ca-certificates", For::Bed),
    program("python3", "python3", For::Bed),
    Prerequisite {
        sign: Sign::Module("pip"),
        package: "python3-pip",
        purpose: For::Bed,
    },
    program("go", "golang-go", For::Bed),
    program("node", "nodejs", For::Bed),
    program("npm", "npm", For::Bed),
    program("cc", "gcc", For::Build),
    program("make", "make", For::Build),
    program("pkg-config", "pkg-config", For::Build),
    file("/usr/include/stdio.h", "libc6-dev", For::Build),
    file("/usr/include/gssapi/gssapi_ext.h", "libkrb5-dev", For::Build),
    file("/usr/include/openssl/ssl.h", "libssl-dev", For::Build),
    file("/usr/include/zlib.h", "zlib1g-dev", For::Build),
    Prerequisite {
        sign: Sign::Libclang,
        package: "libclang-dev",
        purpose: For::Build,
    },
    program("strace", "strace", For::Tests),
    program("faketime", "faketime", For::Tests),
];

impl Prerequisite {
    fn is_there(&self) -> bool {
        match self.sign {
            Sign::Program(name) => in_path(name),
            Sign::File(path) => Path::new(path).exists(),
            // looked for, not started: pip takes half a second to say its version
            Sign::Module(name) => {
                let find =
                    "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)";
                quiet(Command::new("python3").args(["-c", find, name]))
            }
            Sign::Libclang => libclang(),
        }
    }
}

fn in_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .any(|dir| dir.join(name).is_file())
}

fn quiet(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let entries = |dir: &Path| {
        std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    let mut places = vec![
        Path::new("/usr/lib").to_owned(),
        Path::new("/usr/lib64").to_owned(),
    ];
    places.extend(entries(Path::new("/usr/lib")).filter(|path| path.is_dir()));
    places.extend(
        entries(Path::new("/usr/lib"))
            .map(|path| path.join("lib"))
            .filter(|path| path.is_dir()),
    );
    places.iter().any(|dir| {
        entries(dir).any(|file| {
            file.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| {
                    name.starts_with("libclang.so") || (name.starts_with("libclang-") && name.contains(".so"))
                })
        })
    })
}

/// The packages that are missing for `purposes`, each once.
pub fn missing(purposes: &[For]) -> Vec<&'static str> {
    let mut packages: Vec<&str> = ALL
        .iter()
        .filter(|one| purposes.contains(&one.purpose) && !one.is_there())
        .map(|one| one.package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Installs what is missing where that may be done (root, apt-get), else names it; then looks at the versions that matter.
///
/// # Errors
/// Something is missing and cannot be installed, or is too old. The text names it, with a command to copy.
pub fn ensure(purposes: &[For], say: &dyn Fn(&str)) -> Result<()> {
    let packages = missing(purposes);
    if !packages.is_empty() {
        let list = packages.join(" ");
        let by_hand =
            format!("sudo apt-get update && sudo apt-get install -y --no-install-recommends {list}");
        if !rustix::process::geteuid().is_root() || !in_path("apt-get") {
            bail!("missing on this host: {list}. On Debian they are installed with\n  {by_hand}");
        }
        say(&format!("installing {list}"));
        let apt = |arguments: &[&str]| {
            run(Command::new("apt-get")
                .args(arguments)
                .env("DEBIAN_FRONTEND", "noninteractive"))
            .with_context(|| format!("installing failed; the command is\n  {by_hand}"))
        };
        apt(&["update", "-q"])?;
        let mut install = vec!["install", "-q", "-y", "--no-install-recommends"];
        install.extend(&packages);
        apt(&install)?;
        let still = missing(purposes);
        if !still.is_empty() {
            bail!("installed, and yet not there: {}", still.join(" "));
        }
    }
    if purposes.contains(&For::Bed) {
        newer(
            "go",
            &["env", "GOVERSION"],
            "go",
            (1, 21),
            "it fetches the version it needs by itself",
        )?;
        newer("node", &["--version"], "v", (20, 0), "oidc-provider needs it")?;
    }
    Ok(())
}

fn newer(program: &str, arguments: &[&str], prefix: &str, least: (u32, u32), why: &str) -> Result<()> {
    let text = run(Command::new(program).args(arguments))?;
    let (major, minor) = least;
    match version(&text, prefix) {
        Some(found) if found >= least => Ok(()),
        _ => bail!(
            "{program} {major}.{minor} or newer is needed ({why}); this is {}",
            text.trim()
        ),
    }
}

fn version(text: &str, prefix: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().strip_prefix(prefix)?.split('.');
    let digits = |word: &str| {
        word.chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
            .parse()
            .ok()
    };
    Some((digits(numbers.next()?)?, digits(numbers.next()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(version("go1.26.8\n", "go"), Some((1, 26)));
        assert_eq!(version("go1.22rc1", "go"), Some((1, 22)));
        assert_eq!(version("v20.20.2\n", "v"), Some((20, 20)));
        assert_eq!(version("devel +abc", "go"), None);
    }

    #[test]
    fn what_every_machine_has_is_found() {
        assert!(in_path("sh"));
        assert!(!in_path("no-such-program-anywhere"));
    }
}
