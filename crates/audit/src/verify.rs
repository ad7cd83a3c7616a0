//! Whether a log is what was written: nothing changed, nothing taken out, nothing cut off.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fmt, fs,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use flate2::read::MultiGzDecoder;

use crate::{
    chain::{Anchor, Hash, LONGEST_LINE, Record},
    file::{Error, Head, failed},
};

/// One file of a log, to be read from its beginning.
pub struct Input {
    /// What it is called in findings.
    pub name: String,
    /// Its content.
    pub content: Box<dyn Read>,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, and the line in it; no line if it is about what is not there.
    pub place: String,
    /// What is wrong with it.
    pub text: String,
}

/// What became of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many records were read.
    pub records: u64,
    /// The number of the first; 1 unless older ones are not there.
    pub first: Option<u64>,
    /// Where the chain stands.
    pub last: Option<Anchor>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What is to be known and not wrong: writers that were killed and what they left, put right since.
    pub notes: Vec<Finding>,
}

impl Verdict {
    /// Whether everything is as it was written.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }
}

/// The files of a log, oldest first: rotated ones (`<log>.1`, `<log>-20261125.gz`) and the one that is written now; and where
/// the chain stands, if that is noted. What is appended meanwhile is left out.
///
/// # Errors
/// [`Error`] for a file that cannot be opened.
pub fn inputs_of(log: &Path) -> Result<(Vec<Input>, Option<Anchor>), Error> {
    let mut head = Head::peek(log)?;
    let anchor = head.as_mut().map(Head::read).transpose()?.flatten();
    let length = match fs::metadata(log) {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(failed(log, "looked at")(error)),
    };
    let rotated = rotated(log)?;
    let mut inputs = Vec::new();
    for path in rotated {
        inputs.push(open(&path)?);
    }
    // the numbers of the records say what comes after what; names do so only for some of the ways to rotate
    let mut ordered = Vec::new();
    for mut input in inputs {
        let mut lines = Lines::new(&mut input.content);
        let first = loop {
            match lines.next().map_err(|e| unreadable(&input.name, e))? {
                Some(line) => match Record::parse(&line.bytes) {
                    Some(record) => break record.seq,
                    None => continue,
                },
                None => break 0,
            }
        };
        ordered.push((first, input.name));
    }
    ordered.sort();
    let mut inputs = Vec::new();
    for (_, name) in ordered {
        inputs.push(open(Path::new(&name))?);
    }
    if length > 0 {
        let mut now = open(log)?;
        now.content = Box::new(now.content.take(length));
        inputs.push(now);
    }
    Ok((inputs, anchor))
}

fn rotated(log: &Path) -> Result<Vec<PathBuf>, Error> {
    let directory = log
        .parent()
        .filter(|d| !d.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let stem = log.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(directory, "listed")(error)),
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(stem)) else {
            continue;
        };
        if rest.starts_with(['.', '-']) && rest != ".head" && entry.path().is_file() {
            found.push(directory.join(&name));
        }
    }
    Ok(found)
}

/// Opens a file of a log, compressed by gzip or not.
fn open(path: &Path) -> Result<Input, Error> {
    let file = fs::File::open(path).map_err(failed(path, "opened"))?;
    let content: Box<dyn Read> = if path.extension() == Some(OsStr::new("gz")) {
        Box::new(MultiGzDecoder::new(BufReader::new(file)))
    } else {
        Box::new(file)
    };
    Ok(Input {
        name: path.display().to_string(),
        content,
    })
}

impl Input {
    /// A file of a log by its path, compressed by gzip or not.
    ///
    /// # Errors
    /// [`Error`] if it cannot be opened.
    pub fn of(path: &Path) -> Result<Self, Error> {
        open(path)
    }
}

fn unreadable(name: &str, source: io::Error) -> Error {
    Error::Io {
        path: name.into(),
        action: "read",
        source,
    }
}

/// Reads a log through. `head` is where it should end, `anchors` are records that were noted elsewhere.
///
/// # Errors
/// [`Error`] for a file that cannot be read.
pub fn verify(inputs: Vec<Input>, head: Option<Anchor>, anchors: &[Anchor]) -> Result<Verdict, Error> {
    let mut state = State {
        verdict: Verdict::default(),
        before: None,
        stray: None,
        wanted: anchors.iter().map(|a| (a.seq, a.hash)).collect(),
    };
    for mut input in inputs {
        let mut lines = Lines::new(&mut input.content);
        while let Some(line) = lines.next().map_err(|e| unreadable(&input.name, e))? {
            state.line(&input.name, &line);
        }
    }
    Ok(state.end(head))
}

struct State {
    verdict: Verdict,
    /// The record before, and where it stands.
    before: Option<(Anchor, String)>,
    /// A line that is no record: the next one may account for it.
    stray: Option<(String, Hash, bool)>,
    wanted: BTreeMap<u64, Hash>,
}

impl State {
    fn line(&mut self, file: &str, line: &Line) {
        let place = format!("{file}:{}", line.number);
        let Some(record) = line.whole.then(|| Record::parse(&line.bytes)).flatten() else {
            self.stray_ends(None);
            self.stray = Some((place, Hash::of(&line.bytes), line.whole));
            return;
        };
        self.stray_ends(record.torn);
        if record.mended {
            let text = "what a killed or hindered writer left was put right here".to_owned();
            note(&mut self.verdict.notes, &place, text);
        }
        match &self.before {
            None => {
                self.verdict.first = Some(record.seq);
                if record.seq == 1 && record.prev != Hash::NOTHING {
                    let text = "the first record of all says that there was one before it".to_owned();
                    note(&mut self.verdict.findings, &place, text);
                }
            }
            Some((before, there)) => {
                let (seq, last) = (record.seq, before.seq);
                let expected = last.saturating_add(1);
                if seq > expected {
                    let text = match seq - expected {
                        1 => format!("record {expected} before it is missing"),
                        _ => format!("records {expected} to {} before it are missing", seq - 1),
                    };
                    note(&mut self.verdict.findings, &place, text);
                } else if seq < expected {
                    let text =
                        format!("record {seq} stands behind record {last}: it was put there later, or twice");
                    note(&mut self.verdict.findings, &place, text);
                } else if record.prev != before.hash {
                    let text = format!(
                        "record {last} was changed after it was written (the next one knows it otherwise)"
                    );
                    note(&mut self.verdict.findings, there, text);
                }
            }
        }
        if let Some(hash) = self.wanted.remove(&record.seq)
            && hash != record.hash
        {
            let text = format!("record {} is not the one whose anchor was noted", record.seq);
            note(&mut self.verdict.findings, &place, text);
        }
        self.verdict.records += 1;
        self.before = Some((record.anchor(), place));
    }

    /// What stood before the line in hand and was no record: the remains of a line, if `torn` says so.
    fn stray_ends(&mut self, torn: Option<Hash>) {
        let Some((place, hash, whole)) = self.stray.take() else {
            return;
        };
        if torn == Some(hash) {
            let text = "a writer was killed or hindered in the middle of this line".to_owned();
            return note(&mut self.verdict.notes, &place, text);
        }
        let text = if whole {
            "this line is no record: it was changed, or is not mtk's"
        } else {
            "the last line is cut off; if mtk was killed while it wrote it, the next record puts that right"
        };
        note(&mut self.verdict.findings, &place, text.to_owned());
    }

    fn end(mut self, head: Option<Anchor>) -> Verdict {
        self.stray_ends(None);
        let last = self.before.as_ref().map(|(anchor, _)| *anchor);
        self.verdict.last = last;
        let seq = last.map_or(0, |l| l.seq);
        let place = self
            .before
            .map_or_else(|| "the log".to_owned(), |(_, place)| place);
        if let Some(head) = head {
            if head.seq > seq {
                let text = match head.seq - seq {
                    1 => format!("record {} behind it is missing: the end was cut off", head.seq),
                    _ => format!(
                        "records {} to {} behind it are missing: the end was cut off",
                        seq + 1,
                        head.seq
                    ),
                };
                note(&mut self.verdict.findings, &place, text);
            } else if head.seq == seq && last.is_some_and(|l| l != head) {
                let text = format!("record {seq} was changed after it was written");
                note(&mut self.verdict.findings, &place, text);
            }
        }
        for (seq, _) in self.wanted {
            let text = format!("record {seq}, whose anchor was noted, is not there");
            note(&mut self.verdict.findings, "the log", text);
        }
        self.verdict
    }
}

fn note(list: &mut Vec<Finding>, place: &str, text: String) {
    list.push(Finding {
        place: place.to_owned(),
        text,
    });
}

struct Line {
    number: u64,
    /// Without its newline; of a line that is too long for a record its beginning.
    bytes: Vec<u8>,
    /// Whether it had a newline.
    whole: bool,
}

struct Lines<R> {
    reader: BufReader<R>,
    number: u64,
}

impl<R: Read> Lines<R> {
    fn new(reader: R) -> Self {
        Self {
            reader: BufReader::new(reader),
            number: 0,
        }
    }

    fn next(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let limit = LONGEST_LINE as u64;
        if self.reader.by_ref().take(limit).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let mut whole = bytes.last() == Some(&b'\n');
        if whole {
            bytes.pop();
        } else if bytes.len() >= LONGEST_LINE {
            whole = self.skip()?;
        }
        Ok(Some(Line {
            number: self.number,
            bytes,
            whole,
        }))
    }

    /// Goes on to the next line; says whether there was a newline.
    fn skip(&mut self) -> io::Result<bool> {
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(false);
            }
            let (used, found) = match buffer.iter().position(|b| *b == b'\n') {
                Some(at) => (at + 1, true),
                None => (buffer.len(), false),
            };
            self.reader.consume(used);
            if found {
                return Ok(true);
            }
        }
    }
}
