//! Where tokens lie (WLCG bearer token discovery, htgettoken's names), and how a file of one is read and written.

use std::{
    env, fs,
    io::{Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use credential::BearerToken;

/// The longest token anybody issues has some kilobytes.
const LONGEST: u64 = 64 * 1024;

/// Files are named after whom we act as.
fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// `/tmp/vt_u<uid>`: always there, whatever the environment says.
pub(super) fn vault_token_file() -> PathBuf {
    PathBuf::from(format!("/tmp/vt_u{}", uid()))
}

/// Where a bearer token is written: `BEARER_TOKEN_FILE`, else `bt_u<uid>` in `XDG_RUNTIME_DIR` or `/tmp`.
pub(super) fn bearer_file() -> PathBuf {
    if let Some(file) = env::var_os(crate::env::BEARER_TOKEN_FILE).filter(|f| !f.is_empty()) {
        return file.into();
    }
    let dir = env::var_os(crate::env::XDG_RUNTIME_DIR).filter(|d| !d.is_empty());
    PathBuf::from(dir.unwrap_or_else(|| "/tmp".into())).join(format!("bt_u{}", uid()))
}

/// The bearer token a WLCG tool would use here: the environment's, else that of the files in their order.
pub(super) fn bearer() -> anyhow::Result<BearerToken> {
    if let Ok(text) = env::var(crate::env::BEARER_TOKEN)
        && !text.trim().is_empty()
    {
        return BearerToken::new(text.trim().to_owned()).context("BEARER_TOKEN holds no token");
    }
    let file = bearer_file();
    let tmp = PathBuf::from(format!("/tmp/bt_u{}", uid()));
    for path in [&file, &tmp] {
        if path.exists() {
            let text = read(path)?;
            if !text.is_empty() {
                return BearerToken::new(text).with_context(|| format!("{} holds no token", path.display()));
            }
        }
    }
    bail!(
        "there is no bearer token in BEARER_TOKEN, {} or {}",
        file.display(),
        tmp.display()
    )
}

/// The text of a token's file, without the blanks around it.
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let file = fs::File::open(path).with_context(|| format!("{shown} cannot be read"))?;
    let meta = file
        .metadata()
        .with_context(|| format!("{shown} cannot be looked at"))?;
    if meta.is_file() && (meta.mode() & 0o077 != 0 || ![0, uid()].contains(&meta.uid())) {
        crate::output::warn(&format!("{shown} is open to others, or another user's"));
    }
    let mut text = String::new();
    file.take(LONGEST + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("{shown} cannot be read"))?;
    Ok(text.trim().to_owned())
}

/// Token and newline, 0600 from its first moment, in place of what was there in one step; a link is replaced.
pub(super) fn write(path: &Path, token: &BearerToken) -> anyhow::Result<()> {
    let shown = path.display();
    let name = path
        .file_name()
        .with_context(|| format!("{shown} is no file's name"))?;
    let beside = format!(".{}.{:016x}", name.to_string_lossy(), rand::random::<u64>());
    let temp = path.with_file_name(beside);
    let placed = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temp)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        // the file it is for
        file.write_all(token.expose().as_bytes())?;
        file.write_all(b"\n")?;
        fs::rename(&temp, path)
    };
    placed().map_err(|error| {
        let _ = fs::remove_file(&temp);
        anyhow::Error::new(error).context(format!("{shown} cannot be written"))
    })
}

/// Whether there was one.
pub(super) fn remove(path: &Path) -> anyhow::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{} cannot be removed", path.display())),
    }
}
