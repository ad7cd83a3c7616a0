//! mtk under the names of the programs it stands in for (a symlink): their command lines become ours.

use std::{ffi::OsString, path::Path};

/// The name and what it stands for.
const NAMES: &[(&str, &[&str])] = &[
    ("htgettoken", &["token", "get", "--like-htgettoken"]),
    ("condor_vault_storer", &["storer", "--"]),
    ("condor_credential_storer", &["storer", "--"]),
    ("htdecodetoken", &["token", "show"]),
    ("htdestroytoken", &["token", "destroy", "--all"]),
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
    let htgettoken = *name == "htgettoken";
    all.extend(args.map(|word| if htgettoken { as_htgettokens(word) } else { word }));
    all
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
