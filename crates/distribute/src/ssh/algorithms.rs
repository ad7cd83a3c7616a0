//! Which algorithms are asked for, for both transports.

use crate::known_hosts::pattern::glob;

/// Host key algorithms, best first, with the type of the key. SHA-1 signatures (`ssh-rsa`) and DSA are not asked for at all.
const HOST_KEYS: &[(&str, &str)] = &[
    ("ssh-ed25519", "ssh-ed25519"),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"),
    ("ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384"),
    ("ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "ssh-rsa"),
    ("rsa-sha2-256", "ssh-rsa"),
];

/// What the names of host certificates' algorithms end in.
pub(super) const CERTIFICATE: &str = "-cert-v01@openssh.com";

/// Host key algorithms with those first whose key types `known_hosts` has for the node: else a node with several keys
/// would show one nobody wrote down. Before all, where an authority speaks of it, certificates.
pub(super) fn host_keys(known: &[&str], authority: bool) -> Vec<String> {
    let is_known = |kind: &str| known.contains(&kind);
    let first = HOST_KEYS.iter().filter(|(_, kind)| is_known(kind));
    let rest = HOST_KEYS.iter().filter(|(_, kind)| !is_known(kind));
    let plain = first.chain(rest).map(|(algorithm, _)| (*algorithm).to_owned());
    let certified = HOST_KEYS
        .iter()
        .map(|(algorithm, _)| format!("{algorithm}{CERTIFICATE}"));
    certified.filter(|_| authority).chain(plain).collect()
}

/// Whether an algorithm of a library's own list rests on something broken.
pub(super) fn is_weak(name: &str) -> bool {
    [
        "sha1", "md5", "cbc", "arcfour", "3des", "ripemd", "none", "dss", "clear",
    ]
    .iter()
    .any(|weak| name.contains(weak))
        || name == "ssh-rsa"
}

/// What a site's list, as `ssh_config` writes it, makes of `usual`; `known` is all that the library has.
///
/// # Errors
/// The list, if nothing in it is known: an empty offer would be taken for the usual one.
pub(super) fn select(list: Option<&str>, usual: &[String], known: &[String]) -> Result<Vec<String>, String> {
    let Some(list) = list else {
        return Ok(usual.to_vec());
    };
    let (sign, names) = match list.strip_prefix(['+', '-', '^']) {
        Some(names) => (list.chars().next(), names),
        None => (None, list),
    };
    let named: Vec<&str> = names
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let is_named = |name: &String| named.iter().any(|pattern| glob(pattern, name));
    // In the order of the site's list, which is that of its preference.
    let known_named = || {
        let names = named.iter();
        names.flat_map(|pattern| known.iter().filter(move |name| glob(pattern, name)).cloned())
    };
    let mut chosen: Vec<String> = Vec::new();
    let all: Vec<String> = match sign {
        Some('+') => usual.iter().cloned().chain(known_named()).collect(),
        Some('-') => usual.iter().filter(|name| !is_named(name)).cloned().collect(),
        Some(_) => known_named().chain(usual.iter().cloned()).collect(),
        None => known_named().collect(),
    };
    for name in all {
        if !chosen.contains(&name) {
            chosen.push(name);
        }
    }
    if chosen.is_empty() {
        Err(list.to_owned())
    } else {
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_comes_first_and_nothing_is_left_out() {
        let order = host_keys(&["ssh-rsa"], false);
        assert_eq!(order[..3], ["rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519"]);
        assert_eq!(order.len(), HOST_KEYS.len());
        assert_eq!(host_keys(&[], false)[0], "ssh-ed25519");
        let with_authority = host_keys(&["ssh-rsa"], true);
        assert_eq!(with_authority[0], "ssh-ed25519-cert-v01@openssh.com");
        assert_eq!(with_authority[6], "rsa-sha2-512");
    }

    #[test]
    fn sha1_is_weak_and_sha2_is_not() {
        assert!(is_weak("diffie-hellman-group14-sha1") && is_weak("hmac-sha1") && is_weak("ssh-rsa"));
        assert!(
            !is_weak("rsa-sha2-256") && !is_weak("hmac-sha2-512") && !is_weak("kex-strict-c-v00@openssh.com")
        );
    }

    #[test]
    fn a_sites_list_says_what_is_used() {
        let list = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (usual, known) = (list("a-new b-new"), list("a-new b-new c-old d-old"));
        let chosen = |text: &str| select(Some(text), &usual, &known).map(|names| names.join(" "));
        assert_eq!(chosen("d-old,b-new,unheard-of").unwrap(), "d-old b-new");
        assert_eq!(chosen("+*-old").unwrap(), "a-new b-new c-old d-old");
        assert_eq!(chosen("-a*").unwrap(), "b-new");
        assert_eq!(chosen("^b-new,c-old").unwrap(), "b-new c-old a-new");
        assert_eq!(select(None, &usual, &known).unwrap(), usual);
        assert_eq!(chosen("unheard-of"), Err("unheard-of".to_owned()));
        assert_eq!(chosen("-*"), Err("-*".to_owned()));
    }
}
