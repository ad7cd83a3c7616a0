//! `ssh_config(5)`: lines, `Host` and `Match` blocks, `Include`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Place,
    options::{SshOptions, Target},
};
use crate::disk::{self, Failed};

/// Deeper than ssh itself goes.
const MAX_DEPTH: usize = 16;

/// Nobody's configuration comes near either.
const MAX_FILE: u64 = 1024 * 1024;
const MAX_FILES: usize = 256;

/// The configuration files as read, for any node.
#[derive(Debug, Default)]
pub(crate) struct ConfigFiles {
    files: Vec<Vec<Line>>,
    /// What was wrong with reading them, whichever the node, and with which file of them.
    troubles: Vec<(Option<PathBuf>, String)>,
    count: usize,
}

#[derive(Debug)]
struct Line {
    /// `file:line: `
    place: String,
    number: u32,
    what: What,
}

#[derive(Debug)]
enum What {
    Option(String, Vec<String>),
    Host(Vec<String>),
    Match(Vec<String>),
    Include(Vec<Vec<Line>>),
    Bad(&'static str),
}

impl ConfigFiles {
    /// `~/.ssh/config` first, then the system's; those that are there.
    pub(crate) fn read(home: Option<&Path>, system: Option<&Path>) -> Self {
        let mut all = Self::default();
        let ssh = home.map(|home| home.join(".ssh"));
        if let Some(ssh) = &ssh {
            all.take(&ssh.join("config"), ssh, home);
        }
        if let Some(system) = system {
            all.take(system, system.parent().unwrap_or(Path::new("/")), home);
        }
        all
    }

    /// One file only, as `ssh -F` means it.
    pub(crate) fn only(file: &Path, home: Option<&Path>) -> Self {
        let mut all = Self::default();
        let base = home.map_or_else(|| PathBuf::from("/"), |home| home.join(".ssh"));
        if file.exists() {
            all.take(file, &base, home);
        } else {
            all.troubles
                .push((None, format!("{} is not there", file.display())));
        }
        all
    }

    fn take(&mut self, file: &Path, base: &Path, home: Option<&Path>) {
        if let Some(lines) = self.lines(file, base, home, 0) {
            self.files.push(lines);
        }
    }

    /// The lines of a file that is there.
    fn lines(&mut self, file: &Path, base: &Path, home: Option<&Path>, depth: usize) -> Option<Vec<Line>> {
        self.count += 1;
        if depth > MAX_DEPTH || self.count > MAX_FILES {
            let message = format!("{}: files are included too deeply or too often", file.display());
            self.troubles.push((Some(file.to_owned()), message));
            return None;
        }
        // a way to say: none
        if file == Path::new("/dev/null") {
            return None;
        }
        let bytes = match disk::read(file, MAX_FILE) {
            Ok((bytes, _)) => bytes,
            Err(Failed::Io(error)) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                let message = format!("{} cannot be read ({error})", file.display());
                self.troubles.push((Some(file.to_owned()), message));
                return None;
            }
        };
        let text = String::from_utf8_lossy(&bytes);
        let name = file.display().to_string();
        Some(read_lines(&text, &name, &mut |patterns| {
            self.included(patterns, base, home, depth)
        }))
    }

    /// What a text says, as if a file had it; nothing is included.
    #[cfg(feature = "oracles")]
    pub(crate) fn of_text(text: &str) -> Self {
        Self {
            files: vec![read_lines(text, "ssh_config", &mut |_| Vec::new())],
            ..Self::default()
        }
    }

    fn included(
        &mut self,
        patterns: &[String],
        base: &Path,
        home: Option<&Path>,
        depth: usize,
    ) -> Vec<Vec<Line>> {
        let mut all = Vec::new();
        for pattern in patterns {
            let path = match (pattern.strip_prefix("~/"), home) {
                (Some(rest), Some(home)) => home.join(rest),
                _ => base.join(pattern),
            };
            for file in matching(&path) {
                all.extend(self.lines(&file, base, home, depth + 1));
            }
        }
        all
    }

    /// Adds to `options` what the files say of `target`, after what is there already.
    pub(crate) fn apply(&self, options: &mut SshOptions, target: Target<'_>) {
        for (file, trouble) in &self.troubles {
            options.complain(true, trouble.clone(), "");
            if let (Some(complaint), Some(file)) = (options.complaints.last_mut(), file) {
                let file = file.clone();
                complaint.place = Some(Place { file, line: 0 });
            }
        }
        for lines in &self.files {
            walk(lines, true, options, target);
        }
    }
}

fn read_lines(text: &str, file: &str, include: &mut dyn FnMut(&[String]) -> Vec<Vec<Line>>) -> Vec<Line> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let what = match split(line) {
            Err(why) => What::Bad(why),
            Ok((keyword, values)) => match keyword.to_lowercase().as_str() {
                "host" => What::Host(values),
                "match" => What::Match(values),
                "include" => What::Include(include(&values)),
                _ => What::Option(keyword, values),
            },
        };
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let place = format!("{file}:{number}: ");
        lines.push(Line { place, number, what });
    }
    lines
}

fn walk(lines: &[Line], outer: bool, options: &mut SshOptions, target: Target<'_>) {
    let mut active = outer;
    for line in lines {
        let place = &line.place;
        let before = options.complaints.len();
        match &line.what {
            What::Host(patterns) => active = outer && listed(patterns, target.host),
            What::Match(criteria) => active = outer && matches(criteria, place, options, target),
            _ if !active => {}
            What::Option(name, values) => options.option(name, values, place),
            What::Include(files) => files.iter().for_each(|lines| walk(lines, true, options, target)),
            What::Bad(why) => options.complain(true, format!("{place}{why}"), ""),
        }
        let file = place.strip_suffix(&format!(":{}: ", line.number));
        // what an included file is blamed for has its place already
        for complaint in options.complaints.iter_mut().skip(before) {
            complaint.place.get_or_insert_with(|| Place {
                file: file.unwrap_or_default().into(),
                line: line.number,
            });
        }
    }
}

/// Whether all criteria hold. A block with one that mtk cannot judge is left out, and that is said.
fn matches(criteria: &[String], place: &str, options: &mut SshOptions, target: Target<'_>) -> bool {
    if criteria.is_empty() {
        options.complain(true, format!("{place}Match says nothing"), "");
        return false;
    }
    let mut words = criteria.iter();
    while let Some(word) = words.next() {
        let (yes, name) = match word.strip_prefix('!') {
            Some(name) => (false, name),
            None => (true, word.as_str()),
        };
        let name = name.to_lowercase();
        let holds = match name.as_str() {
            "all" => true,
            "host" | "originalhost" | "user" => {
                let Some(list) = words.next() else {
                    options.complain(true, format!("{place}Match {name} names nothing"), "");
                    return false;
                };
                let patterns: Vec<String> = list.split(',').map(str::to_owned).collect();
                let address = options.address(target.host);
                let subject = match name.as_str() {
                    "host" => address.as_str(),
                    "originalhost" => target.host,
                    _ => options.user.as_deref().unwrap_or(target.user),
                };
                listed(&patterns, subject)
            }
            other => {
                let message = format!("{place}Match {other} is not supported: its block is left out");
                options.complain(true, message, "use Match host or Match user");
                return false;
            }
        };
        if holds != yes {
            return false;
        }
    }
    true
}

/// A list of patterns, of which a negated one that matches decides.
fn listed(patterns: &[String], subject: &str) -> bool {
    let subject = subject.to_lowercase();
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(not) if glob(&not.to_lowercase(), &subject) => return false,
            Some(_) => {}
            None => found |= glob(&pattern.to_lowercase(), &subject),
        }
    }
    found
}

/// `*` and `?`, in linear space and without backtracking beyond the last star.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == '?' || Some(c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    p = after;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

/// The files a path with patterns in its last part names, in order.
fn matching(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Vec::new();
    };
    if !name.contains(['*', '?']) {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|entry| {
            let found = entry.file_name();
            let found = found.to_string_lossy();
            !found.starts_with('.') && glob(name, &found)
        })
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

/// Keyword and arguments of a line: parted by blanks or one `=`.
fn split(line: &str) -> Result<(String, Vec<String>), &'static str> {
    let end = line.find([' ', '\t', '=', '"']).unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    Ok((keyword.to_owned(), arguments(rest)?))
}

/// Arguments parted by blanks; quotes join, and `#` at the start of one begins a comment.
pub(super) fn arguments(text: &str) -> Result<Vec<String>, &'static str> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' => all.extend(word.take()),
            '#' if word.is_none() => break,
            '"' | '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some(end) if end == c => break,
                        Some(inside) => word.push(inside),
                        None => return Err("a quote is not closed"),
                    }
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    Ok(all)
}
