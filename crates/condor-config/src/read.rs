//! The statements of a file, carried out.

use std::{collections::BTreeSet, io, path::Path, path::PathBuf, sync::Arc};

use crate::{
    Config, Finding, Place, Source, Unevaluated,
    condition::{self, Version},
    expand::WORK,
    lines::{Statement, Statements, is_name},
    macros::{Macros, Setting},
    templates::{self, Template},
};

/// As deep as HTCondor goes.
const DEPTH: usize = 20;
/// No configuration has more files.
const FILES: usize = 1000;
/// Bytes that may be looked at for references while all of it is read: files that include themselves, each line of them an
/// `if` that expands to much.
const ALL_WORK: usize = 32 * WORK;
/// More is not said.
const FINDINGS: usize = 1000;

/// Reads file after file into one table.
pub(crate) struct Reader<'a> {
    source: &'a dyn Source,
    version: Version,
    pub(crate) macros: Macros,
    findings: Vec<Finding>,
    files: Vec<Arc<Path>>,
    /// Files looked for, those that are not there among them.
    tried: usize,
    work: usize,
}

/// An `if` that is open.
struct Branch {
    /// What stands around it is read.
    within: bool,
    /// A branch of it was read already.
    taken: bool,
    /// The branch we are in is read.
    reading: bool,
    /// `else` was there.
    last: bool,
}

/// Where a statement stands.
struct Here<'p> {
    path: &'p Arc<Path>,
    line: u32,
    depth: usize,
}

impl Here<'_> {
    fn place(&self) -> Place {
        Place::File {
            path: Arc::clone(self.path),
            line: self.line,
        }
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(source: &'a dyn Source, version: Version, macros: Macros) -> Self {
        Self {
            source,
            version,
            macros,
            findings: Vec::new(),
            files: Vec::new(),
            tried: 0,
            work: ALL_WORK,
        }
    }

    /// Does something that has to look for references, within what is left of the work for all.
    fn within<T>(&mut self, expand: impl FnOnce(&Macros, &mut usize) -> T) -> T {
        let may = self.work.min(WORK);
        let mut left = may;
        let done = expand(&self.macros, &mut left);
        self.work -= may - left;
        done
    }

    fn expand(&mut self, text: &str) -> Result<String, String> {
        self.within(|macros, work| macros.expand(text, work))
    }

    pub(crate) fn get(&mut self, name: &str) -> Result<Option<Setting>, Unevaluated> {
        self.within(|macros, work| macros.get(name, work))
    }

    pub(crate) fn finish(self) -> Config {
        Config {
            macros: self.macros,
            findings: self.findings,
            files: self.files,
        }
    }

    pub(crate) fn say(&mut self, place: Place, message: impl Into<String>) {
        let message = message.into();
        if self.findings.len() < FINDINGS {
            self.findings.push(Finding { place, message });
        }
    }

    pub(crate) fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.source.names(directory)
    }

    /// Reads a file. One that is not there is a finding unless it need not be.
    pub(crate) fn file(&mut self, path: &Path, needed: bool, asked: Option<Place>, depth: usize) {
        let path: Arc<Path> = path.into();
        let itself = Place::File {
            path: Arc::clone(&path),
            line: 0,
        };
        let asked = asked.unwrap_or(itself);
        if depth > DEPTH || self.tried >= FILES {
            return self.say(
                asked,
                "files include each other too deep, or there are too many: the rest is not read",
            );
        }
        self.tried += 1;
        match self.source.file(&path) {
            Ok(text) => {
                self.files.push(Arc::clone(&path));
                self.text(&text, &path, 0, depth);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !needed => {}
            Err(error) => self.say(asked, format!("{} cannot be read: {error}", path.display())),
        }
    }

    /// `line` other than 0: all lines are called so, for they stand in a template.
    fn text(&mut self, text: &str, path: &Arc<Path>, line: u32, depth: usize) {
        let mut branches: Vec<Branch> = Vec::new();
        let fixed = line > 0;
        let mut last = line;
        for (at, statement) in Statements::of(text) {
            let here = Here {
                path,
                line: if fixed { line } else { at },
                depth,
            };
            last = here.line;
            match statement {
                Statement::Line(text) => self.line(&text, &here, &mut branches),
                _ if !reading(&branches) => {}
                Statement::Block { name, body } => self.assign(&name, &body, &here),
                Statement::Endless { name, tag } => {
                    self.say(here.place(), format!("{name} begins a block that no @{tag} ends"));
                }
            }
        }
        if !branches.is_empty() {
            let place = Place::File {
                path: Arc::clone(path),
                line: last,
            };
            self.say(place, "an if has no endif");
        }
    }

    fn line(&mut self, line: &str, here: &Here<'_>, branches: &mut Vec<Branch>) {
        // USE_SHARED_PORT is no use
        let end = line
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.')
            .unwrap_or(line.len());
        let (word, rest) = line.split_at(end);
        let rest = rest.trim_start();
        // a setting may have such a name
        let assigned = rest.starts_with('=');
        match word.to_ascii_lowercase().as_str() {
            "if" if !assigned => {
                let within = reading(branches);
                let holds = within && self.holds(rest, here);
                branches.push(Branch {
                    within,
                    taken: holds,
                    reading: holds,
                    last: false,
                });
            }
            "elif" | "else" if !assigned => {
                let open = branches
                    .last()
                    .filter(|open| !open.last)
                    .map(|open| (open.within, open.taken));
                let Some((within, taken)) = open else {
                    return self.say(here.place(), format!("{word} without its if"));
                };
                let is_else = word.eq_ignore_ascii_case("else");
                let holds = within && !taken && (is_else || self.holds(rest, here));
                if let Some(open) = branches.last_mut() {
                    open.reading = holds;
                    open.taken |= holds;
                    open.last = is_else;
                }
            }
            "endif" if !assigned => {
                if branches.pop().is_none() {
                    self.say(here.place(), "endif without its if");
                }
            }
            _ if !reading(branches) => {}
            "use" if !assigned => self.template(rest, here),
            "include" if !assigned => self.include(rest, here),
            "error" | "warning" if rest.starts_with(':') => {
                // the text may expand to anything, so it is not repeated
                self.say(
                    here.place(),
                    format!("an {} of the site's own stands here", word.to_lowercase()),
                );
            }
            _ => self.assignment(line, here),
        }
    }

    fn holds(&mut self, condition: &str, here: &Here<'_>) -> bool {
        let version = self.version;
        let holds = self.within(|macros, work| condition::holds(condition, macros, version, work));
        holds.unwrap_or_else(|why| {
            self.say(here.place(), format!("this condition counts as false: {why}"));
            false
        })
    }

    fn assignment(&mut self, line: &str, here: &Here<'_>) {
        let Some(at) = outside(line, b"=:") else {
            return self.say(here.place(), "this line is not understood");
        };
        let (name, value) = line.split_at(at);
        let sign = value.get(..1).unwrap_or_default();
        if sign == ":" {
            self.say(here.place(), "a setting is written with =, the : is obsolete");
        }
        self.assign(name, value.get(1..).unwrap_or_default().trim(), here);
    }

    fn assign(&mut self, name: &str, value: &str, here: &Here<'_>) {
        let name = match self.expand(name.trim()) {
            Ok(name) if is_name(&name) => name,
            Err(why) => return self.say(here.place(), format!("what is set here has no name: {why}")),
            Ok(_) => return self.say(here.place(), "what is set here has no name that is one"),
        };
        if !self.macros.set(&name, value, here.place()) {
            self.say(here.place(), "there are too many settings: this one is left out");
        }
    }

    fn template(&mut self, rest: &str, here: &Here<'_>) {
        let Some((category, names)) = rest.split_once(':') else {
            return self.say(here.place(), "use wants CATEGORY : NAME");
        };
        let category = category.trim();
        for name in templates::names(names) {
            match templates::find(category, &name) {
                Some(Template::Nothing) => {}
                Some(Template::Lines(lines)) if here.depth < DEPTH => {
                    self.text(lines, here.path, here.line, here.depth + 1);
                }
                Some(Template::Lines(_)) => {}
                Some(Template::NotFollowed) => self.say(
                    here.place(),
                    format!("use {category}:{name} sets things by rules that are not followed here"),
                ),
                None => self.say(here.place(), format!("use {category}:{name} is not known here")),
            }
        }
    }

    fn include(&mut self, rest: &str, here: &Here<'_>) {
        let Some((options, target)) = rest.split_once(':') else {
            return self.say(here.place(), "include wants a : and a file");
        };
        let options: Vec<String> = options.split_whitespace().map(str::to_ascii_lowercase).collect();
        let target = match self.expand(target.trim()) {
            Ok(target) if !target.trim().is_empty() => target.trim().to_owned(),
            Ok(_) => return self.say(here.place(), "include names no file"),
            Err(why) => return self.say(here.place(), format!("this file is not included: {why}")),
        };
        if options.iter().any(|option| option == "command") || target.ends_with('|') {
            return self.say(here.place(), "include of a command's output: no command is run");
        }
        let optional = match options.as_slice() {
            [] => false,
            [one] if one == "ifexist" => true,
            _ => return self.say(here.place(), "include with options that are not known here"),
        };
        let path = PathBuf::from(target);
        if path.is_relative() {
            let message = "this file is not included: HTCondor looks for it in the directory each program happens to be in";
            return self.say(here.place(), message);
        }
        self.file(&path, !optional, Some(here.place()), here.depth + 1);
    }

    /// The files that a setting names, in its order. It may be changed by one of them: what was read stays read.
    pub(crate) fn listed(&mut self, setting: &str, needed: bool) {
        let mut done: BTreeSet<String> = BTreeSet::new();
        loop {
            let (value, place) = match self.get(setting) {
                Ok(Some(found)) => (found.value, found.place),
                Ok(None) => return,
                Err(error) => {
                    let place = error.place.clone();
                    return self.say(place, format!("{setting} has no value here: {}", error.why));
                }
            };
            if value.ends_with('|') {
                return self.say(place, format!("{setting} is a command: no command is run"));
            }
            let next = words(&value)
                .find(|file| !done.contains(*file))
                .map(str::to_owned);
            let Some(next) = next else { return };
            if self.tried >= FILES {
                return self.say(
                    place,
                    format!("{setting} names too many files: the rest is not read"),
                );
            }
            self.file(Path::new(&next), needed, Some(place), 0);
            done.insert(next);
        }
    }
}

/// Parted by blanks and commas.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace())
        .filter(|word| !word.is_empty())
}

fn reading(branches: &[Branch]) -> bool {
    branches.last().is_none_or(|open| open.within && open.reading)
}

/// The first of these bytes outside of parentheses: a name may hold `$(X:default)`.
fn outside(line: &str, bytes: &[u8]) -> Option<usize> {
    let mut depth = 0usize;
    line.bytes().position(|b| {
        match b {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && bytes.contains(&b)
    })
}
