//! Finds the credd of an access point, and stores a credential there with a robot's keytab.
//!
//! store COLLECTOR CREDD KEYTAB PRINCIPAL USER SERVICE < CREDENTIAL
//!
//! The credential comes by standard input: what is among the arguments everybody on the host can read.
//! `cargo xtask test --only examples` runs it against the test bed.
#![expect(clippy::print_stdout, reason = "an example's answer")]

use std::{io::Read, path::Path};

use credd_client::{Credd, Error, Identity, Options, Stored, locate};
use credential::SecretBytes;
use kerberos::{Gss, Keytab, Ticket};

type Failed = Box<dyn std::error::Error>;

/// The robot's ticket, in memory.
pub async fn ticket(gss: &Gss, keytab: &Path, principal: &str) -> Result<Ticket, Failed> {
    let keytab = Keytab::open(keytab, &principal.parse()?)?;
    Ok(gss.acquire(&keytab).await?)
}

/// Stores `json` for `user` as `service` in the credd called `name`.
pub async fn store(
    collector: &str,
    name: &str,
    identity: Identity,
    service: &str,
    json: &SecretBytes,
) -> Result<Stored, Error> {
    let options = Options::default();
    let user = identity.user.clone();
    let address = locate(&[collector.to_owned()], name, &options).await?;
    let credd = Credd::new(address, identity, options);
    let before = credd.query(&user, service, None).await?;
    let stored = credd.store(&user, service, None, json).await?;
    assert!(before.top.is_none_or(|time| time <= stored.top));
    Ok(stored)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [collector, credd, keytab, principal, user, service] = arguments.as_slice() else {
        return Err("store COLLECTOR CREDD KEYTAB PRINCIPAL USER SERVICE < CREDENTIAL".into());
    };
    let mut json = Vec::with_capacity(64 * 1024);
    std::io::stdin().take(64 * 1024).read_to_end(&mut json)?;
    let gss = Gss::new(1);
    let ticket = ticket(&gss, Path::new(keytab), principal).await?;
    let identity = Identity::kerberos(ticket, gss, user);
    let stored = store(collector, credd, identity, service, &SecretBytes::new(json)).await?;
    println!("stored at {}", stored.top);
    Ok(())
}
