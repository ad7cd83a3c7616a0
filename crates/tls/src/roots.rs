//! CA certificates from the system, a file and a directory.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::{Error, Trust};

/// The largest bundles in use have some 300 kB.
const MAX_FILE: u64 = 8 * 1024 * 1024;

pub(crate) fn load(trust: &Trust) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    if !trust.system && trust.ca_file.is_none() && trust.ca_dir.is_none() {
        return Err(Error::NoSource);
    }
    if trust.system {
        system(&mut store)?;
    }
    if let Some(path) = &trust.ca_file {
        let (added, _) = store.add_parsable_certificates(certificates(path)?);
        if added == 0 {
            return Err(Error::NoCertificate {
                kind: "file",
                path: path.clone(),
            });
        }
    }
    if let Some(path) = &trust.ca_dir {
        directory(&mut store, path)?;
    }
    Ok(store)
}

/// The certificates of the file and the directory themselves, for clients that make a verifier of their own.
pub(crate) fn beside_the_systems(trust: &Trust) -> Result<Vec<Vec<u8>>, Error> {
    let mut found = match &trust.ca_file {
        Some(path) => certificates(path)?,
        None => Vec::new(),
    };
    if let Some(dir) = &trust.ca_dir {
        for path in files(dir, is_ca_name)? {
            if let Some(bytes) = content(&path)? {
                found.append(&mut pem(&bytes));
            }
        }
    }
    found.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
    found.dedup();
    Ok(found
        .into_iter()
        .map(|certificate| certificate.to_vec())
        .collect())
}

fn system(store: &mut RootCertStore) -> Result<(), Error> {
    let found = rustls_native_certs::load_native_certs();
    let problems = || {
        found
            .errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    if !found.errors.is_empty() {
        tracing::warn!(
            problems = problems(),
            "part of the system's CA store cannot be read"
        );
    }
    let problems = problems();
    let (added, _) = store.add_parsable_certificates(found.certs);
    if added == 0 {
        let problems = if problems.is_empty() {
            "it is empty".to_owned()
        } else {
            problems
        };
        return Err(Error::System { problems });
    }
    Ok(())
}

/// The files of a directory with a name of that kind, in order.
pub(crate) fn files(dir: &Path, wanted: fn(&str) -> bool) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |source| Error::Unreadable {
        kind: "directory",
        path: dir.to_owned(),
        source,
    };
    let mut paths = fs::read_dir(dir)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|e| e.path()))
                .collect::<Result<Vec<PathBuf>, _>>()
        })
        .map_err(unreadable)?;
    paths.retain(|path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(wanted)
    });
    paths.sort();
    Ok(paths)
}

/// What a file of the directory holds; `None` for a link to nothing, as packages leave them.
pub(crate) fn content(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match bytes(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Error::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            tracing::debug!(path = %path.display(), "a link in the CA directory points nowhere");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn directory(store: &mut RootCertStore, dir: &Path) -> Result<(), Error> {
    let paths = files(dir, is_ca_name)?;
    let mut found = Vec::new();
    for path in &paths {
        if let Some(bytes) = content(path)? {
            found.append(&mut pem(&bytes));
        }
    }
    // the hashed name and the .pem are often one file
    found.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
    found.dedup();
    let (added, skipped) = store.add_parsable_certificates(found);
    tracing::debug!(dir = %dir.display(), files = paths.len(), added, skipped, "CA directory read");
    if added == 0 {
        return Err(Error::NoCertificate {
            kind: "directory",
            path: dir.to_owned(),
        });
    }
    Ok(())
}

/// `*.pem`, or OpenSSL's hash of eight hexadecimal digits and a number; `.r0` beside it is a revocation list.
fn is_ca_name(name: &str) -> bool {
    let Some((stem, extension)) = name.rsplit_once('.') else {
        return false;
    };
    let hashed = stem.len() == 8 && stem.bytes().all(|b| b.is_ascii_hexdigit());
    extension == "pem" || (hashed && !extension.is_empty() && extension.bytes().all(|b| b.is_ascii_digit()))
}

/// The certificates of a PEM file.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    Ok(pem(&bytes(path)?))
}

/// What is no certificate, or a broken one, is passed over.
fn pem(bytes: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(bytes)
        .filter_map(Result::ok)
        .collect()
}

fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| {
            // a FIFO or device among certificates would block us for ever
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("it is not a regular file"));
            }
            file.take(MAX_FILE + 1).read_to_end(&mut bytes)
        })
        .map_err(|source| Error::Unreadable {
            kind: "file",
            path: path.to_owned(),
            source,
        })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Error::TooLarge {
            path: path.to_owned(),
            limit: MAX_FILE,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ca_files() {
        for name in ["5ca1ab1e.0", "5CA1AB1E.12", "any.pem"] {
            assert!(is_ca_name(name), "{name}");
        }
        for name in [
            "5ca1ab1e.r0",
            "5ca1ab1.0",
            "x.signing_policy",
            "pem",
            "5ca1ab1e.",
            "5ca1ab1g.0",
            "ca.crl_url",
        ] {
            assert!(!is_ca_name(name), "{name}");
        }
    }
}
