//! What is told of a client's acts, for whoever keeps an audit log: accessors and digests, never a token.

use crate::{Bearer, Client, Error, Login};
use credential::act::{Act, Verb, digest, tell};

impl Client {
    /// A login that failed is told as well: somebody tried to be `by`.
    pub(crate) fn tell_login(&self, by: &str, mount: &str, login: &Result<Login, Error>) {
        let act = Act::new(Verb::Login, &self.0.shown).by(by).what(mount);
        tell(&match login {
            Ok(login) => act
                .accessor(&login.accessor)
                .expires(Some(login.lifetime.until())),
            Err(error) => act.failed(error),
        });
    }

    pub(crate) fn tell_bearer(&self, path: &str, bearer: &Bearer) {
        // the digest is all that leaves here
        let digest = digest(bearer.token.expose().as_bytes());
        let act = Act::new(Verb::Bearer, &self.0.shown).what(path);
        tell(&act.digest(digest).expires(bearer.expires));
    }

    pub(crate) fn tell_done<T>(&self, act: Act<'_>, done: &Result<T, Error>) {
        tell(&match done {
            Ok(_) => act,
            Err(error) => act.failed(error),
        });
    }
}
