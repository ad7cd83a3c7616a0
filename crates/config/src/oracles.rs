//! What must hold of `ssh_config`, for any text whatever: for fuzzing and its regressions.
//!
//! An oracle panics if something that must hold does not; that it returns is all there is to know otherwise.
#![expect(clippy::panic, reason = "this is how an oracle speaks")]

use std::path::Path;

use crate::ssh::{self, ConfigFiles, SshOptions, Target};

fn target() -> Target<'static> {
    Target {
        host: "gpvm01.example.org",
        user: "dunepro",
        home: Some(Path::new("/home/mtk")),
    }
}

/// `ssh_config`: the same text says the same with comments between its lines, read a second time it adds nothing (of
/// each option the first value counts), and every path that comes of it is whole.
pub fn ssh_config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let once = applied(&text, SshOptions::default());
    let commented: String = text
        .lines()
        .map(|line| format!("# Host *\n\t\n{line}\r\n"))
        .collect();
    same(
        &once,
        &applied(&commented, SshOptions::default()),
        "with comments",
    );
    // what was met first decides what `Match host` and `Match user` see, so this holds without them only
    if !text.to_lowercase().contains("match") {
        same(&once, &applied(&text, once.clone()), "read twice");
    }
    let mut options = once;
    let files = options.user_known_hosts.clone().unwrap_or_default();
    let keys = options.identity_files.clone();
    for path in [
        options.paths("known hosts", &files, target()),
        options.paths("keys", &keys, target()),
    ]
    .concat()
    {
        if !path.is_absolute() {
            panic!("{} is not whole", path.display());
        }
    }
    drop(options.address(target().host));
    // The same as a site's own line of options: that is split first.
    if let Ok(text) = std::str::from_utf8(data) {
        drop(ssh::parse(text));
    }
}

fn applied(text: &str, mut options: SshOptions) -> SshOptions {
    ConfigFiles::of_text(text).apply(&mut options, target());
    options
}

fn same(one: &SshOptions, other: &SshOptions, what: &str) {
    // keys add up, and so do complaints
    let first_key = |options: &SshOptions| options.identity_files.first().cloned();
    if one.single_values() != other.single_values() || first_key(one) != first_key(other) {
        panic!("{what}: {one:?} is not {other:?}");
    }
}
