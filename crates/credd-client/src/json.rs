//! The credential a vault credmon understands.

use credential::{LongToken, SecretBytes, VaultToken};

/// `{"vault_token":...,"vault_url":...}` and a newline, as HTCondor's own storer writes it. `url` is where the
/// credmon fetches bearer tokens.
#[must_use]
pub fn vault_credential(token: &LongToken, url: &str) -> SecretBytes {
    // the credd's wire is what a long token is for
    let token = token.expose();
    // an escaped character takes at most six bytes; growing would leave an unwiped copy behind
    let mut json = Vec::with_capacity(64 + 6 * (token.len() + url.len()));
    json.extend_from_slice(b"{\"vault_token\": \"");
    escape(&mut json, token);
    json.extend_from_slice(b"\", \"vault_url\": \"");
    escape(&mut json, url);
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
    fn one_object_and_a_newline() {
        let token = LongToken::new("hvs.invented\"\\".to_owned()).unwrap();
        let json = vault_credential(&token, "https://v:8200/v1/x\n");
        assert_eq!(
            std::str::from_utf8(json.expose()).unwrap(),
            "{\"vault_token\": \"hvs.invented\\\"\\\\\", \"vault_url\": \"https://v:8200/v1/x\\u000a\"}\n"
        );
    }
}
