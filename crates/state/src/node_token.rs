//! Node tokens: one file each, named after a digest of the service it is of.

use credential::{NodeToken, SecretBytes, VaultToken};
use sha2::{Digest, Sha256};

use crate::{Error, ServiceKey, State, bearer_token, directory::Directory, hex, token_file};

const DIRECTORY: &str = "node-tokens";
const FORMAT: &str = "mtk node token 1";
/// A token has at most 64 KiB; the lines before it are short.
const LIMIT: usize = 72 * 1024;

impl State {
    /// The node token of a service, if there is one. Whether it is still good is the caller's question.
    ///
    /// # Errors
    /// [`Error::Untrusted`] if the file is not ours alone, [`Error::Unreadable`] if it is not what mtk writes or is of
    /// another service: then it is of no use, and [`State::remove_node_token`] is the remedy.
    pub fn node_token(&self, service: &ServiceKey) -> Result<Option<NodeToken>, Error> {
        let Some(directory) = self.directory.existing(DIRECTORY)? else {
            return Ok(None);
        };
        let name = file_name(service);
        match directory.read(&name, LIMIT)? {
            None => Ok(None),
            Some(content) => parse(service, &content)
                .map(Some)
                .map_err(|what| Error::Unreadable {
                    path: directory.path_of(&name),
                    what: what.into(),
                }),
        }
    }

    /// Keeps the node token of a service, in place of the one before. Do this before it is recorded: a token without
    /// its record is made anew, a record without its token is noticed.
    ///
    /// ```no_run
    /// # fn keep(state: &state::State, service: &state::ServiceKey, token: &credential::NodeToken) -> Result<(), state::Error> {
    /// state.save_node_token(service, token)
    /// # }
    /// ```
    ///
    /// A token that lives longer than 1 000 000 s is of another type and has no way here:
    ///
    /// ```compile_fail,E0308
    /// # fn keep(state: &state::State, service: &state::ServiceKey, token: &credential::LongToken) -> Result<(), state::Error> {
    /// state.save_node_token(service, token)
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error`]; the token before is still there then.
    pub fn save_node_token(&self, service: &ServiceKey, token: &NodeToken) -> Result<(), Error> {
        self.tokens()?.write(&file_name(service), &render(service, token))
    }

    /// Removes the file of a service's node token. That there is none is fine.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove_node_token(&self, service: &ServiceKey) -> Result<(), Error> {
        match self.directory.existing(DIRECTORY)? {
            Some(directory) => directory.remove(&file_name(service)),
            None => Ok(()),
        }
    }

    /// Removes what writers that were killed left half written: a token of which nobody knows. Hold the lock. Returns how
    /// many there were.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sweep(&self) -> Result<usize, Error> {
        // beside it lie files that others write to without our lock
        let mut swept = self.directory.sweep("digest-key")?;
        for tokens in [DIRECTORY, bearer_token::DIRECTORY] {
            if let Some(directory) = self.directory.existing(tokens)? {
                swept += directory.sweep("")?;
            }
        }
        Ok(swept)
    }

    fn tokens(&self) -> Result<Directory, Error> {
        self.directory.below(DIRECTORY)
    }
}

/// Two services never share a name, whatever characters they are made of.
fn file_name(service: &ServiceKey) -> String {
    let mut hash = Sha256::new();
    hash.update(b"mtk node token file 1\0");
    for part in [
        &service.experiment,
        &service.role,
        &service.account,
        &service.principal,
    ] {
        hash.update(part.len().to_be_bytes());
        hash.update(part.as_bytes());
    }
    format!("{}.token", hex(&hash.finalize()))
}

/// The service is written into its file too, so that a file under a wrong name is not taken for another account's.
fn owner(service: &ServiceKey) -> String {
    crate::EdgeId::Login {
        service: service.clone(),
    }
    .to_string()
}

fn render(service: &ServiceKey, token: &NodeToken) -> SecretBytes {
    // the one file a Vault token may become: its life is within the limit for files by its type
    token_file::render(FORMAT, &owner(service), token.lifetime(), token.expose())
}

fn parse(service: &ServiceKey, content: &SecretBytes) -> Result<NodeToken, &'static str> {
    let (lifetime, token) = token_file::parse(FORMAT, &owner(service), content)?;
    NodeToken::new(token.to_owned(), lifetime).map_err(|_| "its token is not one")
}

#[cfg(test)]
mod tests {
    use credential::Lifetime;
    use jiff::Timestamp;

    use super::*;
    use crate::records::of_account as service;

    fn token(text: &str) -> NodeToken {
        let at = |s| Timestamp::from_second(s).unwrap();
        NodeToken::new(text.into(), Lifetime::between(at(1000), at(605_800))).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let read = parse(&service("a"), &render(&service("a"), &token("hvs.x"))).unwrap();
        assert_eq!(read.expose(), "hvs.x");
        assert_eq!(read.lifetime(), token("x").lifetime());
    }

    #[test]
    fn anything_else_is_refused() {
        let good = render(&service("a"), &token("hvs.x"));
        let good = std::str::from_utf8(good.expose()).unwrap();
        let read = |text: &str| parse(&service("a"), &SecretBytes::from(text.to_owned()));
        assert!(read(good).is_ok());
        for length in 0..good.len() {
            assert!(read(&good[..length]).is_err(), "cut at {length}");
        }
        assert!(read(&format!("{good}x")).is_err());
        assert!(parse(&service("b"), &SecretBytes::from(good.to_owned())).is_err());
        assert!(
            read(&good.replace("1970-01-08", "1999-01-08")).is_err(),
            "lives too long for a file"
        );
        assert!(parse(&service("a"), &SecretBytes::new(vec![0xff; 10])).is_err());
    }

    #[tokio::test]
    async fn what_a_killed_writer_left_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(&dir.path().join("mtk")).await.unwrap();
        state.save_node_token(&service("a"), &token("hvs.x")).unwrap();
        let half = state.dir().join(DIRECTORY).join("00.token.new");
        std::fs::write(&half, "hvs.y").unwrap();
        std::fs::write(state.dir().join("digest-key.new"), "k").unwrap();
        assert_eq!(state.sweep().unwrap(), 2);
        assert!(!half.exists() && state.node_token(&service("a")).unwrap().is_some());
    }

    #[test]
    fn services_never_share_a_file() {
        let mut other = service("a");
        (other.experiment, other.role) = ("dunep".into(), "roduction".into());
        assert_ne!(file_name(&service("a")), file_name(&other));
        assert_ne!(file_name(&service("a")), file_name(&service("b")));
    }
}
