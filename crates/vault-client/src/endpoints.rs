//! Requests: vaultrs's for what every Vault has, our own for what htvault-config adds.

use http::{HeaderValue, Request, Response, Uri, header, uri::PathAndQuery};
use rustify::{
    endpoint::{Endpoint, MiddleWare},
    errors::ClientError,
};
use rustify_derive::Endpoint;

use crate::Error;

/// Where a robot's refresh token lies: `secret/oauth/creds/<issuer>/<credkey>:<role>` (vault.md 1.5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretPath {
    issuer: String,
    path: String,
}

impl SecretPath {
    /// Checks that the three can stand in a path as they are.
    ///
    /// # Errors
    /// [`Error::BadName`].
    pub fn new(issuer: &str, credkey: &str, role: &str) -> Result<Self, Error> {
        for name in [issuer, role] {
            check_name(name)?;
        }
        let bad = |why| Error::BadName {
            text: credkey.chars().take(200).collect(),
            why,
        };
        if credkey.len() > 1024 {
            return Err(bad("it is longer than 1024 characters"));
        }
        if credkey
            .split('/')
            .any(|part| part.is_empty() || part == "." || part == "..")
        {
            return Err(bad("it has an empty part, or one that is a dot or two"));
        }
        // '*' and '+' are wildcards to the server's policies; the rest would need escaping, where servers differ
        if !credkey
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/@._-=,~".contains(&b))
        {
            return Err(bad("only letters, digits and / @ . _ - = , ~ are possible"));
        }
        Ok(Self {
            issuer: issuer.to_owned(),
            path: format!("secret/oauth/creds/{issuer}/{credkey}:{role}"),
        })
    }

    /// The same secret at another path, which is checked already.
    pub(crate) fn at(self, path: String) -> Self {
        Self { path, ..self }
    }

    /// The issuer, as Vault calls it.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The path below `/v1/`.
    #[must_use]
    pub fn path(&self) -> String {
        self.path.clone()
    }

    /// The path below `/v1/` where tokens with less are read.
    #[must_use]
    pub fn sts_path(&self) -> String {
        self.path.replacen("/creds/", "/sts/", 1)
    }
}

/// To what a bearer token is cut down: fewer scopes, other audiences, or both (vault.md 4.2).
///
/// The order is kept as given: Vault caches what it exchanged under the exact words, so that the same set in another
/// order would be another exchange.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Restriction {
    scopes: Vec<String>,
    audiences: Vec<String>,
}

impl Restriction {
    /// At least one scope or one audience.
    ///
    /// # Errors
    /// [`Error::BadName`] if there is neither, or one of them is empty or holds a comma, a blank or a control
    /// character: the server would take it for several, or for another.
    pub fn new<S: AsRef<str>>(scopes: &[S], audiences: &[S]) -> Result<Self, Error> {
        let bad = |text: &str, why| Error::BadName {
            text: text.chars().take(200).collect(),
            why,
        };
        if scopes.is_empty() && audiences.is_empty() {
            return Err(bad("", "neither a scope nor an audience is given"));
        }
        let checked = |all: &[S]| {
            if all.len() > MAX_WORDS {
                return Err(bad("", "there are more than 200 scopes or audiences"));
            }
            all.iter()
                .map(AsRef::as_ref)
                .map(|text| {
                    let fine = !text.is_empty()
                        && text.len() <= 1024
                        && text.bytes().all(|b| b.is_ascii_graphic() && b != b',');
                    if fine {
                        Ok(text.to_owned())
                    } else {
                        Err(bad(
                            text,
                            "a scope or audience has 1 to 1024 visible characters and no comma",
                        ))
                    }
                })
                .collect()
        };
        Ok(Self {
            scopes: checked(scopes)?,
            audiences: checked(audiences)?,
        })
    }
}

const MAX_WORDS: usize = 200;

/// htvault-config's names of issuers and roles (vault.md 1.2), with the dot HTCondor allows beside them.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let bad = |why| {
        Err(Error::BadName {
            text: name.chars().take(200).collect(),
            why,
        })
    };
    if name.is_empty() || name.len() > 256 {
        return bad("it is empty or longer than 256 characters");
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        || name.starts_with('.')
    {
        return bad("only letters, digits, _, - and . are possible in an issuer or role");
    }
    Ok(())
}

/// Kerberos login (vault.md 2.3): all it says is in the Authorization header.
#[derive(Debug, Endpoint)]
#[endpoint(path = "auth/{self.mount}/login", method = "POST")]
pub(crate) struct KerberosLogin {
    #[endpoint(skip)]
    pub(crate) mount: String,
}

/// Reading a bearer token (vault.md 4.1).
#[derive(Debug, Endpoint)]
#[endpoint(path = "{self.path}", method = "GET")]
pub(crate) struct ReadCreds {
    #[endpoint(skip)]
    pub(crate) path: String,
    /// Least remaining life of the token.
    #[endpoint(query)]
    pub(crate) minimum_seconds: u32,
}

/// Reading a bearer token with less in it (vault.md 4.1).
#[derive(Debug, Endpoint)]
#[endpoint(path = "{self.path}", method = "GET")]
pub(crate) struct ReadSts {
    #[endpoint(skip)]
    pub(crate) path: String,
    #[endpoint(query)]
    pub(crate) minimum_seconds: u32,
    /// Comma-separated, as the plugin splits them.
    #[endpoint(query)]
    pub(crate) scopes: Option<String>,
    #[endpoint(query)]
    pub(crate) audiences: Option<String>,
}

impl ReadSts {
    pub(crate) fn new(path: &SecretPath, restriction: &Restriction, minimum_seconds: u32) -> Self {
        let joined = |all: &[String]| (!all.is_empty()).then(|| all.join(","));
        Self {
            path: path.sts_path(),
            minimum_seconds,
            scopes: joined(&restriction.scopes),
            audiences: joined(&restriction.audiences),
        }
    }
}

/// Deleting a refresh token (vault.md 4.7).
#[derive(Debug, Endpoint)]
#[endpoint(path = "{self.path}", method = "DELETE")]
pub(crate) struct DeleteCreds {
    #[endpoint(skip)]
    pub(crate) path: String,
}

/// Puts every request below `/v1/` and adds who asks.
pub(crate) struct Dress {
    pub(crate) name: header::HeaderName,
    /// Marked sensitive: HTTP/2 does not index it and nobody's Debug shows it.
    pub(crate) value: HeaderValue,
}

impl MiddleWare for Dress {
    fn request<E: Endpoint>(&self, _endpoint: &E, request: &mut Request<Vec<u8>>) -> Result<(), ClientError> {
        let mut parts = request.uri().clone().into_parts();
        let old = parts.path_and_query.as_ref().map_or("/", PathAndQuery::as_str);
        let new = format!("/v1/{}", old.trim_start_matches('/'));
        let generic = |source: http::Error| ClientError::GenericError {
            source: source.into(),
        };
        parts.path_and_query = Some(
            new.parse()
                .map_err(|e: http::uri::InvalidUri| generic(e.into()))?,
        );
        *request.uri_mut() = Uri::from_parts(parts).map_err(|e| generic(e.into()))?;
        // as htgettoken sends it; a login's body is empty, the others are JSON
        let kind = if request.body().is_empty() {
            "application/x-www-form-urlencoded"
        } else {
            "application/json"
        };
        if request.method() != http::Method::GET {
            request
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        request
            .headers_mut()
            .insert(self.name.clone(), self.value.clone());
        Ok(())
    }

    fn response<E: Endpoint>(
        &self,
        _endpoint: &E,
        _response: &mut Response<Vec<u8>>,
    ) -> Result<(), ClientError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use vaultrs::api::token::requests::CreateTokenRequest;

    use super::*;

    fn dressed(endpoint: impl Endpoint) -> Request<Vec<u8>> {
        let mut value = HeaderValue::from_static("s.secret");
        value.set_sensitive(true);
        let dress = Dress {
            name: header::HeaderName::from_static("x-vault-token"),
            value,
        };
        endpoint
            .with_middleware(&dress)
            .request("https://vault.test:8200")
            .unwrap()
    }

    #[test]
    fn requests_are_those_of_the_specification() {
        let path = SecretPath::new("dune", "dunepro/managedtokens/mtk.test", "production")
            .unwrap()
            .path();
        let request = dressed(ReadCreds {
            path,
            minimum_seconds: 60,
        });
        assert_eq!(
            request.uri(),
            "https://vault.test:8200/v1/secret/oauth/creds/dune/dunepro/managedtokens/mtk.test:production?minimum_seconds=60"
        );
        assert_eq!(request.method(), "GET");
        assert!(!format!("{request:?}").contains("s.secret"));

        let request = dressed(KerberosLogin {
            mount: "kerberos-dune_production".into(),
        });
        assert_eq!(
            request.uri(),
            "https://vault.test:8200/v1/auth/kerberos-dune_production/login"
        );
        assert_eq!((request.method().as_str(), request.body().len()), ("POST", 0));

        let child = CreateTokenRequest {
            ttl: Some("604800s".into()),
            renewable: Some(false),
            ..Default::default()
        };
        let request = dressed(child);
        assert_eq!(request.uri(), "https://vault.test:8200/v1/auth/token/create");
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body["ttl"], "604800s");
    }

    #[test]
    fn less_is_asked_for_in_the_order_given() {
        let path = SecretPath::new("dune", "alice", "default").unwrap();
        let uri = |scopes: &[&str], audiences: &[&str]| {
            let restriction = Restriction::new(scopes, audiences).unwrap();
            dressed(ReadSts::new(&path, &restriction, 60)).uri().to_string()
        };
        let base = "https://vault.test:8200/v1/secret/oauth/sts/dune/alice:default?minimum_seconds=60";
        assert_eq!(
            uri(
                &["storage.read:/dune", "compute.create"],
                &["https://b", "https://a"]
            ),
            format!(
                "{base}&scopes=storage.read%3A%2Fdune%2Ccompute.create&audiences=https%3A%2F%2Fb%2Chttps%3A%2F%2Fa"
            )
        );
        assert_eq!(uri(&["b", "a"], &[]), format!("{base}&scopes=b%2Ca"));
        assert_eq!(uri(&[], &["ANY"]), format!("{base}&audiences=ANY"));
        for bad in ["", "a,b", "a b", "a\nb", "\u{e9}"] {
            assert!(Restriction::new(&[bad], &[]).is_err(), "{bad:?}");
        }
        assert!(Restriction::new::<&str>(&[], &[]).is_err());
        let delete = dressed(DeleteCreds { path: path.path() });
        assert_eq!(delete.method(), "DELETE");
    }

    #[test]
    fn names_that_would_leave_their_path_are_refused() {
        for credkey in [
            "", "a//b", "../x", "a/./b", "a?b", "a#b", "a%2Fb", "a b", "a*", "a:/b", "a:",
        ] {
            assert!(SecretPath::new("dune", credkey, "r").is_err(), "{credkey}");
        }
        assert!(SecretPath::new("du/ne", "a", "r").is_err());
        assert!(SecretPath::new("dune", "alice@cern.ch", "default").is_ok());
    }
}
