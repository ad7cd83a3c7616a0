//! Splitting a line of options as the shell does, and finding the word somebody meant.

/// Splits as google/shlex does, which the Go service uses for its option strings: blanks separate, quotes join,
/// a backslash outside single quotes takes the next character as it is, `#` at the start of a word begins a comment.
pub(crate) fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '#' if word.is_none() => {
                if !chars.by_ref().any(|c| c == '\n') {
                    break;
                }
            }
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err("a single quote is not closed"),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => word.push(chars.next().ok_or("it ends in a backslash")?),
                        Some(c) => word.push(c),
                        None => return Err("a double quote is not closed"),
                    }
                }
            }
            '\\' => word
                .get_or_insert_default()
                .push(chars.next().ok_or("it ends in a backslash")?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// The value of a flag among words: `-a x`, `-ax`, `-a=x`, `--vaultserver x`, `--vaultserver=x`. The last one counts.
pub(crate) fn flag(words: &[String], short: char, long: &str) -> Option<String> {
    let mut found = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some(rest) = word.strip_prefix("--") {
            match rest.split_once('=') {
                Some((name, value)) if name == long => found = Some(value.to_owned()),
                None if rest == long => found = words.next().cloned().or(found),
                _ => {}
            }
        } else if let Some(rest) = word.strip_prefix('-').and_then(|r| r.strip_prefix(short)) {
            if rest.is_empty() {
                found = words.next().cloned().or(found);
            } else {
                found = Some(rest.strip_prefix('=').unwrap_or(rest).to_owned());
            }
        }
    }
    found.filter(|v| !v.is_empty())
}

/// The known word nearest to what was written, if one is near enough to have been meant.
#[must_use]
pub fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let folded = written.to_lowercase();
    let limit = (written.chars().count() / 4).max(2);
    known
        .into_iter()
        .map(|word| (distance(&folded, &word.to_lowercase()), word))
        // two edits turn any two-letter word into any other
        .filter(|(d, word)| *d <= limit && *d * 2 < word.chars().count())
        .min_by_key(|(d, _)| *d)
        .map(|(_, word)| word)
}

/// Edits from one to the other: insert, remove, replace, swap two neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(128).collect(), b.chars().take(128).collect());
    let mut older: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let get = |r: &[usize], k: usize| r.get(k).copied().unwrap_or(usize::MAX / 2);
            let mut best = (get(&last, j) + usize::from(x != y))
                .min(get(&last, j + 1) + 1)
                .min(get(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(get(&older, j - 1) + 1);
            }
            row.push(best);
        }
        older = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

/// The Vault server that options of htgettoken name.
pub(crate) fn vault_server(options: &str) -> Option<String> {
    flag(&split(options).ok()?, 'a', "vaultserver")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_like_a_shell() {
        let words = split(r#"-o Port=22  -o "User KnownHosts=/a b" -o 'x"y' a\ b "" # rest"#).unwrap();
        assert_eq!(
            words,
            [
                "-o",
                "Port=22",
                "-o",
                "User KnownHosts=/a b",
                "-o",
                "x\"y",
                "a b",
                ""
            ]
        );
        assert!(split("'x").is_err());
        assert!(split("\"x").is_err());
        assert!(split("x\\").is_err());
        assert_eq!(split("").unwrap(), Vec::<String>::new());
        assert_eq!(split("# only\nx").unwrap(), ["x"]);
    }

    #[test]
    fn finds_a_flag_in_any_of_its_forms() {
        for text in [
            "-a vault.x",
            "-avault.x",
            "-a=vault.x",
            "--vaultserver vault.x",
            "-v --vaultserver=vault.x -i y",
        ] {
            assert_eq!(
                flag(&split(text).unwrap(), 'a', "vaultserver").as_deref(),
                Some("vault.x"),
                "{text}"
            );
        }
        for text in ["", "-a", "--vaultserver=", "-b x", "--vaultserverx y"] {
            assert_eq!(flag(&split(text).unwrap(), 'a', "vaultserver"), None, "{text}");
        }
    }

    #[test]
    fn the_near_miss_is_found_and_the_far_one_is_not() {
        let known = [
            "account",
            "destinationNodes",
            "desiredUIDOverride",
            "primary",
            "host",
        ];
        let near = |w| nearest(w, known);
        assert_eq!(near("acount"), Some("account"));
        assert_eq!(near("DestinationNode"), Some("destinationNodes"));
        assert_eq!(near("desierdUIDOverride"), Some("desiredUIDOverride"));
        assert_eq!(near("hosts"), Some("host"));
        assert_eq!(near("xy"), None);
        assert_eq!(near("somethingElse"), None);
    }
}
