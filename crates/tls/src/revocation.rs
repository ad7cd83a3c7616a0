//! Certificate revocation lists from the CA directory.

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore,
    client::WebPkiServerVerifier,
    crypto::CryptoProvider,
    pki_types::{CertificateRevocationListDer, pem::PemObject},
};

use crate::{Crl, Error, Trust, roots};

/// The lists to be used. One that cannot be is passed over with a warning: where lists are required, certificates of its
/// CA are then refused.
pub(crate) fn load(
    trust: &Trust,
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    if trust.crl == Crl::Off {
        return Ok(Vec::new());
    }
    let dir = trust.ca_dir.as_deref().ok_or(Error::NoListDirectory)?;
    let usable = |list: &CertificateRevocationListDer<'static>| {
        WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
            .with_crls([list.clone()])
            .build()
    };
    let mut lists = Vec::new();
    for path in roots::files(dir, is_list_name)? {
        let Some(bytes) = roots::content(&path)? else {
            continue;
        };
        let found = read(&bytes);
        if found.is_empty() {
            skipped(&path, "it holds no list");
        }
        for list in found {
            match usable(&list) {
                Ok(_) => lists.push(list),
                Err(error) => skipped(&path, &error.to_string()),
            }
        }
    }
    tracing::debug!(dir = %dir.display(), lists = lists.len(), "revocation lists read");
    if lists.is_empty() && trust.crl == Crl::Required {
        return Err(Error::NoList { path: dir.to_owned() });
    }
    Ok(lists)
}

fn skipped(path: &Path, why: &str) {
    tracing::warn!(path = %path.display(), why, "a revocation list cannot be used");
}

/// PEM, as fetch-crl writes it, or DER, as CAs publish it.
fn read(bytes: &[u8]) -> Vec<CertificateRevocationListDer<'static>> {
    // DER begins with a SEQUENCE
    if bytes.first() == Some(&0x30) {
        return vec![bytes.to_vec().into()];
    }
    CertificateRevocationListDer::pem_slice_iter(bytes)
        .filter_map(Result::ok)
        .collect()
}

/// OpenSSL's hash of eight hexadecimal digits, `.r` and a number.
fn is_list_name(name: &str) -> bool {
    name.split_once(".r").is_some_and(|(hash, number)| {
        hash.len() == 8
            && hash.bytes().all(|b| b.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_lists() {
        for name in ["5ca1ab1e.r0", "5CA1AB1E.r12"] {
            assert!(is_list_name(name), "{name}");
        }
        for name in [
            "5ca1ab1e.0",
            "5ca1ab1e.r",
            "5ca1ab1e.rx",
            "ca.r0",
            "5ca1ab1e.crl_url",
        ] {
            assert!(!is_list_name(name), "{name}");
        }
    }
}
