//! One request and its answer: in its turn, with its secret, and what a failure of it may say.

use std::{pin::Pin, time::Duration};

use credential::VaultToken;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use rustify::{Endpoint, client::Client as _, errors::ClientError};
use zeroize::Zeroizing;

use crate::{
    Client, Doing, Error,
    answer::{Envelope, clean},
    endpoints::Dress,
    grant::Of,
    refusal::{Asked, refusal},
    transport::{Patience, Turn},
    wire::Failure,
};

const X_VAULT_TOKEN: HeaderName = HeaderName::from_static("x-vault-token");

/// One block can meet every request under way; a second one in a row says that waiting does not help.
const BLOCKS_WAITED_OUT: u32 = 2;

/// One request, and what its messages may say.
pub(crate) struct Call<'a> {
    pub(crate) doing: Doing,
    pub(crate) path: &'a str,
    pub(crate) minimum_seconds: u32,
    pub(crate) patience: Duration,
    pub(crate) secret: &'a str,
    pub(crate) header: (HeaderName, &'a str),
}

impl Client {
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

    /// Asks in its turn. A request that met a block was not looked at, so it is asked once more when the block is over.
    pub(crate) async fn ask(&self, endpoint: impl Endpoint, call: &Call<'_>) -> Result<Envelope, Error> {
        let request = self.request(endpoint, call)?;
        let mut blocks = 0;
        loop {
            let mut request = request.clone();
            // a server's health is outside its quota, and 429 there says something else
            if call.doing != Doing::Health {
                request.extensions_mut().insert(Turn::Of(self.1.clone()));
            }
            match self.answer(request, call).await {
                Err(Met::Block(_)) if blocks < BLOCKS_WAITED_OUT => blocks += 1,
                Err(Met::Other(Error::Sealed { server })) => {
                    return Err(self.sealed(server, call.doing).await);
                }
                Err(Met::Block(error) | Met::Other(error)) => return Err(error),
                Ok(envelope) => return Ok(envelope),
            }
        }
    }

    /// Asks once, in a turn that was waited for already.
    pub(crate) async fn ask_in(
        &self,
        turn: Turn,
        endpoint: impl Endpoint,
        call: &Call<'_>,
    ) -> Result<Envelope, Error> {
        let mut request = self.request(endpoint, call)?;
        request.extensions_mut().insert(turn);
        match self.answer(request, call).await {
            Err(Met::Other(Error::Sealed { server })) => Err(self.sealed(server, call.doing).await),
            other => other.map_err(|(Met::Block(error) | Met::Other(error))| error),
        }
    }

    /// A server that was never set up says that it is sealed, too; only its health tells them apart.
    fn sealed(&self, server: String, doing: Doing) -> Pin<Box<dyn Future<Output = Error> + Send + '_>> {
        // the question is itself a request, so its future cannot be part of this one
        Box::pin(async move {
            if doing == Doing::Health {
                return Error::Sealed { server };
            }
            match self.health().await {
                Ok(health) if !health.initialized => Error::Uninitialised { server },
                _ => Error::Sealed { server },
            }
        })
    }

    fn setup(&self, text: String) -> Error {
        Error::Setup {
            server: self.0.shown.clone(),
            text,
        }
    }

    fn request(&self, endpoint: impl Endpoint, call: &Call<'_>) -> Result<Request<Vec<u8>>, Error> {
        let (name, value) = &call.header;
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| self.setup("a token cannot stand in a header".to_owned()))?;
        value.set_sensitive(true);
        let dress = Dress {
            name: name.clone(),
            value,
        };
        let mut request = endpoint
            .with_middleware(&dress)
            .request(self.0.transport.base())
            .map_err(|e| self.setup(e.to_string()))?;
        request.extensions_mut().insert(Patience(call.patience));
        Ok(request)
    }

    async fn answer(&self, request: Request<Vec<u8>>, call: &Call<'_>) -> Result<Envelope, Met> {
        let shown = &self.0.shown;
        tracing::debug!(server = shown, doing = %call.doing, path = call.path, "asking Vault");
        let response = self.0.transport.execute(request).await.map_err(|error| {
            Met::Other(match error {
                ClientError::GenericError { source } => match source.downcast::<Failure>() {
                    Ok(failure) => failed(failure, shown, call.doing),
                    Err(source) => self.setup(source.to_string()),
                },
                other => self.setup(other.to_string()),
            })
        })?;
        let secrets = [call.secret];
        let asked = Asked {
            server: shown,
            doing: call.doing,
            path: call.path,
            minimum_seconds: call.minimum_seconds,
            secrets: &secrets,
        };
        heard(response, &asked).map_err(|error| match error {
            block @ Error::RateLimited { .. } => Met::Block(block),
            other => Met::Other(other),
        })
    }

    pub(crate) fn of<'a>(&'a self, call: &Call<'_>) -> Of<'a> {
        Of {
            server: &self.0.shown,
            doing: call.doing,
        }
    }

    pub(crate) fn warnings(&self, call: &Call<'_>, envelope: &Envelope) -> Vec<String> {
        let warnings = remarks(envelope, &[call.secret]);
        for warning in &warnings {
            tracing::debug!(server = self.0.shown, doing = %call.doing, warning, "Vault remarks");
        }
        warnings
    }
}

/// What the server had to remark, bounded and without secrets.
pub(crate) fn remarks(envelope: &Envelope, secrets: &[&str]) -> Vec<String> {
    let said = envelope.warnings.iter().flatten().take(16);
    said.map(|text| clean(text, secrets)).collect()
}

/// What an answer says, whatever it is. The body is wiped on every way out.
pub(crate) fn heard(response: Response<Vec<u8>>, asked: &Asked<'_>) -> Result<Envelope, Error> {
    let (head, body) = response.into_parts();
    let mut body = Zeroizing::new(body);
    match head.status {
        StatusCode::NO_CONTENT => Ok(Envelope::default()),
        StatusCode::OK => {
            let of = Of {
                server: asked.server,
                doing: asked.doing,
            };
            Envelope::parse(&body).ok_or_else(|| of.bad("it is not the JSON of Vault"))
        }
        _ => {
            let mut response = Response::new(std::mem::take(&mut *body));
            *response.status_mut() = head.status;
            *response.headers_mut() = head.headers;
            Err(refusal(&response, asked))
        }
    }
}

/// What a request met: a block passes, and the budget knows for how long.
enum Met {
    Block(Error),
    Other(Error),
}

pub(crate) fn failed(failure: Failure, server: &str, doing: Doing) -> Error {
    let server = server.to_owned();
    match failure {
        Failure::Unreachable(text) => Error::Unreachable { server, text },
        Failure::Certificate(text) => Error::Certificate { server, text },
        Failure::Timeout(after) => Error::Timeout { server, doing, after },
        Failure::Interrupted(text) => Error::Interrupted { server, doing, text },
        Failure::Setup(text) => Error::Setup { server, text },
        Failure::NotSoon(after) => Error::RateLimited {
            server,
            retry_after: Some(after),
        },
        tell @ Failure::TooLarge => Error::BadAnswer {
            server,
            doing,
            what: tell.to_string(),
        },
    }
}
