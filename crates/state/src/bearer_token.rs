//! Bearer tokens of outputs, kept so that a run with nothing due asks Vault for nothing: one file each, named after a
//! digest of the service and of what the token may do.

use credential::{BearerToken, Lifetime, SecretBytes};
use sha2::{Digest, Sha256};

use crate::{EdgeId, Error, ServiceKey, State, hex, token_file};

pub(crate) const DIRECTORY: &str = "bearer-tokens";
const FORMAT: &str = "mtk bearer token 1";
const LIMIT: usize = 72 * 1024;

/// A bearer token and from when to when it is good.
#[derive(Debug, Clone)]
pub struct KeptBearer {
    /// The token.
    pub token: BearerToken,
    /// When it was fetched, and when it ends.
    pub lifetime: Lifetime,
}

impl State {
    /// The bearer token of a service that may do `what` (any text that tells its tokens apart), if one is kept. Whether
    /// it is still good is the caller's question.
    ///
    /// # Errors
    /// [`Error::Untrusted`] if the file is not ours alone, [`Error::Unreadable`] if it is not what mtk writes.
    pub fn bearer_token(&self, service: &ServiceKey, what: &str) -> Result<Option<KeptBearer>, Error> {
        let Some(directory) = self.directory.existing(DIRECTORY)? else {
            return Ok(None);
        };
        let name = file_name(service, what);
        match directory.read(&name, LIMIT)? {
            None => Ok(None),
            Some(content) => {
                parse(&owner(service, what), &content)
                    .map(Some)
                    .map_err(|what| Error::Unreadable {
                        path: directory.path_of(&name),
                        what: what.into(),
                    })
            }
        }
    }

    /// Keeps a bearer token in place of the one before.
    ///
    /// # Errors
    /// [`Error`]; the token before is still there then.
    pub fn save_bearer_token(
        &self,
        service: &ServiceKey,
        what: &str,
        kept: &KeptBearer,
    ) -> Result<(), Error> {
        let content = render(&owner(service, what), kept);
        self.directory
            .below(DIRECTORY)?
            .write(&file_name(service, what), &content)
    }

    /// Removes it. That there is none is fine.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove_bearer_token(&self, service: &ServiceKey, what: &str) -> Result<(), Error> {
        match self.directory.existing(DIRECTORY)? {
            Some(directory) => directory.remove(&file_name(service, what)),
            None => Ok(()),
        }
    }
}

/// Written into the file as well, so that one under a wrong name is not taken for another account's.
fn owner(service: &ServiceKey, what: &str) -> String {
    EdgeId::Bearer {
        service: service.clone(),
        output: what.split_whitespace().collect::<Vec<_>>().join(" "),
    }
    .to_string()
}

fn file_name(service: &ServiceKey, what: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"mtk bearer token file 1\0");
    hash.update(owner(service, what).as_bytes());
    format!("{}.token", hex(&hash.finalize()))
}

fn render(owner: &str, kept: &KeptBearer) -> SecretBytes {
    // hours of life, in a file of our own that nobody else can read
    token_file::render(FORMAT, owner, kept.lifetime, kept.token.expose())
}

fn parse(owner: &str, content: &SecretBytes) -> Result<KeptBearer, &'static str> {
    let (lifetime, token) = token_file::parse(FORMAT, owner, content)?;
    let token = BearerToken::new(token.to_owned()).map_err(|_| "its token is not one")?;
    Ok(KeptBearer { token, lifetime })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::records::of_account as service;

    fn kept() -> KeptBearer {
        let at = |s| Timestamp::from_second(s).unwrap();
        KeptBearer {
            token: BearerToken::new("e30.e30.x".into()).unwrap(),
            lifetime: Lifetime::between(at(1000), at(11_800)),
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_nothing_else() {
        let owner = owner(&service("a"), "scopes=x\naudiences=");
        let good = render(&owner, &kept());
        let read = parse(&owner, &good).unwrap();
        assert_eq!(
            (read.token.expose(), read.lifetime),
            ("e30.e30.x", kept().lifetime)
        );
        let text = std::str::from_utf8(good.expose()).unwrap();
        for length in 0..text.len() {
            assert!(
                parse(&owner, &SecretBytes::from(text[..length].to_owned())).is_err(),
                "cut at {length}"
            );
        }
        assert!(parse(&super::owner(&service("b"), ""), &good).is_err());
    }

    #[test]
    fn tokens_of_different_use_never_share_a_file() {
        let a = service("a");
        assert_ne!(file_name(&a, "scopes=x"), file_name(&a, "scopes=y"));
        assert_ne!(file_name(&a, ""), file_name(&service("b"), ""));
    }
}
