//! Appending to a chain that other processes append to as well.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use credential::act::{Act, Witness, digest};
use jiff::Timestamp;
use rustix::fs::OFlags;
use serde_json::{Map, Value};

use crate::{
    chain::{Anchor, MENDED, Record, line},
    file::{Error, Head, PATIENCE, Tail, failed, open, write},
};

/// How long the end of a program waits for another writer.
const LAST_PATIENCE: Duration = Duration::from_secs(2);
/// More acts than any run has; what is beyond is counted.
const MOST_WAITING: usize = 100_000;

/// Who acts: what every line of this process says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Who {
    /// The user it runs as.
    pub user: String,
    /// Who logged in before becoming that user, if anybody did.
    pub logged_in: Option<u32>,
    /// The host.
    pub host: String,
    /// What of mtk it is, such as `run`.
    pub command: String,
}

/// What is missing in the log, and why.
#[derive(Debug, thiserror::Error)]
#[error(
    "{acts} acts on credentials are not in the audit log {}; until this is put right nobody can tell from it what was \
     done", path.display()
)]
pub struct Unkept {
    /// How many.
    pub acts: u64,
    /// The log.
    pub path: PathBuf,
    /// Why the last of them could not be written.
    #[source]
    pub source: Error,
}

/// An audit log that is appended to. Nothing is opened before the first act.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    mode: u32,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    who: Map<String, Value>,
    /// Acts told and not written yet, oldest first.
    waiting: VecDeque<Map<String, Value>>,
    lost: u64,
    /// Why the last try came to nothing.
    trouble: Option<Error>,
    wrote: bool,
}

impl Log {
    /// A log at `path`, whose file is made with `mode` (0600, or 0640 for a group that reads logs) if it is not there.
    #[must_use]
    pub fn new(path: PathBuf, mode: u32, who: &Who) -> Self {
        let mut fields = Map::new();
        for (key, text) in [
            ("user", &who.user),
            ("host", &who.host),
            ("command", &who.command),
        ] {
            fields.insert(key.into(), text.as_str().into());
        }
        if let Some(uid) = who.logged_in {
            fields.insert("login_uid".into(), uid.into());
        }
        fields.insert("pid".into(), std::process::id().into());
        let inner = Inner {
            who: fields,
            ..Inner::default()
        };
        Self {
            path,
            mode,
            inner: Mutex::new(inner),
        }
    }

    /// The log's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on every line has this run's id.
    pub fn in_run(&self, trace_id: &str) {
        self.inner().who.insert("trace_id".into(), trace_id.into());
    }

    /// Writes an act down, or keeps it for the next time: see [`Log::settle`].
    pub fn append(&self, act: &Act<'_>) {
        let mut inner = self.inner();
        let mut fields = Map::new();
        fields.insert("time".into(), Timestamp::now().to_string().into());
        fields.extend(
            act.fields()
                .into_iter()
                .map(|(key, text)| (key.to_owned(), text.into())),
        );
        fields.extend(inner.who.clone());
        if inner.waiting.len() < MOST_WAITING {
            inner.waiting.push_back(fields);
        } else {
            inner.lost += 1;
        }
        // whoever was waited for in vain is not waited for with every act
        let patience = if inner.trouble.is_some() {
            Duration::ZERO
        } else {
            PATIENCE
        };
        inner.trouble = self.flush(&mut inner, patience).err();
    }

    /// Writes what is still waiting and brings all of it to the disk; says where the chain stands if anything was written.
    ///
    /// # Errors
    /// [`Unkept`]: what could not be written is lost with the process.
    pub fn settle(&self) -> Result<Option<Anchor>, Unkept> {
        let mut inner = self.inner();
        let flushed = self.flush(&mut inner, LAST_PATIENCE);
        let unkept = |acts, source| Unkept {
            acts,
            path: self.path.clone(),
            source,
        };
        let waiting = inner.waiting.len() as u64 + inner.lost;
        match flushed {
            Err(source) => Err(unkept(waiting, source)),
            Ok(()) if inner.lost > 0 => {
                let source = failed(&self.path, "written")(std::io::ErrorKind::OutOfMemory.into());
                Err(unkept(inner.lost, source))
            }
            Ok(()) if !inner.wrote => Ok(None),
            Ok(()) => self.stands().map_err(|source| unkept(0, source)),
        }
    }

    fn stands(&self) -> Result<Option<Anchor>, Error> {
        let mut head = Head::lock(&self.path, self.mode, LAST_PATIENCE)?;
        let file = open(&self.path, self.mode, OFlags::APPEND)?;
        file.sync_data().map_err(failed(&self.path, "written"))?;
        head.sync()?;
        head.read()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Under the lock: finds the end of the chain, puts right what a killed writer left, adds what is waiting.
    fn flush(&self, inner: &mut Inner, patience: Duration) -> Result<(), Error> {
        if inner.waiting.is_empty() {
            return Ok(());
        }
        let mut head = Head::lock(&self.path, self.mode, patience)?;
        // only now: whoever had the lock may have made it, logrotate may have moved it
        let mut file = open(&self.path, self.mode, OFlags::APPEND)?;
        let tail = Tail::of(&mut file, &self.path)?;
        let (mut at, mend) = ends(head.read()?, tail);
        let begun = at;
        let done = (|| {
            if mend.newline {
                write(&mut file, &self.path, b"\n")?;
            }
            if let Some(mut fields) = mend.record {
                let mut all = Map::new();
                all.insert("time".into(), Timestamp::now().to_string().into());
                all.append(&mut fields);
                all.extend(inner.who.clone());
                let (text, next) = line(at, &all);
                write(&mut file, &self.path, format!("{text}\n").as_bytes())?;
                at = next;
            }
            while let Some(fields) = inner.waiting.front() {
                let (text, next) = line(at, fields);
                write(&mut file, &self.path, format!("{text}\n").as_bytes())?;
                at = next;
                inner.waiting.pop_front();
                inner.wrote = true;
            }
            Ok(())
        })();
        // what was written counts, whatever came after it
        if at != begun {
            head.write(at)?;
        }
        done
    }
}

impl Witness for Log {
    fn hear(&self, act: &Act<'_>) {
        self.append(act);
    }
}

/// What is to be written before anything else.
#[derive(Debug, Default)]
struct Mend {
    newline: bool,
    record: Option<Map<String, Value>>,
}

/// From what the small file says and what the log ends with: after which record the next one comes.
///
/// A log that has lost records must not look whole afterwards: the next number is the one after the last that was ever
/// written, and the gap stays to be found.
fn ends(head: Option<Anchor>, tail: Tail) -> (Anchor, Mend) {
    let mut mend = Mend::default();
    let mut said = Map::new();
    let mut last = tail.last.as_ref().map(Record::anchor);
    if !tail.torn.is_empty() {
        mend.newline = true;
        let whole = Record::parse(&tail.torn).filter(|r| last.or(head).is_none_or(|l| r.follows(l)));
        match whole {
            // killed between the line and its newline
            Some(record) => last = Some(record.anchor()),
            None => {
                said.insert("torn_bytes".into(), tail.torn.len().into());
                said.insert("torn_sha256".into(), digest(&tail.torn).into());
            }
        }
    }
    let at = match (head, last) {
        (None, None) => Anchor::START,
        (None, Some(last)) => {
            said.insert("why".into(), "it was not noted where the log ended".into());
            last
        }
        // rotated away, or emptied by somebody: whoever has all files can tell
        (Some(head), None) => {
            if tail.any {
                said.insert("why".into(), "the log ends with a line that is no record".into());
            }
            head
        }
        // killed between the lines and the note
        (Some(head), Some(last)) if last.seq > head.seq || last == head => last,
        (Some(head), Some(last)) => {
            let why = format!(
                "the log ends with record {}, and {} were written",
                last.seq, head.seq
            );
            said.insert("why".into(), why.into());
            head
        }
    };
    if !said.is_empty() {
        let mut fields = Map::new();
        fields.insert("act".into(), MENDED.into());
        fields.append(&mut said);
        mend.record = Some(fields);
    }
    (at, mend)
}
