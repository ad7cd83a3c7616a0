//! The host's certificate and its key.

use std::{fmt, fs::File, io, io::Read, path::Path, path::PathBuf, sync::Arc};

use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

/// No certificate file is longer.
const LARGEST: u64 = 1024 * 1024;

/// A certificate and its key, to be presented to FERRY. The key is never shown.
#[derive(Clone)]
pub struct HostCertificate(Arc<CertifiedKey>);

/// Why there is no certificate to present.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadCertificate {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds no certificate.
    #[error("{} holds no certificate", path.display())]
    NoCertificate {
        /// Which.
        path: PathBuf,
    },
    /// It holds no private key that can be read without a pass phrase.
    #[error("{} holds no private key that can be read", path.display())]
    NoKey {
        /// Which.
        path: PathBuf,
    },
    /// The key cannot be used, or is another certificate's.
    #[error("the key in {} cannot be used with the certificate", path.display())]
    Key {
        /// The file of the key.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl HostCertificate {
    /// Reads the certificate with its chain, and the key, from PEM files. Both may be one file.
    ///
    /// # Errors
    /// [`BadCertificate`].
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, BadCertificate> {
        let chain = read(certificate)?;
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain)
            .collect::<Result<_, _>>()
            .unwrap_or_default();
        if chain.is_empty() {
            let path = certificate.to_owned();
            return Err(BadCertificate::NoCertificate { path });
        }
        let path = key.to_owned();
        let Ok(key) = PrivateKeyDer::from_pem_slice(&read(key)?) else {
            return Err(BadCertificate::NoKey { path });
        };
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map(|key| Self(Arc::new(key)))
            .map_err(|source| BadCertificate::Key { path, source })
    }

    pub(crate) fn resolver(self) -> Arc<dyn ResolvesClientCert> {
        Arc::new(self)
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, BadCertificate> {
    let mut content = Zeroizing::new(Vec::new());
    File::open(path)
        .and_then(|file| file.take(LARGEST).read_to_end(&mut content))
        .map_err(|source| BadCertificate::Unreadable {
            path: path.to_owned(),
            source,
        })?;
    Ok(content)
}

impl fmt::Debug for HostCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostCertificate({} certificates, ..)", self.0.cert.len())
    }
}

impl ResolvesClientCert for HostCertificate {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.key.choose_scheme(schemes).map(|_| Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
