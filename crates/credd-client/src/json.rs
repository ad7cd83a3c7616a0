//! The credential a vault credmon understands.

use cedar::commands::store_cred::Restriction;
use credential::{LongToken, SecretBytes, VaultToken};

/// `{"vault_token":...,"vault_url":...}` and a newline, as HTCondor's own storer writes it. `url` is where the
/// credmon fetches bearer tokens.
#[must_use]
pub fn vault_credential(token: &LongToken, url: &str) -> SecretBytes {
    json(Some(token), url, &Restriction::default())
}

/// The credential of a handle: `{"vault_url":...,"scopes":...,"audience":...}`, what is not restricted left out, as a credd
/// writes it down itself on such terms. Without a token the credmon takes that of the service; a handle with an underscore
/// needs its own, because the credmon would look for it under another name.
#[must_use]
pub fn handle_credential(token: Option<&LongToken>, url: &str, restriction: &Restriction) -> SecretBytes {
    json(token, url, restriction)
}

fn json(token: Option<&LongToken>, url: &str, restriction: &Restriction) -> SecretBytes {
    // the credd's wire is what a long token is for
    let token = token.map(|token| token.expose());
    let members: Vec<(&[u8], &str)> = [
        (b"vault_token".as_slice(), token),
        (b"vault_url", Some(url)),
        (b"scopes", restriction.scopes.as_deref()),
        (b"audience", restriction.audience.as_deref()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    // an escaped character takes at most six bytes; growing would leave an unwiped copy behind
    let length: usize = members.iter().map(|(_, value)| 24 + 6 * value.len()).sum();
    let mut json = Vec::with_capacity(64 + length);
    let mut between: &[u8] = b"{\"";
    for (name, value) in members {
        json.extend_from_slice(between);
        json.extend_from_slice(name);
        json.extend_from_slice(b"\": \"");
        escape(&mut json, value);
        between = b"\", \"";
    }
    json.extend_from_slice(b"\"}\n");
    SecretBytes::new(json)
}

fn escape(json: &mut Vec<u8>, text: &str) {
    for b in text.bytes() {
        match b {
            b'"' | b'\\' => json.extend_from_slice(&[b'\\', b]),
            0..0x20 => {
                let digit = |d: u8| b"0123456789abcdef".get(usize::from(d)).copied().unwrap_or(b'0');
                json.extend_from_slice(b"\\u00");
                json.extend_from_slice(&[digit(b >> 4), digit(b & 15)]);
            }
            _ => json.push(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handles_members() {
        let restriction = Restriction {
            scopes: Some("compute.read,storage.read:/dune".to_owned()),
            audience: None,
        };
        let json = handle_credential(None, "https://v:8200/v1/x", &restriction);
        assert_eq!(
            std::str::from_utf8(json.expose()).unwrap(),
            "{\"vault_url\": \"https://v:8200/v1/x\", \"scopes\": \"compute.read,storage.read:/dune\"}\n"
        );
    }

    #[test]
    fn one_object_and_a_newline() {
        let token = LongToken::new("hvs.invented\"\\".to_owned()).unwrap();
        let json = vault_credential(&token, "https://v:8200/v1/x\n");
        assert_eq!(
            std::str::from_utf8(json.expose()).unwrap(),
            "{\"vault_token\": \"hvs.invented\\\"\\\\\", \"vault_url\": \"https://v:8200/v1/x\\u000a\"}\n"
        );
    }
}
