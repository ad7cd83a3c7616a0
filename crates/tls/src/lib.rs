//! Which servers a TLS client believes: one verifier for every client of mtk.
//!
//! [`client_config`] turns a [`Trust`] into a rustls configuration: roots from the system's store, a file and a
//! directory together, aws-lc-rs given explicitly so that no process-wide provider is needed or changed, and, where
//! asked for, another name in the certificate than the host's. A source that cannot be read is an error, never a
//! smaller set of roots.
//!
//! Left to others: sockets, HTTP, ALPN, client certificates. Revocation lists are not consulted (vault.md 8.3).
//!
//! ```no_run
//! let trust = tls::Trust { ca_dir: Some("/etc/grid-security/certificates".into()), ..tls::Trust::default() };
//! let config = tls::client_config(&trust)?;
//! # drop(config); Ok::<(), tls::Error>(())
//! ```

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
            name: None,
        }
    }
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
    let ordinary = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        // a set of roots that is not empty and no revocation lists leave nothing to fail
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
mod tests {
    use std::{
        fs,
        io::{Read, Write},
        path::Path,
    };

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::{ClientConnection, ServerConfig, ServerConnection, pki_types::PrivateKeyDer};

    use super::*;

    type Ca = CertifiedIssuer<'static, KeyPair>;

    fn ca() -> Ca {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn server(ca: &Ca, name: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()])
            .unwrap()
            .signed_by(&key, ca)
            .unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }

    /// The handshake in memory, and one byte through it.
    fn talk(client: Arc<ClientConfig>, server: Arc<ServerConfig>, host: &str) -> Result<(), rustls::Error> {
        let host = ServerName::try_from(host.to_owned()).unwrap();
        let mut client = ClientConnection::new(client, host).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        for _ in 0..8 {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            // the server's view of our alert does not matter here
            drop(server.process_new_packets());
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        server.writer().write_all(b"x").unwrap();
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
        assert_eq!(client.reader().read(&mut [0; 4]).unwrap(), 1);
        Ok(())
    }

    fn only(file: Option<&Path>, dir: Option<&Path>) -> Trust {
        Trust {
            system: false,
            ca_file: file.map(Into::into),
            ca_dir: dir.map(Into::into),
            name: None,
        }
    }

    #[test]
    fn only_the_named_ca_and_the_right_name_are_believed() {
        let (ours, theirs) = (ca(), ca());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        fs::write(&file, ours.pem()).unwrap();
        let config = client_config(&only(Some(&file), None)).unwrap();
        talk(Arc::clone(&config), server(&ours, "vault.test"), "vault.test").unwrap();
        assert!(talk(Arc::clone(&config), server(&ours, "vault.test"), "other.test").is_err());
        assert!(talk(config, server(&theirs, "vault.test"), "vault.test").is_err());
    }

    #[test]
    fn another_name_replaces_the_hosts_and_nothing_else() {
        let (ours, theirs) = (ca(), ca());
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), ours.pem()).unwrap();
        let trust = Trust {
            name: Some("cluster.test".into()),
            ..only(None, Some(dir.path()))
        };
        let config = client_config(&trust).unwrap();
        talk(Arc::clone(&config), server(&ours, "cluster.test"), "node1.test").unwrap();
        assert!(talk(Arc::clone(&config), server(&ours, "node1.test"), "node1.test").is_err());
        assert!(talk(config, server(&theirs, "cluster.test"), "node1.test").is_err());
        let bad = Trust {
            name: Some("not a name".into()),
            ..trust
        };
        assert!(matches!(client_config(&bad), Err(Error::Name { .. })));
    }

    #[test]
    fn a_directory_is_read_as_openssl_would() {
        let (hashed, pem) = (ca(), ca());
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("0a1b2c3d.0", &hashed.pem());
        write("named.pem", &pem.pem());
        write("0a1b2c3d.r0", "a revocation list");
        write("0a1b2c3d.signing_policy", "access_id_CA");
        write(
            "broken.pem",
            "-----BEGIN CERTIFICATE-----\n@@\n-----END CERTIFICATE-----\n",
        );
        std::os::unix::fs::symlink("gone", dir.path().join("dangling.pem")).unwrap();
        let config = client_config(&only(None, Some(dir.path()))).unwrap();
        for issuer in [&hashed, &pem] {
            talk(Arc::clone(&config), server(issuer, "vault.test"), "vault.test").unwrap();
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        assert!(matches!(
            client_config(&only(Some(&missing), None)),
            Err(Error::Unreadable { .. })
        ));
        assert!(matches!(
            client_config(&only(None, Some(&missing))),
            Err(Error::Unreadable { .. })
        ));
        assert!(matches!(
            client_config(&only(None, Some(dir.path()))),
            Err(Error::NoCertificate { .. })
        ));
        let empty = dir.path().join("empty.txt");
        fs::write(&empty, "").unwrap();
        assert!(matches!(
            client_config(&only(Some(&empty), None)),
            Err(Error::NoCertificate { .. })
        ));
        assert!(matches!(client_config(&only(None, None)), Err(Error::NoSource)));
    }
}
