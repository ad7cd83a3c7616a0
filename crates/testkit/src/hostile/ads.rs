//! What a well-behaved server says, as ads to be spoiled, and lines no `Ad` would encode.

use cedar::{
    classad::{Ad, Value},
    wire::{Mode, Outgoing},
};

use super::keys::Pair;

/// A version that makes keys without authentication and names the user in its answers.
pub const VERSION: &str = "$CondorVersion: 25.14.1 2026-08-01 $";

/// The policy of a server that authenticates with these methods, or not at all, and seals.
#[must_use]
pub fn policy(pair: &Pair, methods: &str) -> Ad {
    let mut ad = Ad::new();
    ad.set("Authentication", if methods.is_empty() { "NO" } else { "YES" });
    ad.set("Encryption", "YES");
    ad.set("Integrity", "YES");
    ad.set("AuthMethodsList", methods);
    ad.set("CryptoMethods", "AES");
    ad.set("CryptoMethodsList", "AES");
    ad.set("ECDHPublicKey", pair.public().as_str());
    ad.set("Enact", "YES");
    ad.set("SessionDuration", "60");
    ad.set("RemoteVersion", VERSION);
    ad
}

/// The policy of a server that neither authenticates nor seals.
#[must_use]
pub fn open_policy() -> Ad {
    let mut ad = Ad::new();
    for feature in ["Authentication", "Encryption", "Integrity"] {
        ad.set(feature, "NO");
    }
    ad.set("Enact", "YES");
    ad.set("RemoteVersion", VERSION);
    ad
}

/// The server's verdict.
#[must_use]
pub fn verdict(user: &str, code: &str) -> Ad {
    let mut ad = Ad::new();
    ad.set("Sid", "hostile:1:2:3");
    ad.set("User", user);
    ad.set("ReturnCode", code);
    ad.set("TriedAuthentication", Value::Boolean(true));
    ad
}

/// A schedd with a credd, as a collector shows it.
#[must_use]
pub fn schedd(name: &str) -> Ad {
    let mut ad = Ad::new();
    ad.set("Name", name);
    ad.set("Machine", name);
    ad.set("MyAddress", "<192.0.2.7:9618?sock=schedd>");
    ad.set("CredDIpAddr", "<192.0.2.7:9618?sock=credd>");
    ad.set("CondorVersion", VERSION);
    ad
}

/// An ad of these lines, whatever they hold.
#[must_use]
pub fn lines(mode: Mode, lines: &[&[u8]]) -> Vec<u8> {
    let mut message = Outgoing::new(mode).length(lines.len());
    for line in lines.iter().chain(&[&b""[..], b""]) {
        if mode == Mode::Sealed {
            message = message.length(line.len() + 1);
        }
        message = message.raw(line).raw(&[0]);
    }
    message.bytes().to_vec()
}

/// A collector's answer of these ads.
#[must_use]
pub fn answer(ads: &[Vec<u8>]) -> Vec<u8> {
    let message = ads
        .iter()
        .fold(Outgoing::new(Mode::Plain), |message, ad| message.int(1).raw(ad));
    message.int(0).bytes().to_vec()
}

/// An ad's bytes.
#[must_use]
pub fn encoded(mode: Mode, ad: &Ad) -> Vec<u8> {
    // names of ours only
    ad.encode(Outgoing::new(mode))
        .map(|message| message.bytes().to_vec())
        .unwrap_or_default()
}
