//! What mtk asks of Vault.

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use credential::{BearerToken, Lifetime, LongToken, NODE_TOKEN_LIMIT, NodeToken, Principal, VaultToken};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use rustify::{Endpoint, client::Client as _, errors::ClientError};
use rustls::ClientConfig;
use vaultrs::api::token::requests::{CreateTokenRequest, LookupTokenSelfRequest, RevokeTokenSelfRequest};
use zeroize::Zeroizing;

use crate::{
    Doing, Error, SecretPath, Server,
    answer::{Auth, Envelope, clean},
    endpoints::{Dress, KerberosLogin, ReadCreds, kerberos_mount},
    refusal::{Asked, refusal},
    transport::{Failure, Patience, Transport},
};

const X_VAULT_TOKEN: HeaderName = HeaderName::from_static("x-vault-token");

/// How a client speaks to its server.
#[derive(Clone)]
pub struct Options {
    /// The server; what credds and nodes will be told as well.
    pub server: Server,
    /// The name in the server's Kerberos principal, where it is not the host's: that of a cluster.
    pub alias: Option<String>,
    /// Which certificates are believed.
    pub tls: Arc<ClientConfig>,
    /// For one address; the next one is tried after it. Default 2 s.
    pub connect_timeout: Duration,
    /// For the answer to a request. Default 10 s.
    pub read_timeout: Duration,
    /// For a bearer token, where Vault may wait for the issuer. Default 50 s (vault.md 4.4).
    pub bearer_timeout: Duration,
    /// Requests at once; others wait. Default 8.
    pub concurrency: usize,
}

impl Options {
    /// The defaults.
    #[must_use]
    pub fn new(server: Server, tls: Arc<ClientConfig>) -> Self {
        Self {
            server,
            alias: None,
            tls,
            connect_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(10),
            bearer_timeout: Duration::from_secs(50),
            concurrency: 8,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("server", &self.server)
            .field("alias", &self.alias)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// A client of one Vault server. Clones share connections, limits and the count of requests.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    transport: Transport,
    server: Server,
    /// `server`, as messages show it.
    shown: String,
    alias: Option<String>,
    read_timeout: Duration,
    bearer_timeout: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.0.shown)
    }
}

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
    /// What the server had to remark, for instance that refreshing failed lately.
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

impl Client {
    /// Sets everything up; nothing is sent, no name is looked up.
    ///
    /// # Errors
    /// [`Error::Setup`] if the HTTP client cannot be built, [`Error::BadServer`] for an alias that is no host name.
    pub fn new(options: Options) -> Result<Self, Error> {
        let Options {
            server,
            alias,
            tls,
            connect_timeout,
            read_timeout,
            bearer_timeout,
            concurrency,
        } = options;
        // the alias may be written as the server is; only its host matters
        let alias = alias
            .map(|text| text.parse::<Server>().map(|alias| alias.host().to_owned()))
            .transpose()?;
        let shown = server.to_string();
        let transport = Transport::new(server.clone(), &tls, connect_timeout, concurrency);
        transport.check().map_err(|f| failed(f, &shown, Doing::Login))?;
        Ok(Self(Arc::new(Inner {
            transport,
            server,
            shown,
            alias,
            read_timeout,
            bearer_timeout,
        })))
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.0.server
    }

    /// The Kerberos service the server's tickets are for: `host/<alias or host>@`, to be taken as a principal, so
    /// that no name service changes it (vault.md 2.1).
    #[must_use]
    pub fn kerberos_target(&self) -> String {
        format!(
            "host/{}@",
            self.0.alias.as_deref().unwrap_or(self.0.server.host())
        )
    }

    /// Requests really sent by this client and its clones, whatever came of them: each counts in the server's quota.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.0.transport.sent()
    }

    /// Where anybody with a Vault token reads the bearer token of `path`, with the port always written, as
    /// HTCondor's credmon demands (vault.md 4.8).
    #[must_use]
    pub fn bearer_url(&self, path: &SecretPath) -> String {
        format!("https://{}/v1/{}", self.0.shown, path.path())
    }

    /// Logs in with an AP-REQ (the first token of plain Kerberos, raw, without mutual authentication). Each one
    /// can be used once. `now` is when the token's life is counted from.
    ///
    /// # Errors
    /// [`Error::TicketRefused`], [`Error::MountMissing`], [`Error::LdapDown`], [`Error::WrongIdentity`] where the
    /// server took us for somebody other than `expected`, and what any request may meet.
    pub async fn login_kerberos(
        &self,
        issuer: &str,
        role: &str,
        ap_req: &[u8],
        expected: &Principal,
        now: Timestamp,
    ) -> Result<Login, Error> {
        let mount = kerberos_mount(issuer, role)?;
        let encoded = Zeroizing::new(BASE64_STANDARD.encode(ap_req));
        let header = Zeroizing::new(format!("Negotiate {}", *encoded));
        let call = Call {
            doing: Doing::Login,
            path: &mount,
            minimum_seconds: 0,
            patience: self.0.read_timeout,
            secret: &encoded,
            header: (header::AUTHORIZATION, &header),
        };
        let envelope = self.ask(KerberosLogin { mount: mount.clone() }, &call).await?;
        let warnings = self.warnings(&call, envelope.warnings);
        let auth = envelope
            .auth
            .ok_or_else(|| self.bad(Doing::Login, "it has no auth"))?;
        if auth.client_token.is_empty() && auth.mfa_requirement.is_some() {
            return Err(Error::MfaRequired {
                server: self.0.shown.clone(),
                mount,
            });
        }
        self.check_identity(&auth, expected)?;
        if auth.lease_duration <= 0 {
            return Err(self.bad(Doing::Login, "the token has no life"));
        }
        let lifetime = Lifetime::new(now, SignedDuration::from_secs(auth.lease_duration));
        let token = LongToken::new(taken(auth.client_token)).map_err(|e| self.bad(Doing::Login, e))?;
        Ok(Login {
            token,
            accessor: auth.accessor,
            lifetime,
            warnings,
        })
    }

    fn check_identity(&self, auth: &Auth, expected: &Principal) -> Result<(), Error> {
        let metadata = auth.metadata.as_ref();
        let part = |key: &str| {
            metadata
                .and_then(|m| m.get(key))
                .map(String::as_str)
                .unwrap_or_default()
        };
        let (user, domain) = (part("user"), part("domain"));
        if (user, domain) == (expected.name(), expected.realm()) {
            return Ok(());
        }
        Err(Error::WrongIdentity {
            server: self.0.shown.clone(),
            expected: expected.to_string(),
            got: clean(&format!("{user}@{domain}"), &[]),
        })
    }

    /// Exchanges a token for a child that lives `ttl` and may become a file. It dies with its parent, so its
    /// lifetime ends with `parent_life` at the latest, whatever the server says (vault.md 3.3).
    ///
    /// # Errors
    /// [`Error::BadLifetime`] for a `ttl` beyond [`NODE_TOKEN_LIMIT`], [`Error::TokenInvalid`] if the parent is no
    /// longer good, [`Error::TooLongLived`], and what any request may meet.
    pub async fn create_child(
        &self,
        parent: &LongToken,
        parent_life: Lifetime,
        ttl: SignedDuration,
        now: Timestamp,
    ) -> Result<Child, Error> {
        let seconds = ttl.as_secs();
        if !(1..=NODE_TOKEN_LIMIT).contains(&seconds) {
            return Err(Error::BadLifetime {
                seconds,
                limit: NODE_TOKEN_LIMIT,
            });
        }
        let request = CreateTokenRequest {
            ttl: Some(format!("{seconds}s")),
            renewable: Some(false),
            ..Default::default()
        };
        let call = self.with_token(Doing::Child, "auth/token/create", parent);
        let envelope = self.ask(request, &call).await?;
        let warnings = self.warnings(&call, envelope.warnings);
        let auth = envelope
            .auth
            .ok_or_else(|| self.bad(Doing::Child, "it has no auth"))?;
        let granted = auth.lease_duration;
        if granted <= 0 {
            return Err(self.bad(Doing::Child, "the token has no life"));
        }
        // by what was granted, not by what of it the parent leaves: the server counts so too
        if granted > seconds {
            return Err(Error::TooLongLived {
                server: self.0.shown.clone(),
                seconds: granted,
                asked: seconds,
            });
        }
        let lifetime = Lifetime::new(now, SignedDuration::from_secs(granted)).within(parent_life);
        let token =
            NodeToken::new(taken(auth.client_token), lifetime).map_err(|e| self.bad(Doing::Child, e))?;
        Ok(Child {
            token,
            accessor: auth.accessor,
            warnings,
        })
    }

    /// Reads the bearer token of `path`, with at least `minimum_seconds` to live (the server takes 10 at least).
    ///
    /// # Errors
    /// [`Error::NotOnboarded`], [`Error::RefreshRefused`], [`Error::TokenExpired400`], [`Error::NotPermitted`],
    /// [`Error::TokenInvalid`], [`Error::IssuerRemoved`], and what any request may meet.
    pub async fn bearer(
        &self,
        token: &dyn VaultToken,
        path: &SecretPath,
        minimum_seconds: u32,
    ) -> Result<Bearer, Error> {
        let below = path.path();
        let call = Call {
            minimum_seconds,
            patience: self.0.bearer_timeout,
            ..self.with_token(Doing::Bearer, &below, token)
        };
        let envelope = self
            .ask(
                ReadCreds {
                    path: below.clone(),
                    minimum_seconds,
                },
                &call,
            )
            .await?;
        let warnings = self.warnings(&call, envelope.warnings);
        let bad = |what: &'static str| self.bad(Doing::Bearer, what);
        let data = envelope.data.ok_or_else(|| bad("it has no data"))?;
        let text = data.access_token.ok_or_else(|| bad("it has no access_token"))?;
        let token = BearerToken::new(taken(text)).map_err(|e| self.bad(Doing::Bearer, e))?;
        let said = match data.expire_time.as_deref().filter(|text| !text.is_empty()) {
            Some(text) => Some(
                text.parse::<Timestamp>()
                    .map_err(|_| bad("its expire_time is no time"))?,
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

    /// What the server knows of a token.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`] if it is no longer good, and what any request may meet.
    pub async fn lookup_self(&self, token: &dyn VaultToken) -> Result<Lookup, Error> {
        let call = self.with_token(Doing::Lookup, "auth/token/lookup-self", token);
        let envelope = self.ask(LookupTokenSelfRequest {}, &call).await?;
        let data = envelope
            .data
            .ok_or_else(|| self.bad(Doing::Lookup, "it has no data"))?;
        let ttl = data.ttl.ok_or_else(|| self.bad(Doing::Lookup, "it has no ttl"))?;
        Ok(Lookup {
            ttl: SignedDuration::from_secs(ttl),
            creation_ttl: SignedDuration::from_secs(data.creation_ttl),
            path: data.path,
            orphan: data.orphan,
            policies: data.policies,
            accessor: data.accessor,
        })
    }

    /// Revokes a token and all its children.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`] if it is no longer good anyway, and what any request may meet.
    pub async fn revoke_self(&self, token: &dyn VaultToken) -> Result<(), Error> {
        let call = self.with_token(Doing::Revoke, "auth/token/revoke-self", token);
        self.ask(RevokeTokenSelfRequest {}, &call).await.map(drop)
    }

    fn with_token<'a>(&self, doing: Doing, path: &'a str, token: &'a dyn VaultToken) -> Call<'a> {
        // the one place where a Vault token goes to its server
        let text = token.expose();
        Call {
            doing,
            path,
            minimum_seconds: 0,
            patience: self.0.read_timeout,
            secret: text,
            header: (X_VAULT_TOKEN, text),
        }
    }

    async fn ask(&self, endpoint: impl Endpoint, call: &Call<'_>) -> Result<Envelope, Error> {
        let shown = &self.0.shown;
        let setup = |text: String| Error::Setup {
            server: shown.clone(),
            text,
        };
        let (name, value) = &call.header;
        let mut value =
            HeaderValue::from_str(value).map_err(|_| setup("a token cannot stand in a header".to_owned()))?;
        value.set_sensitive(true);
        let dress = Dress {
            name: name.clone(),
            value,
        };
        let transport = &self.0.transport;
        let mut request = endpoint
            .with_middleware(&dress)
            .request(transport.base())
            .map_err(|e| setup(e.to_string()))?;
        request.extensions_mut().insert(Patience(call.patience));
        tracing::debug!(server = shown, doing = %call.doing, path = call.path, "asking Vault");
        let response = transport.execute(request).await.map_err(|error| match error {
            ClientError::GenericError { source } => match source.downcast::<Failure>() {
                Ok(failure) => failed(failure, shown, call.doing),
                Err(source) => setup(source.to_string()),
            },
            other => setup(other.to_string()),
        })?;
        let (head, body) = response.into_parts();
        let mut body = Zeroizing::new(body);
        match head.status {
            StatusCode::NO_CONTENT => Ok(Envelope::default()),
            StatusCode::OK => {
                Envelope::parse(&body).ok_or_else(|| self.bad(call.doing, "it is not the JSON of Vault"))
            }
            _ => {
                let mut response = Response::new(std::mem::take(&mut *body));
                *response.status_mut() = head.status;
                *response.headers_mut() = head.headers;
                let secrets = [call.secret];
                Err(refusal(
                    &response,
                    &Asked {
                        server: shown,
                        doing: call.doing,
                        path: call.path,
                        minimum_seconds: call.minimum_seconds,
                        secrets: &secrets,
                    },
                ))
            }
        }
    }

    fn bad(&self, doing: Doing, what: impl ToString) -> Error {
        Error::BadAnswer {
            server: self.0.shown.clone(),
            doing,
            what: what.to_string(),
        }
    }

    fn warnings(&self, call: &Call<'_>, warnings: Option<Vec<String>>) -> Vec<String> {
        let warnings: Vec<_> = warnings
            .unwrap_or_default()
            .iter()
            .take(16)
            .map(|text| clean(text, &[call.secret]))
            .collect();
        for warning in &warnings {
            tracing::debug!(server = self.0.shown, doing = %call.doing, warning, "Vault remarks");
        }
        warnings
    }
}

/// One request, and what its messages may say.
struct Call<'a> {
    doing: Doing,
    path: &'a str,
    minimum_seconds: u32,
    patience: Duration,
    secret: &'a str,
    header: (HeaderName, &'a str),
}

/// Moves a token out of its wiping wrapper into a type that wipes it as well.
fn taken(mut text: Zeroizing<String>) -> String {
    std::mem::take(&mut *text)
}

fn failed(failure: Failure, server: &str, doing: Doing) -> Error {
    let server = server.to_owned();
    match failure {
        Failure::Unreachable(text) => Error::Unreachable { server, text },
        Failure::Certificate(text) => Error::Certificate { server, text },
        Failure::Timeout(after) => Error::Timeout { server, doing, after },
        Failure::Interrupted(text) => Error::Interrupted { server, doing, text },
        Failure::Setup(text) => Error::Setup { server, text },
        tell @ Failure::TooLarge => Error::BadAnswer {
            server,
            doing,
            what: tell.to_string(),
        },
    }
}
