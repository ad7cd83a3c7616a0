//! slapd, from the bed's Debian root, with no database at all: the Kerberos method of the vault server binds
//! anonymously after every login and looks nothing up.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::layout::Layout;
use super::servers::Servers;
use super::until;
use crate::site::LDAP;

/// Starts slapd.
///
/// # Errors
/// It cannot be started.
pub fn start(layout: &Layout, servers: &mut Servers) -> Result<()> {
    fs::write(layout.in_root("/etc/ldap/bed.conf"), "pidfile /run/slapd.pid\n")
        .context("cannot write bed.conf")?;
    let mut command = layout.chroot("/usr/sbin/slapd");
    command.args(["-d", "0", "-f", "/etc/ldap/bed.conf", "-h"]);
    command.arg(format!("ldap://{}:{}", LDAP.address, LDAP.port));
    servers.start(LDAP.server, command)
}

/// Waits until slapd takes an anonymous bind.
///
/// # Errors
/// It has ended, or takes none within 20 s.
pub fn ready(layout: &Layout, servers: &Servers) -> Result<()> {
    until(layout, servers, LDAP.server, 20, bind)
}

/// An anonymous simple bind (RFC 4511, 4.2), message 1, LDAP version 3.
const BIND: [u8; 14] = [0x30, 12, 2, 1, 1, 0x60, 7, 2, 1, 3, 4, 0, 0x80, 0];

fn bind() -> Result<()> {
    let address = SocketAddr::from((LDAP.address, LDAP.port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(&BIND)?;
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).context("no answer to the bind")?;
    // a BindResponse to message 1 with the result code 0
    match answer {
        [0x30, _, 2, 1, 1, 0x61, _, 0x0a, 1, 0] => Ok(()),
        other => bail!("the bind is refused: {other:02x?}"),
    }
}
