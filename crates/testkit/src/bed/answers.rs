//! The recorded answers: what a vault server with the real secrets engine said, compared with what the bed says.

use std::fs;
use std::process::ExitStatus;

use anyhow::{Context, Result};

use super::host::Bed;

const SCRIPT: &str = include_str!("../../servers/oauthapp/answers.py");
const EXPECTED: &str = include_str!("../../servers/oauthapp/answers.expected");

/// Asks the bed's vault server all that was recorded and prints the differences; the status tells whether there were any.
///
/// It stops slapd, seals the server and turns the issuer's switches meanwhile, and undoes it: nothing else may use the bed.
///
/// # Errors
/// It cannot be run.
pub fn compare(bed: &Bed) -> Result<ExitStatus> {
    let dir = bed.layout().dir.join("answers");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let (script, expected) = (dir.join("answers.py"), dir.join("answers.expected"));
    fs::write(&script, SCRIPT)?;
    fs::write(&expected, EXPECTED)?;
    bed.command("python3")?
        .arg(script)
        .arg(&bed.layout().dir)
        .arg(&bed.layout().root)
        .arg(expected)
        .status()
        .context("cannot run the recorded answers")
}
