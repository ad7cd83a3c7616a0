//! A private key's file: opened, then judged, then read.

use std::{fs, io::Read, os::unix::fs::MetadataExt, path::Path, sync::Arc};

use russh::keys::PrivateKey;
use zeroize::Zeroizing;

use crate::{Error, KeyFault};

/// The largest private key anybody uses, in bytes, several times over.
const MAX_KEY: u64 = 64 * 1024;

/// A private key in the text form ssh-keygen writes. Wiped when dropped.
pub(crate) struct Key(Zeroizing<String>);

impl Key {
    /// Reads the key.
    ///
    /// # Errors
    /// [`Error::KeyFile`]: unreadable, readable by others, somebody else's, or wanting a passphrase.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        read(path).map_err(|why| Error::KeyFile {
            path: path.to_owned(),
            why,
        })
    }

    /// The key itself, for the library that signs with it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

fn read(path: &Path) -> Result<Key, KeyFault> {
    let unreadable = |error| KeyFault::Unreadable(Arc::new(error));
    let file = fs::File::open(path).map_err(unreadable)?;
    // The open file is judged: what the path names may be another one by now.
    let meta = file.metadata().map_err(unreadable)?;
    let owner = meta.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(KeyFault::Owner { owner });
    }
    if meta.mode() & 0o077 != 0 {
        return Err(KeyFault::Mode {
            mode: meta.mode() & 0o7777,
        });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_KEY).read_to_string(&mut text).map_err(unreadable)?;
    let encrypted = text.contains("ENCRYPTED")
        || PrivateKey::from_openssh(text.as_str()).is_ok_and(|key| key.is_encrypted());
    if encrypted {
        return Err(KeyFault::Encrypted);
    }
    if !text.contains("PRIVATE KEY") {
        return Err(KeyFault::NotAKey {
            detail: "there is no `PRIVATE KEY` in it".into(),
        });
    }
    Ok(Key(text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn fault(text: &str, mode: u32) -> Option<KeyFault> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        match Key::read(&path) {
            Ok(_) => None,
            Err(Error::KeyFile { why, .. }) => Some(why),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_key_others_may_read_is_refused() {
        let text = "-----BEGIN OPENSSH PRIVATE KEY-----\n";
        assert!(fault(text, 0o600).is_none());
        assert!(matches!(fault(text, 0o640), Some(KeyFault::Mode { mode: 0o640 })));
    }

    #[test]
    fn what_is_no_usable_key_is_named() {
        assert!(matches!(
            fault("ssh-ed25519 AAAA", 0o600),
            Some(KeyFault::NotAKey { .. })
        ));
        assert!(matches!(
            fault("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", 0o600),
            Some(KeyFault::Encrypted)
        ));
        assert!(matches!(
            Key::read(Path::new("/nonexistent")),
            Err(Error::KeyFile { .. })
        ));
    }
}
