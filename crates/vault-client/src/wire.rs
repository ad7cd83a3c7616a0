//! An answer off the wire, bounded, and what the way to it can end in.

use std::{
    error::Error as StdError,
    time::{Duration, Instant},
};

use http::Response;
use rustify::errors::ClientError;
use zeroize::{Zeroize, Zeroizing};

/// An answer of Vault has some kilobytes.
const MAX_BODY: usize = 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no connection: {0}")]
    Unreachable(String),
    #[error("certificate: {0}")]
    Certificate(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("connection broken: {0}")]
    Interrupted(String),
    #[error("the answer has more than {MAX_BODY} bytes")]
    TooLarge,
    #[error("its turn would come after {0:?}")]
    NotSoon(Duration),
    #[error("setup: {0}")]
    Setup(String),
}

impl From<Failure> for ClientError {
    fn from(failure: Failure) -> Self {
        Self::GenericError {
            source: failure.into(),
        }
    }
}

pub(crate) async fn bounded(
    mut answer: reqwest::Response,
    begun: Instant,
) -> Result<Response<Vec<u8>>, Failure> {
    let announced = answer.content_length().unwrap_or(0);
    if announced > MAX_BODY as u64 {
        return Err(Failure::TooLarge);
    }
    // with room from the start, the body does not move and leave tokens behind; it is wiped on every way out
    let room = usize::try_from(announced).unwrap_or(0).max(16 * 1024);
    let mut body = Zeroizing::new(Vec::with_capacity(room));
    while let Some(chunk) = answer.chunk().await.map_err(|e| failure(&e, begun))? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(Failure::TooLarge);
        }
        if body.len() + chunk.len() > body.capacity() {
            let mut larger = Vec::with_capacity((body.capacity() * 2).max(body.len() + chunk.len()));
            larger.extend_from_slice(&body);
            body.zeroize();
            *body = larger;
        }
        body.extend_from_slice(&chunk);
    }
    let mut out = Response::new(std::mem::take(&mut *body));
    *out.status_mut() = answer.status();
    *out.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(out)
}

/// The last of a chain of causes says what happened; those above it say that something did.
pub(crate) fn deepest(error: &dyn StdError) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    crate::answer::clean(&deepest.to_string(), &[])
}

pub(crate) fn failure(error: &reqwest::Error, begun: Instant) -> Failure {
    if error.is_connect() {
        return match certificate(error) {
            Some(text) => Failure::Certificate(text),
            None if error.is_timeout() => Failure::Unreachable("no connection in time".to_owned()),
            None => Failure::Unreachable(deepest(error)),
        };
    }
    if error.is_timeout() {
        // before our own deadline: HTTP/2's pings got no answer
        return Failure::Timeout(begun.elapsed());
    }
    if error.is_builder() {
        return Failure::Setup(deepest(error));
    }
    Failure::Interrupted(deepest(error))
}

/// What TLS has against the server's certificate, if that was the cause.
fn certificate(error: &reqwest::Error) -> Option<String> {
    let mut next: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(cause) = next {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            let about = matches!(
                tls,
                rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented
            );
            return about.then(|| crate::answer::clean(&tls.to_string(), &[]));
        }
        // what an io::Error wraps is not its `source` but beside it, and they are nested
        next = match cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    None
}
