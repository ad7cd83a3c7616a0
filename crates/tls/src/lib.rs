//! Which servers a TLS client believes: one verifier for every client of mtk.
//!
//! [`client_config`] turns a [`Trust`] into a rustls configuration: roots from the system's store, a file and a
//! directory together, aws-lc-rs given explicitly so that no process-wide provider is needed or changed, and, where
//! asked for, another name in the certificate than the host's. A source that cannot be read is an error, never a
//! smaller set of roots.
//!
//! Left to others: sockets, HTTP, ALPN, client certificates. Revocation lists are read
//! from the CA directory, where they are asked for; nothing is fetched.
//!
//! ```no_run
//! let trust = tls::Trust { ca_dir: Some("/etc/grid-security/certificates".into()), ..tls::Trust::default() };
//! let config = tls::client_config(&trust)?;
//! # drop(config); Ok::<(), tls::Error>(())
//! ```

mod revocation;
mod roots;
mod verifier;

use std::{io, path::PathBuf, sync::Arc};

pub use rustls::ClientConfig;
use rustls::{client::WebPkiServerVerifier, crypto::aws_lc_rs, pki_types::ServerName};

use verifier::UnderName;

/// Where roots come from, and which name the certificate must carry. All sources given are used together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The system's store (with the `SSL_CERT_FILE` and `SSL_CERT_DIR` of the platform's convention).
    pub system: bool,
    /// A PEM file with one or more CA certificates.
    pub ca_file: Option<PathBuf>,
    /// A directory of them: `*.pem`, and OpenSSL's hashed names such as `5ca1ab1e.0`.
    pub ca_dir: Option<PathBuf>,
    /// What is done with the revocation lists (`*.r0`) in `ca_dir`.
    pub crl: Crl,
    /// The name the certificate must be for, if not that of the host spoken to (vault.md 8.3).
    pub name: Option<String>,
}

impl Default for Trust {
    /// The system's store, and the host's own name.
    fn default() -> Self {
        Self {
            system: true,
            ca_file: None,
            ca_dir: None,
            crl: Crl::Off,
            name: None,
        }
    }
}

/// What is done with certificate revocation lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Crl {
    /// They are not read: what the programs of the field do (vault.md 8.3).
    #[default]
    Off,
    /// A certificate on the list of its CA is refused; a CA without a list is believed, and so is an old list.
    Present,
    /// Every CA of a chain must have a list that is not outdated. The root vouches for itself.
    Required,
}

/// The CA certificates (DER) of the file and the directory of `trust`, for clients that make a verifier of their own beside
/// the system's store.
///
/// # Errors
/// [`Error`] for what cannot be read.
pub fn certificates(trust: &Trust) -> Result<Vec<Vec<u8>>, Error> {
    roots::beside_the_systems(trust)
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A CA file or directory, or a file in it, cannot be read.
    #[error("the CA {kind} {} cannot be read", path.display())]
    Unreadable {
        /// `file` or `directory`.
        kind: &'static str,
        /// Which one.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A CA file or directory holds no usable certificate.
    #[error("the CA {kind} {} holds no usable CA certificate", path.display())]
    NoCertificate {
        /// `file` or `directory`.
        kind: &'static str,
        /// Which one.
        path: PathBuf,
    },
    /// A file far larger than any CA bundle.
    #[error("the CA file {} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// Which one.
        path: PathBuf,
        /// How large it may be.
        limit: u64,
    },
    /// The system's store gave nothing.
    #[error("the system's CA store gave no certificate: {problems}")]
    System {
        /// What went wrong with it.
        problems: String,
    },
    /// Revocation lists are asked for, but no directory is named where they could be.
    #[error("revocation lists are wanted, but no CA directory is configured that could hold them")]
    NoListDirectory,
    /// Revocation lists are required, and there is none.
    #[error("revocation lists are required, but the CA directory {} holds none that can be used", path.display())]
    NoList {
        /// Which directory.
        path: PathBuf,
    },
    /// No source of roots was named.
    #[error("no CA is trusted: neither the system's store nor a CA file or directory is configured")]
    NoSource,
    /// The name for the certificate cannot be one.
    #[error("{name:?} cannot be the name of a server certificate")]
    Name {
        /// What was given.
        name: String,
    },
    /// The TLS library refused what it was given.
    #[error("TLS cannot be set up")]
    Library(#[source] rustls::Error),
}

/// A client configuration that believes what `trust` says, TLS 1.2 and 1.3, without ALPN and client certificate.
///
/// # Errors
/// [`Error`], when anything named in `trust` cannot be honoured.
pub fn client_config(trust: &Trust) -> Result<Arc<ClientConfig>, Error> {
    let roots = Arc::new(roots::load(trust)?);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let lists = revocation::load(trust, &roots, &provider)?;
    let builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).with_crls(lists);
    let builder = match trust.crl {
        Crl::Off => builder,
        Crl::Present => builder.allow_unknown_revocation_status(),
        Crl::Required => builder.enforce_revocation_expiration(),
    };
    let ordinary = builder
        .build()
        // a set of roots that is not empty and lists that were tried before leave nothing to fail
        .map_err(|error| Error::Library(rustls::Error::General(error.to_string())))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Library)?;
    let config = match &trust.name {
        None => builder.with_webpki_verifier(ordinary).with_no_client_auth(),
        Some(name) => {
            let name = ServerName::try_from(name.clone()).map_err(|_| Error::Name { name: name.clone() })?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(UnderName::new(ordinary, name)))
                .with_no_client_auth()
        }
    };
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests;
