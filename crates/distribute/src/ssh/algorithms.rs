//! Which algorithms are asked for, for both transports.

/// Host key algorithms, best first. SHA-1 signatures (`ssh-rsa`) and DSA are not asked for at all.
const HOST_KEYS: &[(&str, &str)] = &[
    ("ssh-ed25519", "ssh-ed25519"),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"),
    ("ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384"),
    ("ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "ssh-rsa"),
    ("rsa-sha2-256", "ssh-rsa"),
];

/// Host key algorithms with those first whose key types `known_hosts` has for the node: else a node with several keys
/// would show one nobody wrote down.
pub(crate) fn host_keys(known: &[&str]) -> Vec<&'static str> {
    let is_known = |kind: &str| known.contains(&kind);
    let first = HOST_KEYS.iter().filter(|(_, kind)| is_known(kind));
    let rest = HOST_KEYS.iter().filter(|(_, kind)| !is_known(kind));
    first.chain(rest).map(|(algorithm, _)| *algorithm).collect()
}

/// Whether an algorithm of libssh2's own list rests on something broken. russh leaves such out by itself.
pub(crate) fn is_weak(name: &str) -> bool {
    ["sha1", "md5", "cbc", "arcfour", "3des", "ripemd", "none", "dss"]
        .iter()
        .any(|weak| name.contains(weak))
        || name == "ssh-rsa"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_comes_first_and_nothing_is_left_out() {
        let order = host_keys(&["ssh-rsa"]);
        assert_eq!(&order[..3], ["rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519"]);
        assert_eq!(order.len(), HOST_KEYS.len());
        assert_eq!(host_keys(&[])[0], "ssh-ed25519");
    }

    #[test]
    fn sha1_is_weak_and_sha2_is_not() {
        assert!(is_weak("diffie-hellman-group14-sha1") && is_weak("hmac-sha1") && is_weak("ssh-rsa"));
        assert!(
            !is_weak("rsa-sha2-256") && !is_weak("hmac-sha2-512") && !is_weak("kex-strict-c-v00@openssh.com")
        );
    }
}
