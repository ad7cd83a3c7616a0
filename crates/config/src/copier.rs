//! `fileCopierOptions`: options for rsync, of which the mode of the files means something here.

use crate::words;

/// The mode of the files on nodes if nothing else is asked.
pub(crate) const DEFAULT_MODE: u32 = 0o400;
/// What the file has before it is copied; symbolic modes start from it.
const SOURCE_MODE: u32 = 0o600;

/// Options of rsync that change nothing here: what they ask is done anyway, or is about speed and talk.
const HARMLESS: &[&str] = &[
    "-p",
    "--perms",
    "-a",
    "--archive",
    "-t",
    "--times",
    "-q",
    "--quiet",
    "-v",
    "--verbose",
    "-z",
    "--compress",
    "-W",
    "--whole-file",
    "-c",
    "--checksum",
];

/// What the options come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Copier {
    /// The mode asked for, if it may be used.
    pub(crate) mode: Option<u32>,
    /// Why a mode asked for is not used.
    pub(crate) bad: Option<String>,
    /// Who is to own the files (`--chown=USER:GROUP`), as written.
    pub(crate) owner: Option<(String, String)>,
    /// Words that mean nothing here.
    pub(crate) unsupported: Vec<String>,
}

/// Reads a line of rsync options.
pub(crate) fn parse(text: &str) -> Result<Copier, &'static str> {
    let mut out = Copier::default();
    let words = words::split(text)?;
    let mut words = words.iter();
    let mut asked = Vec::new();
    while let Some(word) = words.next() {
        let chown = word.strip_prefix("--chown");
        let owner = match chown {
            Some("") => words.next().map(String::as_str),
            Some(rest) => rest.strip_prefix('='),
            None => None,
        };
        if let Some(owner) = owner {
            let (user, group) = owner.split_once(':').unwrap_or((owner, ""));
            out.owner = Some((user.to_owned(), group.to_owned()));
            continue;
        }
        match word.strip_prefix("--chmod") {
            Some("") => asked.extend(words.next().map(String::as_str)),
            Some(rest) if rest.starts_with('=') => asked.push(rest.trim_start_matches('=')),
            _ if HARMLESS.contains(&word.as_str()) => {}
            _ => out.unsupported.push(word.clone()),
        }
    }
    if asked.is_empty() {
        return Ok(out);
    }
    // several --chmod add up, as in rsync
    match chmod(&asked.join(",")) {
        Ok(mode) if mode & 0o077 != 0 => {
            out.bad = Some(format!(
                "mode {mode:04o} would let others than the account read its tokens"
            ));
        }
        Ok(mode) if mode & 0o400 == 0 => {
            out.bad = Some(format!(
                "mode {mode:04o} would keep the account from reading its tokens"
            ));
        }
        Ok(mode) if mode & 0o7100 != 0 => {
            out.bad = Some(format!("mode {mode:04o} is not one for a file of data"))
        }
        Ok(mode) => out.mode = Some(mode),
        Err(why) => out.bad = Some(why),
    }
    Ok(out)
}

/// rsync's `--chmod`: octal or symbolic parts, `F` for files only; parts with `D` are about directories.
fn chmod(text: &str) -> Result<u32, String> {
    let mut mode = SOURCE_MODE;
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let bad = || format!("{part:?} is not a mode");
        if part.starts_with('D') {
            continue;
        }
        let part = part.strip_prefix('F').unwrap_or(part);
        if part.bytes().all(|b| b.is_ascii_digit()) {
            mode = u32::from_str_radix(part, 8)
                .ok()
                .filter(|m| *m <= 0o7777)
                .ok_or_else(bad)?;
            continue;
        }
        let operator = part.find(['+', '-', '=']).ok_or_else(bad)?;
        let (who, rest) = part.split_at(operator);
        let mut mask = 0;
        for c in who.chars() {
            mask |= match c {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => 0o7777,
                _ => return Err(bad()),
            };
        }
        if who.is_empty() {
            mask = 0o7777;
        }
        let mut bits = 0;
        for c in rest.chars().skip(1) {
            bits |= match c {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                // execution only where somebody may execute already: not on our files
                'X' => 0,
                _ => return Err(bad()),
            };
        }
        let bits = bits & mask;
        match rest.chars().next() {
            Some('+') => mode |= bits,
            Some('-') => mode &= !bits,
            _ => mode = (mode & !(mask & 0o777)) | bits,
        }
    }
    Ok(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_files_options_mean_0400() {
        let c = parse("--perms --chmod=u=r,go=").unwrap();
        assert_eq!(
            c,
            Copier {
                mode: Some(0o400),
                ..Copier::default()
            }
        );
    }

    #[test]
    fn modes_in_every_form() {
        for (text, mode) in [
            ("400", 0o400),
            ("0600", 0o600),
            ("u=rw,go=", 0o600),
            ("a-w", 0o400),
            ("F400,D700", 0o400),
            ("Fu-w", 0o400),
            ("go-rwx", 0o600),
            ("u=rX,go=", 0o400),
            ("", 0o600),
        ] {
            assert_eq!(chmod(text), Ok(mode), "{text}");
        }
        for text in ["999", "u", "u=q", "z=r", "77777"] {
            assert!(chmod(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mode_that_opens_or_locks_the_file_is_not_used() {
        for text in [
            "--chmod=644",
            "--chmod=go+r",
            "--chmod=u=",
            "--chmod=700",
            "--chmod 4400",
            "--chmod=x",
        ] {
            let c = parse(text).unwrap();
            assert!(c.mode.is_none() && c.bad.is_some(), "{text}: {c:?}");
        }
    }

    #[test]
    fn an_owner_is_read() {
        let owner = |text| parse(text).unwrap().owner;
        let pair = |user: &str, group: &str| Some((user.to_owned(), group.to_owned()));
        assert_eq!(owner("--chown=dunepro"), pair("dunepro", ""));
        assert_eq!(owner("--chown 50001:9010"), pair("50001", "9010"));
        assert_eq!(owner("--chown=:dune -p"), pair("", "dune"));
        assert_eq!(owner("-p"), None);
    }

    #[test]
    fn other_options_are_named() {
        let c = parse("-p --rsync-path=/x --bwlimit 5").unwrap();
        assert_eq!(c.unsupported, ["--rsync-path=/x", "--bwlimit", "5"]);
        assert_eq!(c.mode, None);
        assert!(parse("'").is_err());
    }
}
