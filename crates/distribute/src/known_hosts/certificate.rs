//! Host certificates (OpenSSH's PROTOCOL.certkeys): a host's key, vouched for by an authority.

use russh::keys::{
    Algorithm, Certificate, PublicKey,
    ssh_key::{certificate::CertType, public::KeyData},
};

use super::pattern;

/// What a certificate algorithm's name ends in.
const SUFFIX: &str = "-cert-v01@openssh.com";

/// A certificate with the keys in it in their wire encoding.
pub(super) struct HostCertificate {
    certificate: Certificate,
    pub(super) key: Vec<u8>,
    pub(super) authority: Vec<u8>,
}

pub(super) fn is_certificate(kind: &str) -> bool {
    kind.ends_with(SUFFIX)
}

pub(super) fn parse(bytes: &[u8]) -> Result<HostCertificate, String> {
    let certificate = Certificate::from_bytes(bytes).map_err(|error| error.to_string())?;
    let wire = |key: &KeyData| {
        PublicKey::new(key.clone(), "")
            .to_bytes()
            .map_err(|error| error.to_string())
    };
    Ok(HostCertificate {
        key: wire(certificate.public_key())?,
        authority: wire(certificate.signature_key())?,
        certificate,
    })
}

impl HostCertificate {
    pub(super) fn id(&self) -> &str {
        self.certificate.key_id()
    }

    pub(super) fn valid_before(&self) -> u64 {
        self.certificate.valid_before()
    }

    /// Whether it says now, signed by its authority, that this is the host `name`.
    ///
    /// A certificate that names nobody is refused: older versions of ssh took it for every host.
    pub(super) fn check(&self, name: &str, now: u64) -> Result<(), String> {
        let certificate = &self.certificate;
        if certificate.cert_type() != CertType::Host {
            return Err("it is a user's certificate, not a host's".to_owned());
        }
        if matches!(
            certificate.signature().algorithm(),
            Algorithm::Rsa { hash: None } | Algorithm::Dsa
        ) {
            return Err("its authority signed it with SHA-1".to_owned());
        }
        certificate
            .verify_signature()
            .map_err(|_| "its authority's signature does not match".to_owned())?;
        if let Some((option, _)) = certificate.critical_options().iter().next() {
            return Err(format!(
                "it has the critical option {option:?}, which no host certificate may have"
            ));
        }
        if now < certificate.valid_after() {
            return Err("it is not valid yet".to_owned());
        }
        if now >= certificate.valid_before() {
            let minutes = (now - certificate.valid_before()) / 60;
            return Err(format!("it ended {minutes} minutes ago"));
        }
        let names = certificate.valid_principals();
        let named = names
            .iter()
            .any(|pattern| pattern::glob(&pattern.to_ascii_lowercase(), name));
        if named {
            Ok(())
        } else if names.is_empty() {
            Err("it names no host".to_owned())
        } else {
            Err(format!("it is for {}, not for {name}", names.join(", ")))
        }
    }
}
