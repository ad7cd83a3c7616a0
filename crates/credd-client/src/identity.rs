//! Who we are to a server, and what we can prove it with.

use std::{fmt, sync::Arc};

use cedar::auth::{IdToken, TokenWanted};
use credential::BearerToken;
use jiff::Timestamp;
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

/// Who we are to a server: the user it must map us to, and everything we have to prove it. What is not there is not
/// offered.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Identity {
    /// The HTCondor user, without domain, the server must map us to.
    pub user: String,
    /// For KERBEROS.
    #[cfg(feature = "kerberos")]
    pub kerberos: Option<Kerberos>,
    /// For TOKEN: tokens of one or several pools, of which the server's policy picks the first that fits.
    pub id_tokens: Vec<IdToken>,
    /// For SCITOKENS.
    pub bearer: Option<Arc<BearerToken>>,
    /// For SSL.
    pub certificate: Option<ClientCertificate>,
}

/// A robot's ticket, and where its tokens are made.
#[cfg(feature = "kerberos")]
#[derive(Debug, Clone)]
pub struct Kerberos {
    /// The ticket.
    pub ticket: kerberos::Ticket,
    /// Where tokens are made of it.
    pub gss: kerberos::Gss,
}

impl Identity {
    /// The HTCondor user `user` (without domain), with nothing to prove it yet.
    #[must_use]
    pub fn new(user: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            #[cfg(feature = "kerberos")]
            kerberos: None,
            id_tokens: Vec::new(),
            bearer: None,
            certificate: None,
        }
    }

    /// The HTCondor user `user` (without domain), proven by a Kerberos ticket.
    #[cfg(feature = "kerberos")]
    #[must_use]
    pub fn kerberos(ticket: kerberos::Ticket, gss: kerberos::Gss, user: impl Into<String>) -> Self {
        Self {
            kerberos: Some(Kerberos { ticket, gss }),
            ..Self::new(user)
        }
    }

    /// With tokens of a pool, in the order in which they are considered.
    #[must_use]
    pub fn with_id_tokens(mut self, tokens: impl IntoIterator<Item = IdToken>) -> Self {
        self.id_tokens.extend(tokens);
        self
    }

    /// With a bearer token: a SciToken, or one in the WLCG profile, that covers `condor:/WRITE` or what stands for it.
    #[must_use]
    pub fn with_bearer(mut self, token: BearerToken) -> Self {
        self.bearer = Some(Arc::new(token));
        self
    }

    /// With a client certificate.
    #[must_use]
    pub fn with_certificate(mut self, certificate: ClientCertificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// The first token the server accepts now.
    pub(crate) fn id_token(&self, wanted: &TokenWanted, now: Timestamp) -> Result<&IdToken, String> {
        let fits = |token: &&IdToken| wanted.fits(token, now.as_second());
        self.id_tokens.iter().find(fits).ok_or_else(|| {
            format!(
                "none of {} tokens is of the trust domain {:?}, signed with a key of [{}], and still valid",
                self.id_tokens.len(),
                wanted.trust_domain,
                wanted.keys.join(", ")
            )
        })
    }
}

/// A certificate and its key, to be presented in SSL. The key is never shown.
#[derive(Clone)]
pub struct ClientCertificate(Arc<CertifiedKey>);

/// Why there is no client certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadCertificate {
    /// The text holds no certificate.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// The text holds no private key that can be read.
    #[error("there is no private key in it that can be read")]
    NoKey,
    /// The TLS library does not take the key, or it is not the certificate's.
    #[error("the key cannot be used with the certificate")]
    Key(#[source] rustls::Error),
}

impl ClientCertificate {
    /// From PEM texts: the certificate with its chain, and the key without a pass phrase. Both may be one text.
    ///
    /// # Errors
    /// [`BadCertificate`].
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, BadCertificate> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(|_| BadCertificate::NoCertificate)?;
        if chain.is_empty() {
            return Err(BadCertificate::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| BadCertificate::NoKey)?;
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(BadCertificate::Key)?;
        Ok(Self(Arc::new(certified)))
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificate({} certificates, ..)", self.0.cert.len())
    }
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // a server that names no issuer we know may still take it: HTCondor's list of names is often not complete
        self.0.key.choose_scheme(schemes).map(|_| Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
