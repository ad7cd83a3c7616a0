//! Where tokens lie (WLCG bearer token discovery, htgettoken's names), and how a file of one is read and written.

use std::{
    env, fs,
    io::{Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use credential::act::{Act, Verb, digest_of_line, tell};
use credential::{BearerToken, NodeToken, VaultToken};

/// The place of a file of this host in the audit log.
const HERE: &str = "this host";

/// The longest token anybody issues has some kilobytes.
pub(super) const LONGEST: u64 = 64 * 1024;

/// Files are named after whom we act as.
fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// htgettoken's, always there, whatever the environment says.
pub(super) const VAULT_TOKEN_FILE: &str = "/tmp/vt_u%uid";

/// A path as htgettoken takes it: `%uid`, and with `home` a `~` in front.
pub(super) fn path(text: &str, home: bool) -> PathBuf {
    let text = text.replace("%uid", &uid().to_string());
    match (text.strip_prefix("~/"), env::var_os(crate::env::HOME)) {
        (Some(rest), Some(at)) if home => PathBuf::from(at).join(rest),
        _ => text.into(),
    }
}

/// What stands for a stream of ours.
pub(super) fn is_device(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.starts_with("/dev/std") || text.starts_with("/dev/fd")
}

/// Where a Vault token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    None,
    File(PathBuf),
    /// Somebody hands one over, to be exchanged.
    Device(PathBuf),
    /// A variable holds the token itself.
    Variable(String),
}

/// `/tmp/vt_u<uid>`, or what htdestroytoken's variable says.
pub(super) fn vault_token_file_or_variable() -> PathBuf {
    let given = env::var_os(crate::env::VAULT_TOKEN_FILE).filter(|f| !f.is_empty());
    given.map_or_else(|| path(VAULT_TOKEN_FILE, false), PathBuf::from)
}

/// The other Vault tokens of ours below /tmp, `vt_u<uid>-...` and `vt_u<uid>....`.
pub(super) fn other_vault_token_files() -> std::io::Result<Vec<PathBuf>> {
    let stem = format!("vt_u{}", uid());
    let mut found = Vec::new();
    for entry in fs::read_dir("/tmp")? {
        let entry = entry?;
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(&stem));
        if !rest.is_some_and(|rest| rest.starts_with(['-', '.'])) {
            continue;
        }
        // somebody else may have removed it just now
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_file() && meta.uid() == uid() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// What a robot's service put there: every node has the same token.
pub(super) fn is_managed(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.mode() & 0o777 == 0o400)
}

/// Where a bearer token is written: `BEARER_TOKEN_FILE`, else `bt_u<uid>` in `XDG_RUNTIME_DIR` or `/tmp`.
pub(crate) fn bearer_file() -> PathBuf {
    if let Some(file) = env::var_os(crate::env::BEARER_TOKEN_FILE).filter(|f| !f.is_empty()) {
        return file.into();
    }
    let dir = env::var_os(crate::env::XDG_RUNTIME_DIR).filter(|d| !d.is_empty());
    PathBuf::from(dir.unwrap_or_else(|| "/tmp".into())).join(format!("bt_u{}", uid()))
}

/// Where WLCG bearer token discovery looks for a file, in its order.
pub(crate) fn bearer_files() -> Vec<PathBuf> {
    let mut files = vec![bearer_file(), PathBuf::from(format!("/tmp/bt_u{}", uid()))];
    // without a folder of the session they are the same
    files.dedup();
    files
}

/// The bearer token a WLCG tool would use here: the environment's, else that of the files in their order.
pub(super) fn bearer() -> anyhow::Result<BearerToken> {
    if let Ok(text) = env::var(crate::env::BEARER_TOKEN)
        && !text.trim().is_empty()
    {
        return BearerToken::new(text.trim().to_owned()).context("BEARER_TOKEN holds no token");
    }
    let files = bearer_files();
    for path in &files {
        if path.exists() {
            let text = read(path)?;
            if !text.is_empty() {
                return BearerToken::new(text).with_context(|| format!("{} holds no token", path.display()));
            }
        }
    }
    bail!(
        "there is no bearer token in BEARER_TOKEN, {}",
        files
            .iter()
            .map(|file| file.display().to_string())
            .collect::<Vec<_>>()
            .join(" or ")
    )
}

/// The text of a token's file, without the blanks around it.
pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
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
pub(crate) fn write(path: &Path, token: &BearerToken) -> anyhow::Result<()> {
    // the file it is for
    place(path, token.expose())
}

/// The same for a Vault token; the type says that it may be a file.
pub(crate) fn write_vault(path: &Path, token: &NodeToken) -> anyhow::Result<()> {
    // the file it is for
    place(path, token.expose())
}

/// To whoever reads our stream. A token that lives long goes into no file by this way either.
pub(super) fn write_device(path: &Path, token: &super::obtain::Held) -> anyhow::Result<()> {
    let long = matches!(token, super::obtain::Held::Long(..));
    // the stream it was asked for on
    hand_over(path, token.expose(), long)
}

/// The same for a bearer token.
pub(super) fn write_bearer_device(path: &Path, token: &BearerToken) -> anyhow::Result<()> {
    // the stream it was asked for on
    hand_over(path, token.expose(), false)
}

fn hand_over(path: &Path, text: &str, no_file: bool) -> anyhow::Result<()> {
    let shown = path.display();
    let number = match path.to_str() {
        Some("/dev/stdout") => "1",
        Some("/dev/stderr") => "2",
        Some(other) => other.strip_prefix("/dev/fd/").unwrap_or_default(),
        None => "",
    };
    anyhow::ensure!(
        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()),
        "{shown} is not a stream that can be written to"
    );
    let open = format!("/proc/self/fd/{number}");
    let meta = fs::metadata(&open).with_context(|| format!("{shown} is not open"))?;
    anyhow::ensure!(
        !(no_file && meta.is_file()),
        "{shown} is a file, and a Vault token that lives so long is not written to one"
    );
    let said = || -> std::io::Result<()> {
        match number {
            // as it is: opening it by name truncates a file and may not be allowed
            "1" => write_line(&mut std::io::stdout().lock(), text),
            "2" => write_line(&mut std::io::stderr().lock(), text),
            _ => write_line(&mut fs::OpenOptions::new().append(true).open(&open)?, text),
        }
    };
    said().with_context(|| format!("{shown} cannot be written"))
}

fn write_line(to: &mut impl Write, text: &str) -> std::io::Result<()> {
    to.write_all(text.as_bytes())?;
    to.write_all(b"\n")?;
    to.flush()
}

fn place(path: &Path, text: &str) -> anyhow::Result<()> {
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
        write_line(&mut file, text)?;
        fs::rename(&temp, path)
    };
    placed().map_err(|error| {
        let _ = fs::remove_file(&temp);
        anyhow::Error::new(error).context(format!("{shown} cannot be written"))
    })?;
    let what = shown.to_string();
    let act = Act::new(Verb::Write, HERE).what(&what);
    tell(&act.digest(digest_of_line(text)));
    Ok(())
}

/// Whether there was one.
pub(super) fn remove(path: &Path) -> anyhow::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => {
            let what = path.display().to_string();
            tell(&Act::new(Verb::Remove, HERE).what(&what));
            Ok(true)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{} cannot be removed", path.display())),
    }
}
