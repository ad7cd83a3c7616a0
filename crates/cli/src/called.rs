//! mtk under the names of the programs it stands in for (a symlink): their command lines become ours.

use std::{ffi::OsString, path::Path};

/// The name and what it stands for.
const NAMES: &[(&str, &[&str])] = &[
    ("htgettoken", &["token", "get", "--like-htgettoken"]),
    ("condor_vault_storer", &["storer", "--"]),
    ("condor_credential_storer", &["storer", "--"]),
    ("htdecodetoken", &["token", "show"]),
    ("htdestroytoken", &["token", "destroy", "--all"]),
    ("token-push", &["token-push"]),
    ("refresh-uids-from-ferry", &["refresh-uids-from-ferry"]),
];

/// The command line, as if it had been typed for `mtk`.
pub(crate) fn arguments(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args = args.into_iter();
    let Some(first) = args.next() else {
        return Vec::new();
    };
    let name = Path::new(&first).file_name().and_then(|name| name.to_str());
    let Some((name, words)) = NAMES.iter().find(|(known, _)| name == Some(known)) else {
        return std::iter::once(first).chain(args).collect();
    };
    let mut all: Vec<OsString> = vec!["mtk".into()];
    all.extend(words.iter().map(OsString::from));
    match *name {
        "htgettoken" => all.extend(args.map(as_htgettokens)),
        "token-push" | "refresh-uids-from-ferry" => all.extend(args.filter_map(as_pflags)),
        _ => all.extend(args),
    }
    all
}

/// A word of the Go service's, whose switches may be told true or false: `--test=false` is as if nothing stood there.
fn as_pflags(word: OsString) -> Option<OsString> {
    let Some((flag, value)) = word.to_str().and_then(|text| text.split_once('=')) else {
        return Some(word);
    };
    match value {
        _ if !flag.starts_with('-') => Some(word),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(flag.into()),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => None,
        _ => Some(word),
    }
}

/// A word of htgettoken's, whose `-c` is `--configdir`; ours is `--config`.
pub(crate) fn as_htgettokens(word: OsString) -> OsString {
    match word.to_str().and_then(|text| text.strip_prefix("-c")) {
        Some("") => "--configdir".into(),
        Some(dir) => format!("--configdir={dir}").into(),
        None => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> String {
        let words = arguments(line.split(' ').map(OsString::from));
        words
            .iter()
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn names_become_words() {
        assert_eq!(of("/usr/bin/mtk run -c x"), "/usr/bin/mtk run -c x");
        assert_eq!(
            of("/usr/bin/htgettoken -a v -c /x -c/y"),
            "mtk token get --like-htgettoken -a v --configdir /x --configdir=/y"
        );
        assert_eq!(
            of("htgettoken -c-c/x"),
            "mtk token get --like-htgettoken --configdir=-c/x"
        );
        assert_eq!(of("htdecodetoken -H -"), "mtk token show -H -");
        assert_eq!(of("condor_vault_storer -v dune"), "mtk storer -- -v dune");
    }
}
