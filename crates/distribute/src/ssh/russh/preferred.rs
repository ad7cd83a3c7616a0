//! What russh is told to offer.

use std::{borrow::Cow, str::FromStr};

use russh::{Preferred, cipher, compression, kex, keys::Algorithm, mac};

use crate::{
    Algorithms,
    known_hosts::KnownHosts,
    ssh::algorithms::{self, CERTIFICATE},
};

/// # Errors
/// The site's list of which russh knows nothing.
pub(super) fn preferred(hosts: &KnownHosts, site: &Algorithms) -> Result<Preferred, String> {
    let usual = algorithms::host_keys(&hosts.kinds(), hosts.has_authority());
    let mut known = usual.clone();
    known.push("ssh-rsa".to_owned());
    let host_keys = algorithms::select(site.host_keys.as_deref(), &usual, &known)?;
    let parsed = |name: &str| Algorithm::from_str(name).ok();
    let certificates = host_keys
        .iter()
        .filter_map(|name| name.strip_suffix(CERTIFICATE))
        .filter_map(parsed);
    let plain = host_keys
        .iter()
        .filter(|name| !name.ends_with(CERTIFICATE))
        .filter_map(|name| parsed(name));
    let usual = &Preferred::DEFAULT;
    let mut kexes = named(
        site.kex.as_deref(),
        &usual.kex,
        kex::ALL_KEX_ALGORITHMS.iter().map(|name| (*name).as_ref()),
        |name| kex::Name::try_from(name).ok(),
    )?;
    // No algorithms but extensions of the protocol: a site's list does not mean them. The last closes the Terrapin hole.
    for extension in [
        kex::EXTENSION_SUPPORT_AS_CLIENT,
        kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    ] {
        if !kexes.contains(&extension) {
            kexes.push(extension);
        }
    }
    Ok(Preferred {
        kex: Cow::Owned(kexes),
        key: Cow::Owned(plain.collect()),
        host_key_certificates: Cow::Owned(certificates.collect()),
        cipher: Cow::Owned(named(
            site.ciphers.as_deref(),
            &usual.cipher,
            cipher::ALL_CIPHERS.iter().map(|name| (*name).as_ref()),
            |name| cipher::Name::try_from(name).ok(),
        )?),
        mac: Cow::Owned(named(
            site.macs.as_deref(),
            &usual.mac,
            mac::ALL_MAC_ALGORITHMS.iter().map(|name| (*name).as_ref()),
            |name| mac::Name::try_from(name).ok(),
        )?),
        // Tokens do not compress, and compressing secrets beside known text tells something about them.
        compression: Cow::Borrowed(&[compression::NONE]),
    })
}

fn named<'a, T: AsRef<str> + Clone>(
    site: Option<&str>,
    usual: &[T],
    known: impl Iterator<Item = &'a str>,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, String> {
    if site.is_none() {
        return Ok(usual.to_vec());
    }
    let usual: Vec<String> = usual.iter().map(|name| name.as_ref().to_owned()).collect();
    // Encryption is not to be had without.
    let known: Vec<String> = known
        .filter(|name| !["none", "clear"].contains(name))
        .map(str::to_owned)
        .collect();
    let chosen = algorithms::select(site, &usual, &known)?;
    Ok(chosen.iter().filter_map(|name| parse(name)).collect())
}
