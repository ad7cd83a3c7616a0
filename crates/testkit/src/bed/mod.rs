//! The test bed: one command's worth of real servers, in namespaces of their own.
//!
//! On the host, [`Bed`] brings a bed up, enters it and ends it. Inside, a process with the id 1 reaps
//! ([`inside`]), its child starts the servers and takes commands on a socket ([`control`]). When process 1
//! dies, the kernel kills all the rest, and with the last process go the mounts: nothing is ever cleaned up by us.

pub mod answers;
pub mod cache;
pub mod certs;
mod commands;
pub mod control;
pub mod ferry;
pub mod files;
pub mod hash;
mod host;
pub mod htvault;
pub mod inside;
pub mod issuer;
pub mod kdc;
pub mod layout;
pub mod ldap;
pub mod nodes;
pub mod parts;
pub mod pool;
pub mod pool_sid;
pub mod process;
pub mod root;
pub mod servers;
pub mod vault;
pub mod vault_cluster;

use std::ffi::OsString;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub use cache::Cache;
pub use control::Control;
pub use host::{Bed, Owner};
pub use layout::Layout;
pub use servers::Servers;

/// Runs a command to its end and returns what it wrote to standard output.
///
/// # Errors
/// It cannot be started, or fails; the text holds the end of what it wrote to standard error.
pub fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim_end();
        // the end tells why
        let start = said.char_indices().rev().nth(1500).map_or(0, |(at, _)| at);
        let end = said.get(start..).unwrap_or_default();
        bail!("`{program} {}`: {}\n{end}", words.join(" "), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Tries until `attempt` succeeds.
///
/// # Errors
/// The server has ended, or `attempt` has not succeeded after `seconds`: its last error, and where the log is.
pub fn until(
    layout: &Layout,
    servers: &Servers,
    server: &str,
    seconds: u64,
    attempt: impl Fn() -> Result<()>,
) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut pause = Duration::from_millis(10);
    loop {
        let Err(error) = attempt() else { return Ok(()) };
        servers.still_running(server)?;
        if Instant::now() > end {
            let log = layout.log(server);
            return Err(error).with_context(|| {
                format!(
                    "{server} does not answer after {seconds} s; its log: {}",
                    log.display()
                )
            });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// The path in which servers of the host (node, bao) look for programs.
fn path() -> OsString {
    std::env::var_os("PATH")
        .unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into())
}
