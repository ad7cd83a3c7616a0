//! What mtk asks of Vault.

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use credential::{Lifetime, LongToken, NODE_TOKEN_LIMIT, Principal, VaultToken};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use rustify::{Endpoint, client::Client as _, errors::ClientError};
use rustls::ClientConfig;
use vaultrs::api::token::requests::{CreateTokenRequest, LookupTokenSelfRequest, RevokeTokenSelfRequest};
use zeroize::Zeroizing;

use crate::{
    Doing, Error, Restriction, SecretPath, Server,
    answer::{Envelope, clean},
    endpoints::{DeleteCreds, Dress, KerberosLogin, ReadCreds, ReadSts, kerberos_mount},
    grant::{self, Bearer, Child, Login, Lookup, Of},
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
pub struct Client(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    transport: Transport,
    server: Server,
    /// `server`, as messages show it.
    pub(crate) shown: String,
    pub(crate) alias: Option<String>,
    pub(crate) read_timeout: Duration,
    pub(crate) bearer_timeout: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.0.shown)
    }
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
        let warnings = self.warnings(&call, &envelope);
        grant::login(self.of(&call), envelope, warnings, &mount, expected, now)
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
        let warnings = self.warnings(&call, &envelope);
        grant::child(self.of(&call), envelope, warnings, seconds, parent_life, now)
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
        let warnings = self.warnings(&call, &envelope);
        grant::bearer(self.of(&call), envelope, warnings)
    }

    /// Reads a bearer token that may do less than the one of [`Client::bearer`], or is for others (vault.md 4.1).
    ///
    /// # Errors
    /// [`Error::ExchangeRefused`] if the issuer grants no such token, and as [`Client::bearer`].
    pub async fn bearer_with_less(
        &self,
        token: &dyn VaultToken,
        path: &SecretPath,
        restriction: &Restriction,
        minimum_seconds: u32,
    ) -> Result<Bearer, Error> {
        let below = path.sts_path();
        let call = Call {
            minimum_seconds,
            patience: self.0.bearer_timeout,
            ..self.with_token(Doing::Exchange, &below, token)
        };
        let request = ReadSts::new(path, restriction, minimum_seconds);
        let envelope = self.ask(request, &call).await?;
        let warnings = self.warnings(&call, &envelope);
        grant::bearer(self.of(&call), envelope, warnings)
    }

    /// Deletes the refresh token of `path`: nothing can be read there until somebody is onboarded again. It is no
    /// error if there was none.
    ///
    /// # Errors
    /// [`Error::NotPermitted`], [`Error::TokenInvalid`], and what any request may meet.
    pub async fn forget(&self, token: &dyn VaultToken, path: &SecretPath) -> Result<(), Error> {
        let below = path.path();
        let call = self.with_token(Doing::Delete, &below, token);
        self.ask(DeleteCreds { path: below.clone() }, &call)
            .await
            .map(drop)
    }

    /// What the server knows of a token.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`] if it is no longer good, and what any request may meet.
    pub async fn lookup_self(&self, token: &dyn VaultToken) -> Result<Lookup, Error> {
        let call = self.with_token(Doing::Lookup, "auth/token/lookup-self", token);
        let envelope = self.ask(LookupTokenSelfRequest {}, &call).await?;
        grant::lookup(self.of(&call), envelope)
    }

    /// Revokes a token and all its children.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`] if it is no longer good anyway, and what any request may meet.
    pub async fn revoke_self(&self, token: &dyn VaultToken) -> Result<(), Error> {
        let call = self.with_token(Doing::Revoke, "auth/token/revoke-self", token);
        self.ask(RevokeTokenSelfRequest {}, &call).await.map(drop)
    }

    pub(crate) fn with_token<'a>(&self, doing: Doing, path: &'a str, token: &'a dyn VaultToken) -> Call<'a> {
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

    pub(crate) async fn ask(&self, endpoint: impl Endpoint, call: &Call<'_>) -> Result<Envelope, Error> {
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
                Envelope::parse(&body).ok_or_else(|| self.of(call).bad("it is not the JSON of Vault"))
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

    pub(crate) fn of<'a>(&'a self, call: &Call<'_>) -> Of<'a> {
        Of {
            server: &self.0.shown,
            doing: call.doing,
        }
    }

    fn warnings(&self, call: &Call<'_>, envelope: &Envelope) -> Vec<String> {
        let said = envelope.warnings.iter().flatten().take(16);
        let warnings: Vec<_> = said.map(|text| clean(text, &[call.secret])).collect();
        for warning in &warnings {
            tracing::debug!(server = self.0.shown, doing = %call.doing, warning, "Vault remarks");
        }
        warnings
    }
}

/// One request, and what its messages may say.
pub(crate) struct Call<'a> {
    pub(crate) doing: Doing,
    pub(crate) path: &'a str,
    pub(crate) minimum_seconds: u32,
    pub(crate) patience: Duration,
    pub(crate) secret: &'a str,
    pub(crate) header: (HeaderName, &'a str),
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
