//! What Vault gives, and the way there from an envelope: no network, so that every odd answer is a test.

use credential::{BearerToken, Invalid, Lifetime, LongToken, NodeToken, Principal, VaultToken};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::{
    Doing, Error,
    answer::{Auth, Data, Envelope, clean},
};

/// What a login gave.
#[derive(Debug, Clone)]
pub struct Login {
    /// The token at the root of a tree.
    pub token: LongToken,
    /// Names the token to an operator without being it.
    pub accessor: String,
    /// From the moment the login was begun, for what was granted.
    pub lifetime: Lifetime,
    /// What the server had to remark.
    pub warnings: Vec<String>,
}

impl Login {
    /// The token as one that may lie in a file, because that is all the life it was granted: some servers give logins no
    /// more than that.
    ///
    /// # Errors
    /// [`Invalid::TooLongLived`].
    pub fn short(&self) -> Result<NodeToken, Invalid> {
        NodeToken::new(self.token.expose().to_owned(), self.lifetime)
    }
}

/// What an exchange gave.
#[derive(Debug, Clone)]
pub struct Child {
    /// A token that may become a file. Its lifetime is already cut to its parent's.
    pub token: NodeToken,
    /// Names the token to an operator without being it.
    pub accessor: String,
    /// What the server had to remark, for instance that it cut the life.
    pub warnings: Vec<String>,
}

/// A bearer token and when it ends, if anybody says so.
#[derive(Debug, Clone)]
pub struct Bearer {
    /// The token.
    pub token: BearerToken,
    /// The earlier of what the server says and what the token itself says.
    pub expires: Option<Timestamp>,
    /// What the server had to remark, for instance that refreshing failed and the token will be the last.
    pub warnings: Vec<String>,
}

/// What a token says of itself (vault.md 3.5). Its metadata, which may hold a refresh token, is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// Life left by the server's clock. For a child this may be more than it has: it dies with its parent.
    pub ttl: SignedDuration,
    /// The life it was granted.
    pub creation_ttl: SignedDuration,
    /// Where it was made.
    pub path: String,
    /// Whether it is the root of a tree.
    pub orphan: bool,
    /// What it may do.
    pub policies: Vec<String>,
    /// Names the token to an operator without being it.
    pub accessor: String,
}

/// Whose answer it is, and to what.
#[derive(Clone, Copy)]
pub(crate) struct Of<'a> {
    pub(crate) server: &'a str,
    pub(crate) doing: Doing,
}

impl Of<'_> {
    pub(crate) fn bad(&self, what: impl ToString) -> Error {
        Error::BadAnswer {
            server: self.server.to_owned(),
            doing: self.doing,
            what: what.to_string(),
        }
    }

    fn auth(&self, envelope: &mut Envelope) -> Result<Auth, Error> {
        envelope.auth.take().ok_or_else(|| self.bad("it has no auth"))
    }

    fn data(&self, envelope: &mut Envelope) -> Result<Data, Error> {
        envelope.data.take().ok_or_else(|| self.bad("it has no data"))
    }

    /// The life of a token, which must be one.
    fn granted(&self, auth: &Auth) -> Result<i64, Error> {
        if auth.lease_duration > 0 {
            Ok(auth.lease_duration)
        } else {
            Err(self.bad("the token has no life"))
        }
    }
}

/// A login counts only as the principal whose ticket it was (vault.md 2.4).
pub(crate) fn login(
    of: Of<'_>,
    mut envelope: Envelope,
    warnings: Vec<String>,
    mount: &str,
    expected: &Principal,
    now: Timestamp,
) -> Result<Login, Error> {
    let auth = of.auth(&mut envelope)?;
    if auth.client_token.is_empty() && auth.mfa_requirement.is_some() {
        return Err(Error::MfaRequired {
            server: of.server.to_owned(),
            mount: mount.to_owned(),
        });
    }
    let part = |key| {
        auth.metadata
            .as_ref()
            .and_then(|m| m.get(key))
            .map(String::as_str)
            .unwrap_or_default()
    };
    let (user, domain) = (part("user"), part("domain"));
    if (user, domain) != (expected.name(), expected.realm()) {
        return Err(Error::WrongIdentity {
            server: of.server.to_owned(),
            expected: expected.to_string(),
            got: clean(&format!("{user}@{domain}"), &[]),
        });
    }
    rooted(of, auth, warnings, now)
}

/// A token that says nothing of whose it is.
pub(crate) fn token(
    of: Of<'_>,
    mut envelope: Envelope,
    warnings: Vec<String>,
    now: Timestamp,
) -> Result<Login, Error> {
    let auth = of.auth(&mut envelope)?;
    rooted(of, auth, warnings, now)
}

fn rooted(of: Of<'_>, auth: Auth, warnings: Vec<String>, now: Timestamp) -> Result<Login, Error> {
    let lifetime = Lifetime::new(now, SignedDuration::from_secs(of.granted(&auth)?));
    let token = LongToken::new(taken(auth.client_token)).map_err(|e| of.bad(e))?;
    Ok(Login {
        token,
        accessor: auth.accessor,
        lifetime,
        warnings,
    })
}

/// `asked` is the life asked for, in seconds: nothing longer may come of it (vault.md 3.4).
pub(crate) fn child(
    of: Of<'_>,
    mut envelope: Envelope,
    warnings: Vec<String>,
    asked: i64,
    parent: Lifetime,
    now: Timestamp,
) -> Result<Child, Error> {
    let auth = of.auth(&mut envelope)?;
    // by what was granted, not by what of it the parent leaves: the server counts so too
    let granted = of.granted(&auth)?;
    if granted > asked {
        return Err(Error::TooLongLived {
            server: of.server.to_owned(),
            seconds: granted,
            asked,
        });
    }
    let lifetime = Lifetime::new(now, SignedDuration::from_secs(granted)).within(parent);
    let token = NodeToken::new(taken(auth.client_token), lifetime).map_err(|e| of.bad(e))?;
    Ok(Child {
        token,
        accessor: auth.accessor,
        warnings,
    })
}

pub(crate) fn bearer(of: Of<'_>, mut envelope: Envelope, warnings: Vec<String>) -> Result<Bearer, Error> {
    let data = of.data(&mut envelope)?;
    let text = data
        .access_token
        .ok_or_else(|| of.bad("it has no access_token"))?;
    let token = BearerToken::new(taken(text)).map_err(|e| of.bad(e))?;
    let said = match data.expire_time.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => Some(
            text.parse::<Timestamp>()
                .map_err(|_| of.bad("its expire_time is no time"))?,
        ),
        None => None,
    };
    // not every issuer's access token is a JWT
    let own = token.claims().ok().and_then(|claims| claims.expires());
    let expires = match (said, own) {
        (Some(said), Some(own)) => Some(said.min(own)),
        (said, own) => said.or(own),
    };
    Ok(Bearer {
        token,
        expires,
        warnings,
    })
}

pub(crate) fn lookup(of: Of<'_>, mut envelope: Envelope) -> Result<Lookup, Error> {
    let data = of.data(&mut envelope)?;
    let ttl = data.ttl.ok_or_else(|| of.bad("it has no ttl"))?;
    Ok(Lookup {
        ttl: SignedDuration::from_secs(ttl),
        creation_ttl: SignedDuration::from_secs(data.creation_ttl),
        path: data.path,
        orphan: data.orphan,
        policies: data.policies,
        accessor: data.accessor,
    })
}

/// What an SSH agent is to sign.
pub(crate) fn nonce(of: Of<'_>, mut envelope: Envelope) -> Result<SecretString, Error> {
    let mut data = of.data(&mut envelope)?;
    let nonce = data.nonce.take().filter(|nonce| !nonce.is_empty());
    let nonce = nonce.ok_or_else(|| of.bad("it has no nonce"))?;
    Ok(taken(nonce).into())
}

/// Moves a token out of its wiping wrapper into a type that wipes it as well.
fn taken(mut text: Zeroizing<String>) -> String {
    std::mem::take(&mut *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: Of<'static> = Of {
        server: "vault.test:8200",
        doing: Doing::Login,
    };
    const CHILD: Of<'static> = Of {
        server: "vault.test:8200",
        doing: Doing::Child,
    };
    const BEARER: Of<'static> = Of {
        server: "vault.test:8200",
        doing: Doing::Bearer,
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn parse(body: &str) -> Envelope {
        Envelope::parse(body.as_bytes()).unwrap()
    }

    /// As an OpenBao 2.6.2 answered, with another token.
    const LOGIN_ANSWER: &str = r#"{"request_id":"d2cf","lease_id":"","renewable":false,"lease_duration":0,"data":null,
        "wrap_info":null,"warnings":null,"auth":{"client_token":"s.AAAABBBBCCCCDDDDEEEEFFFF","accessor":"vjgb3FH0",
        "policies":["kerberos-dune_production","tokenops"],"token_policies":["kerberos-dune_production","tokenops"],
        "metadata":{"domain":"MTK.TEST","user":"dunepro/managedtokens/mtk.test"},"lease_duration":2419200,
        "renewable":false,"entity_id":"3a","token_type":"service","orphan":true,"mfa_requirement":null,"num_uses":0}}"#;

    fn log_in(body: &str) -> Result<Login, Error> {
        let robot = "dunepro/managedtokens/mtk.test@MTK.TEST".parse().unwrap();
        login(
            LOGIN,
            parse(body),
            vec![],
            "kerberos-dune_production",
            &robot,
            at(1000),
        )
    }

    #[test]
    fn a_login() {
        let login = log_in(LOGIN_ANSWER).unwrap();
        assert_eq!(login.token.expose(), "s.AAAABBBBCCCCDDDDEEEEFFFF");
        assert_eq!(login.lifetime.until(), at(1000 + 2_419_200));
        assert!(!format!("{login:?}").contains("AAAABBBB"));
    }

    #[test]
    fn only_a_login_of_a_short_life_may_lie_in_a_file() {
        let long = log_in(LOGIN_ANSWER).unwrap();
        let seconds = 2_419_200;
        assert_eq!(long.short().unwrap_err(), Invalid::TooLongLived { seconds });
        let short = log_in(&LOGIN_ANSWER.replace("2419200", "3600")).unwrap();
        let token = short.short().unwrap();
        assert_eq!(token.expose(), short.token.expose());
        assert_eq!(token.lifetime().until(), at(1000 + 3600));
    }

    #[test]
    fn a_login_as_somebody_else_is_none() {
        for (from, to) in [
            ("dunepro/", "novapro/"),
            ("MTK.TEST", "OTHER.TEST"),
            ("\"metadata\"", "\"nodata\""),
        ] {
            let error = log_in(&LOGIN_ANSWER.replace(from, to)).unwrap_err();
            assert!(matches!(error, Error::WrongIdentity { .. }), "{error:?}");
        }
    }

    #[test]
    fn a_login_without_a_usable_token_is_none() {
        let no_auth = log_in(r#"{"auth":null,"errors":[]}"#).unwrap_err();
        assert!(matches!(
            no_auth,
            Error::BadAnswer {
                doing: Doing::Login,
                ..
            }
        ));
        let empty = LOGIN_ANSWER.replace("s.AAAABBBBCCCCDDDDEEEEFFFF", "");
        assert!(matches!(log_in(&empty).unwrap_err(), Error::BadAnswer { .. }));
        let mfa = empty.replace(
            "\"mfa_requirement\":null",
            "\"mfa_requirement\":{\"mfa_request_id\":\"x\"}",
        );
        assert!(matches!(log_in(&mfa).unwrap_err(), Error::MfaRequired { .. }));
        assert!(matches!(
            log_in(&LOGIN_ANSWER.replace("2419200", "0")).unwrap_err(),
            Error::BadAnswer { .. }
        ));
        let split = log_in(&LOGIN_ANSWER.replace("s.AAAA", "s.AAAA\\r\\nX: ")).unwrap_err();
        assert!(!split.to_string().contains("AAAA"), "{split}");
    }

    #[test]
    fn a_child_lives_no_longer_than_its_parent_or_than_asked() {
        let body =
            r#"{"auth":{"client_token":"s.x","accessor":"a","lease_duration":604800,"metadata":null}}"#;
        let of = |asked, parent| child(CHILD, parse(body), vec![], asked, parent, at(1000));
        let parent = Lifetime::between(at(0), at(5000));
        assert_eq!(of(604_800, parent).unwrap().token.lifetime().until(), at(5000));
        let error = of(3600, parent).unwrap_err();
        assert!(matches!(
            error,
            Error::TooLongLived {
                seconds: 604_800,
                asked: 3600,
                ..
            }
        ));
    }

    #[test]
    fn a_bearer_token_ends_at_the_earlier_of_two_times() {
        let of = |data: &str| bearer(BEARER, parse(&format!(r#"{{"data":{data}}}"#)), vec![]);
        // {"exp":2000}
        let jwt = "e30.eyJleHAiOjIwMDB9.x";
        let told = of(&format!(
            r#"{{"access_token":"{jwt}","expire_time":"1970-01-01T00:20:00Z"}}"#
        ))
        .unwrap();
        assert_eq!(told.expires, Some(at(1200)));
        assert_eq!(
            of(&format!(r#"{{"access_token":"{jwt}"}}"#)).unwrap().expires,
            Some(at(2000))
        );
        assert_eq!(of(r#"{"access_token":"opaque"}"#).unwrap().expires, None);
        for data in [
            "{}",
            "null",
            r#"{"access_token":""}"#,
            r#"{"access_token":"x","expire_time":"soon"}"#,
        ] {
            assert!(matches!(of(data), Err(Error::BadAnswer { .. })), "{data}");
        }
    }
}
