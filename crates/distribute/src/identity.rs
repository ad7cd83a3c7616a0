//! What is needed to log in with `publickey`, read and judged before a node is asked.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use russh::keys::{Certificate, ssh_key::certificate::CertType};

use crate::{Error, Identity, KeyFault, dial::clip, key::Key};

/// The largest certificate anybody uses, in bytes, several times over.
const MAX_CERTIFICATE: u64 = 64 * 1024;

/// How many keys of an agent are tried: sshd ends the session at the sixth refusal (`MaxAuthTries`).
pub(crate) const MAX_AGENT_KEYS: usize = 5;

/// One thing to try.
pub(crate) enum Credential {
    Key {
        path: PathBuf,
        key: Key,
        /// As its file has it, for libssh2, and parsed, for russh.
        certificate: Option<(String, Box<Certificate>)>,
    },
    Agent {
        socket: PathBuf,
    },
}

/// Reads what `identities` name. Blocks: home directories may lie on a file server.
pub(crate) fn load(identities: &[Identity]) -> Result<Vec<Credential>, Error> {
    let mut all = Vec::with_capacity(identities.len());
    for identity in identities {
        match identity {
            Identity::Key(path) => {
                let beside = beside(path);
                if beside.exists() {
                    match certificate(path, &beside) {
                        Ok(certificate) => all.push(Credential::Key {
                            path: path.clone(),
                            key: Key::read(path)?,
                            certificate: Some(certificate),
                        }),
                        // It was not asked for by name, and the key may do without it.
                        Err(error) => tracing::warn!(%error, "a certificate is passed over"),
                    }
                }
                all.push(Credential::Key {
                    path: path.clone(),
                    key: Key::read(path)?,
                    certificate: None,
                });
            }
            Identity::Certificate {
                key,
                certificate: file,
            } => all.push(Credential::Key {
                path: key.clone(),
                key: Key::read(key)?,
                certificate: Some(certificate(key, file)?),
            }),
            Identity::Agent { socket } => all.push(Credential::Agent {
                socket: socket.clone(),
            }),
        }
    }
    Ok(all)
}

/// Where ssh looks for a key's certificate.
fn beside(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push("-cert.pub");
    name.into()
}

fn certificate(key: &Path, file: &Path) -> Result<(String, Box<Certificate>), Error> {
    let refuse = |detail: String| Error::KeyFile {
        path: key.to_owned(),
        why: KeyFault::Certificate {
            path: file.to_owned(),
            detail,
        },
    };
    let text = read_bounded(file).map_err(|error| refuse(error.to_string()))?;
    let certificate = Certificate::from_openssh(text.trim())
        .map_err(|error| refuse(clip(&format!("it is no certificate: {error}"))))?;
    if certificate.cert_type() != CertType::User {
        return Err(refuse("it is a host's certificate, not a user's".to_owned()));
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    if certificate.valid_before() <= now {
        let ago = Duration::from_secs(now - certificate.valid_before());
        return Err(refuse(format!("it ended {} minutes ago", ago.as_secs() / 60)));
    }
    Ok((text.trim().to_owned(), Box::new(certificate)))
}

fn read_bounded(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(file)?
        .take(MAX_CERTIFICATE)
        .read_to_string(&mut text)?;
    Ok(text)
}
