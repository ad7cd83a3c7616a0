//! The servers of a bed, as the process inside the bed that started them sees them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::process;

/// How long a server may take to end by itself before it is killed.
const STOP: Duration = Duration::from_secs(10);

/// The servers of one bed: starts them, knows how to start them again, stops, freezes and thaws them.
///
/// A handle: clones speak of the same servers.
#[derive(Clone, Debug)]
pub struct Servers {
    layout: Layout,
    table: Arc<Mutex<BTreeMap<String, Server>>>,
}

#[derive(Debug)]
struct Server {
    command: Command,
    stop_signal: Signal,
    child: Option<Child>,
    paused: bool,
    ended: Option<ExitStatus>,
}

/// What a server is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum State {
    /// It runs; the process id is the one inside the bed.
    Running {
        /// Process id inside the bed.
        pid: u32,
    },
    /// It was frozen with `pause`: its ports accept and nothing answers.
    Paused {
        /// Process id inside the bed.
        pid: u32,
    },
    /// It was stopped, or ended by itself (`why` says how).
    Stopped {
        /// How it ended.
        why: String,
    },
}

impl Servers {
    /// No server yet.
    pub fn new(layout: &Layout) -> Self {
        Self {
            layout: layout.clone(),
            table: Arc::default(),
        }
    }

    /// Starts `command` as the server `name` and remembers how.
    ///
    /// The command must stay in the foreground. It gets a process group of its own, no input, and
    /// `<bed>/logs/<name>.log` (appended to) for both outputs. It is stopped with SIGTERM unless
    /// [`Servers::stop_with`] says otherwise.
    ///
    /// # Errors
    /// A server of that name runs already, or the command cannot be started.
    pub fn start(&mut self, name: &str, command: Command) -> Result<()> {
        let mut table = self.table();
        if table.get(name).is_some_and(|server| server.child.is_some()) {
            bail!("a server {name} runs already");
        }
        let server = Server {
            command,
            stop_signal: Signal::TERM,
            child: None,
            paused: false,
            ended: None,
        };
        table.insert(name.to_owned(), server);
        let server = table.get_mut(name).context("just inserted")?;
        spawn(&self.layout, name, server)
    }

    /// Chooses the signal that asks the server `name` to end.
    ///
    /// # Errors
    /// No such server.
    pub fn stop_with(&mut self, name: &str, signal: Signal) -> Result<()> {
        find(&mut self.table(), name)?.stop_signal = signal;
        Ok(())
    }

    /// Starts a stopped server again, the way it was started first. Nothing happens if it runs.
    ///
    /// # Errors
    /// No such server, or it cannot be started.
    pub fn restart(&self, name: &str) -> Result<()> {
        let mut table = self.table();
        let server = find(&mut table, name)?;
        poll(server);
        if server.child.is_some() {
            return Ok(());
        }
        spawn(&self.layout, name, server)
    }

    /// Asks a server to end, and kills it with all it started when it has not after 10 s. A paused one is resumed first.
    ///
    /// # Errors
    /// No such server.
    pub fn stop(&self, name: &str) -> Result<()> {
        self.resume(name)?;
        let (pid, signal) = {
            let mut table = self.table();
            let server = find(&mut table, name)?;
            poll(server);
            let Some(child) = &server.child else { return Ok(()) };
            (child.id(), server.stop_signal)
        };
        let tree = process::tree(pid);
        signal_one(pid, signal);
        let end = Instant::now() + STOP;
        while Instant::now() < end {
            if matches!(self.state(name)?, State::Stopped { .. }) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // what the server left behind would hold its port
        for pid in tree {
            signal_one(pid, Signal::KILL);
        }
        self.wait_stopped(name)
    }

    /// Kills a server and all it started, at once (SIGKILL).
    ///
    /// # Errors
    /// No such server.
    pub fn kill(&self, name: &str) -> Result<()> {
        if let Some(pid) = self.pid(name)? {
            for pid in process::tree(pid) {
                signal_one(pid, Signal::KILL);
            }
        }
        self.wait_stopped(name)
    }

    /// Freezes a server and all it started (SIGSTOP): its ports accept, nothing answers.
    ///
    /// # Errors
    /// No such server, or it does not run.
    pub fn pause(&self, name: &str) -> Result<()> {
        let Some(pid) = self.pid(name)? else {
            bail!("{name} does not run")
        };
        for pid in process::tree(pid) {
            signal_one(pid, Signal::STOP);
        }
        find(&mut self.table(), name)?.paused = true;
        Ok(())
    }

    /// Thaws a server (SIGCONT). Nothing happens if it is not paused.
    ///
    /// # Errors
    /// No such server.
    pub fn resume(&self, name: &str) -> Result<()> {
        if !std::mem::take(&mut find(&mut self.table(), name)?.paused) {
            return Ok(());
        }
        if let Some(pid) = self.pid(name)? {
            for pid in process::tree(pid) {
                signal_one(pid, Signal::CONT);
            }
        }
        Ok(())
    }

    /// The process id of a running server, inside the bed.
    ///
    /// # Errors
    /// No such server.
    pub fn pid(&self, name: &str) -> Result<Option<u32>> {
        let mut table = self.table();
        let server = find(&mut table, name)?;
        poll(server);
        Ok(server.child.as_ref().map(Child::id))
    }

    /// What one server is doing.
    ///
    /// # Errors
    /// No such server.
    pub fn state(&self, name: &str) -> Result<State> {
        Ok(state(find(&mut self.table(), name)?))
    }

    /// What every server is doing, by name.
    pub fn status(&self) -> BTreeMap<String, State> {
        self.table()
            .iter_mut()
            .map(|(name, server)| (name.clone(), state(server)))
            .collect()
    }

    /// An error if `name` has ended, with its exit and the place of its log: for loops that wait for it to answer.
    ///
    /// # Errors
    /// The server is not running.
    pub fn still_running(&self, name: &str) -> Result<()> {
        match self.state(name)? {
            State::Stopped { why } => {
                bail!(
                    "{name} is not running ({why}); its log: {}",
                    self.layout.log(name).display()
                )
            }
            State::Running { .. } | State::Paused { .. } => Ok(()),
        }
    }

    fn wait_stopped(&self, name: &str) -> Result<()> {
        let end = Instant::now() + STOP;
        while !matches!(self.state(name)?, State::Stopped { .. }) {
            if Instant::now() > end {
                bail!("{name} does not end, not even by SIGKILL");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Server>> {
        // the table is whole between any two statements, so a panic elsewhere does not spoil it
        self.table
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn find<'a>(table: &'a mut BTreeMap<String, Server>, name: &str) -> Result<&'a mut Server> {
    let known = table.keys().cloned().collect::<Vec<_>>().join(", ");
    table
        .get_mut(name)
        .with_context(|| format!("no server {name}: there are {known}"))
}

fn spawn(layout: &Layout, name: &str, server: &mut Server) -> Result<()> {
    let log = open_log(layout, name)?;
    server
        .command
        .stdin(Stdio::null())
        .stderr(log.try_clone()?)
        .stdout(log)
        .process_group(0);
    let child = server
        .command
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    server.child = Some(child);
    server.ended = None;
    server.paused = false;
    Ok(())
}

fn open_log(layout: &Layout, name: &str) -> Result<File> {
    let path = layout.log(name);
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))
}

fn poll(server: &mut Server) {
    if let Some(child) = &mut server.child
        && let Ok(Some(status)) = child.try_wait()
    {
        server.ended = Some(status);
        server.child = None;
        server.paused = false;
    }
}

fn state(server: &mut Server) -> State {
    poll(server);
    match &server.child {
        Some(child) if server.paused => State::Paused { pid: child.id() },
        Some(child) => State::Running { pid: child.id() },
        None => State::Stopped {
            why: how(server.ended),
        },
    }
}

fn how(ended: Option<ExitStatus>) -> String {
    match ended.map(|status| (status.code(), status.signal())) {
        Some((Some(code), _)) => format!("exit {code}"),
        Some((None, Some(signal))) => format!("signal {signal}"),
        _ => "never started".to_owned(),
    }
}

fn signal_one(pid: u32, signal: Signal) {
    // gone already is what we want, and nothing else can be wrong: the process is ours
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _gone = kill_process(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bed::layout::below;

    fn servers(dir: &tempfile::TempDir) -> Servers {
        let layout = below(dir.path(), "t").unwrap();
        layout.create().unwrap();
        Servers::new(&layout)
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn start_pause_resume_stop_and_start_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut servers = servers(&dir);
        let said = |servers: &Servers, text: &str| {
            let log = servers.layout.log("nap");
            while std::fs::read_to_string(&log).unwrap() != text {
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        servers.start("nap", shell("echo up; exec sleep 1000")).unwrap();
        said(&servers, "up\n");
        let first = servers.pid("nap").unwrap().unwrap();
        servers.pause("nap").unwrap();
        assert_eq!(servers.state("nap").unwrap(), State::Paused { pid: first });
        servers.resume("nap").unwrap();
        assert_eq!(servers.state("nap").unwrap(), State::Running { pid: first });
        assert!(
            servers.start("nap", shell("true")).is_err(),
            "a second one of that name"
        );
        servers.stop("nap").unwrap();
        assert_eq!(
            servers.state("nap").unwrap(),
            State::Stopped {
                why: "signal 15".to_owned()
            }
        );
        servers.restart("nap").unwrap();
        assert_ne!(servers.pid("nap").unwrap().unwrap(), first);
        said(&servers, "up\nup\n");
        servers.kill("nap").unwrap();
    }

    #[test]
    fn stopping_takes_the_children_along() {
        let dir = tempfile::tempdir().unwrap();
        let mut servers = servers(&dir);
        servers
            .start("family", shell("sleep 1000 & echo $!; wait"))
            .unwrap();
        let child = loop {
            let log = std::fs::read_to_string(servers.layout.log("family")).unwrap();
            if let Ok(pid) = log.trim().parse::<u32>() {
                break pid;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        servers.stop("family").unwrap();
        let gone = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            process::start_time(child).is_none()
        });
        assert!(gone, "the child of the server lives on");
    }

    #[test]
    fn one_that_ends_by_itself_says_how_and_where_its_log_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut servers = servers(&dir);
        servers.start("brief", shell("exit 3")).unwrap();
        while servers.still_running("brief").is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let said = servers.still_running("brief").unwrap_err().to_string();
        assert!(
            said.contains("exit 3") && said.contains("logs/brief.log"),
            "{said}"
        );
        assert!(
            servers
                .stop("nobody")
                .unwrap_err()
                .to_string()
                .contains("there are brief")
        );
    }
}
