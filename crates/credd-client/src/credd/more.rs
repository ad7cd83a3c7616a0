//! Everything a user has at a credd, and what jobs would get (cedar.md 6.3, 6.6).

use cedar::{
    commands::{
        check_creds::{self, CREDD_CHECK_CREDS, Verdict},
        get_token::{self, Answer, CREDD_GET_TOKEN},
        store_cred::{self, All, CredName, Restriction, ResultCode, Target},
    },
    security::Authenticated,
};
use credential::BearerToken;
use jiff::Timestamp;

use super::{
    Credd,
    exchange::{Answered, Command},
};
use crate::{Error, Kind, Stage, deadline::Deadline};

/// One credential of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The service, and behind a `_` the handle. Services have a `_` in them, too: which part is the handle only those
    /// know who know the services.
    pub name: String,
    /// When it was stored, by the credd's clock; `None` for an access token that was stored as such.
    pub top: Option<Timestamp>,
    /// When an access token was last made of it.
    pub used: Option<Timestamp>,
}

/// A credential a job would want.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The service.
    pub service: String,
    /// The handle.
    pub handle: Option<String>,
    /// Its scopes and audience.
    pub restriction: Restriction,
}

impl Credd {
    /// All credentials the credd holds for `user`, by name.
    ///
    /// # Errors
    /// [`Error`]: identity, network, or the credd's refusal.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is changed.
    pub async fn list(&self, user: &str) -> Result<Vec<Entry>, Error> {
        let build = |proof: &Authenticated, target: &Target| store_cred::list(proof, target);
        let command = Command::new(user, &"everything", Stage::Commanding, &build).question();
        let deadline = Deadline::after(self.options.total);
        let Answered { reply, target } = self.exchange(&command, deadline).await?;
        match reply.code {
            ResultCode::NotFound => Ok(Vec::new()),
            ResultCode::Success | ResultCode::SuccessPending | ResultCode::SuccessAt(_) => reply
                .listing()
                .into_iter()
                .map(|listed| {
                    Ok(Entry {
                        name: listed.stem,
                        top: self.time(listed.top, Stage::Commanding)?,
                        used: self.time(listed.used, Stage::Commanding)?,
                    })
                })
                .collect(),
            code => Err(self.refused_whole(code, &target, "everything".to_owned(), Stage::Commanding)),
        }
    }

    /// Deletes all credentials of `user` at the credd, whoever stored them.
    ///
    /// # Errors
    /// [`Error`]; [`Kind::Refused`] with the credd's code.
    ///
    /// # Cancel safety
    /// Dropped in the middle, some may have been deleted.
    pub async fn delete_everything(&self, user: &str, all: All) -> Result<(), Error> {
        let build =
            |proof: &Authenticated, target: &Target| store_cred::delete_everything(proof, target, all);
        let command = Command::new(user, &"everything", Stage::Commanding, &build);
        self.carry_out_deletion(user, "everything".to_owned(), &command)
            .await
    }

    /// Whether the identity's own user has all that a job would want, as condor_submit asks it. A super user cannot
    /// ask this for others.
    ///
    /// # Errors
    /// [`Error`]: identity, network, names a credd would refuse.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is changed.
    pub async fn check(&self, wanted: &[Wanted]) -> Result<Verdict, Error> {
        let mut names = Vec::new();
        for one in wanted {
            names.push(check_creds::Wanted {
                name: self.name(&one.service, one.handle.as_deref())?,
                restriction: one.restriction.clone(),
            });
        }
        let build = |proof: &Authenticated, _: &Target| check_creds::request(proof, &names);
        let command = Command::new(&self.identity.user, &"a check", Stage::Commanding, &build)
            .limit(check_creds::MAX_REPLY);
        let deadline = Deadline::after(self.options.total);
        let heard = self.converse(CREDD_CHECK_CREDS, &command, deadline).await?;
        check_creds::decode(&heard.message).map_err(|error| self.failed(Stage::Commanding, error))
    }

    /// The access token that the credmon last made of a credential of the identity's own user: what a job would get. A
    /// super user cannot ask this for others. Credds know it from 24.1.1 on; older ones refuse the command as such
    /// ([`cedar::Error::NoPolicy`]).
    ///
    /// # Errors
    /// [`Error`]; [`Kind::NoToken`] with the credd's words if it has none.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is changed.
    pub async fn access_token(&self, service: &str, handle: Option<&str>) -> Result<BearerToken, Error> {
        let name: CredName = self.name(service, handle)?;
        let build = |proof: &Authenticated, _: &Target| get_token::request(proof, &name);
        let command =
            Command::new(&self.identity.user, &name, Stage::Commanding, &build).limit(get_token::MAX_REPLY);
        let deadline = Deadline::after(self.options.total);
        let heard = self.converse(CREDD_GET_TOKEN, &command, deadline).await?;
        match get_token::decode(&heard.message) {
            Ok(Answer::Token(token)) => Ok(token),
            Ok(Answer::Refused(why)) => {
                let name = name.stem();
                Err(self.failed(Stage::Commanding, Kind::NoToken { name, why }))
            }
            Err(error) => Err(self.failed(Stage::Commanding, error)),
        }
    }
}
