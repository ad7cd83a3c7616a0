//! A bed as seen from the host: up, in, down.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::cache::{self, Cache};
use super::control::{Control, Request};
use super::layout::Layout;
use super::parts::Parts;
use super::{pool_sid, process, servers};
use crate::prerequisites::{self, For};

/// How long the servers may take to be ready.
const READY: Duration = Duration::from_secs(240);
/// How long the kernel may take to end everything.
const GONE: Duration = Duration::from_secs(20);

/// Who a bed belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nobody: it stays until it is taken down.
    Nobody,
    /// The process that brings it up: it ends with the [`Bed`], and also when that process is killed.
    Parent,
}

/// A running bed.
#[derive(Debug)]
pub struct Bed {
    layout: Layout,
    /// The other end of this keeps the bed alive.
    owned: Option<(Child, ChildStdin)>,
}

impl Bed {
    /// Brings the bed `name` up and waits until every server answers. If it is up already (and nobody's), it is put
    /// right: what was stopped, frozen or sealed answers again afterwards.
    ///
    /// `say` is told what took how long. The program that calls this must pass `testbed __inside ...` on
    /// to [`super::inside::main`].
    ///
    /// # Errors
    /// Not root; a prerequisite or a part that cannot be had; a server that does not answer, with the place of its log.
    pub fn up(name: &str, owner: Owner, say: &(dyn Fn(&str) + Sync)) -> Result<Self> {
        need_root()?;
        let begin = Instant::now();
        let cache = Cache::user()?;
        let layout = Layout::new(&cache, name)?;
        prerequisites::ensure(&[For::Bed], say)?;
        layout.create()?;
        let _lock = cache::lock(&cache.dir.join("beds").join(format!(".{name}.lock")))?;
        if outer(&layout).is_some() {
            if owner == Owner::Parent {
                bail!("a test bed {name} is up already");
            }
            let bed = Self { layout, owned: None };
            bed.wait(None, &|_| ())?;
            bed.control().heal()?;
            say("was up already");
            return Ok(bed);
        }
        let parts = Parts::make(&cache, say)?;
        let made = begin.elapsed();
        say(&format!("parts: {:.1} s", made.as_secs_f64()));
        layout.forget_last_run()?;
        fs::write(layout.parts_file(), serde_json::to_vec(&parts)?)?;
        let mut bed = Self { layout, owned: None };
        let child = bed.spawn(&cache, owner)?;
        let child = bed.wait(Some(child), say)?;
        if let (Owner::Parent, Some(mut child)) = (owner, child) {
            let lifeline = child.stdin.take().context("no lifeline")?;
            bed.owned = Some((child, lifeline));
        }
        say(&format!(
            "ready: {:.1} s, of which {:.1} s for parts",
            begin.elapsed().as_secs_f64(),
            made.as_secs_f64()
        ));
        Ok(bed)
    }

    fn spawn(&self, cache: &Cache, owner: Owner) -> Result<Child> {
        let layout = &self.layout;
        // the program may be built anew while the bed is up, or have been since this process was started
        let program = layout.dir.join("mtk-bed");
        let half = program.with_extension("half");
        fs::copy("/proc/self/exe", &half).context("cannot copy this program")?;
        fs::rename(&half, &program)?;
        let log = fs::File::create(layout.log("bed"))?;
        Command::new(&program)
            .args(["testbed", "__inside", "outer"])
            .arg(&cache.dir)
            .arg(&layout.name)
            .arg(if owner == Owner::Parent {
                "parent"
            } else {
                "nobody"
            })
            .stdin(if owner == Owner::Parent {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stderr(log.try_clone()?)
            .stdout(log)
            .current_dir("/")
            .spawn()
            .context("cannot start the bed")
    }

    /// Waits until the bed says that it is ready; ends it if it does not.
    fn wait(&self, mut child: Option<Child>, say: &(dyn Fn(&str) + Sync)) -> Result<Option<Child>> {
        let layout = &self.layout;
        let end = Instant::now() + READY;
        let mut told = 0;
        loop {
            let ready = layout.marked("ready");
            let stages = fs::read_to_string(layout.dir.join("stages")).unwrap_or_default();
            for stage in stages.lines().skip(told) {
                say(stage);
                told += 1;
            }
            if ready.is_some() {
                return Ok(child);
            }
            let ended = match &mut child {
                Some(child) => child.try_wait()?.is_some(),
                None => outer(layout).is_none(),
            };
            if let Some(failed) = layout.marked("failed") {
                self.end()?;
                bail!("the test bed {} is not ready:\n{failed}", layout.name);
            }
            if ended || Instant::now() > end {
                self.end()?;
                let why = if ended {
                    "has ended"
                } else {
                    "is not ready after 240 s"
                };
                let path = layout.log("bed");
                let log = fs::read_to_string(&path).unwrap_or_default();
                let last = log.trim_end().lines().next_back().unwrap_or("(empty)");
                bail!(
                    "the test bed {} {why}; its log: {}\n{last}",
                    layout.name,
                    path.display()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The bed `name`, if it is up.
    ///
    /// # Errors
    /// Not root, or it is not up.
    pub fn find(name: &str) -> Result<Self> {
        need_root()?;
        let layout = Layout::new(&Cache::user()?, name)?;
        if outer(&layout).is_none() {
            bail!("no test bed {name} is up: `cargo xtask testbed up{}`", flag(name));
        }
        if layout.marked("ready").is_none() {
            bail!(
                "the test bed {name} is not ready yet; its log: {}",
                layout.log("bed").display()
            );
        }
        Ok(Self { layout, owned: None })
    }

    /// Ends the bed `name` and waits until its last process is gone; says whether there was one.
    ///
    /// # Errors
    /// Not root, or it does not end within 20 s.
    pub fn down(name: &str) -> Result<bool> {
        need_root()?;
        let bed = Self {
            layout: Layout::new(&Cache::user()?, name)?,
            owned: None,
        };
        bed.end()
    }

    fn end(&self) -> Result<bool> {
        let Some(pid) = outer(&self.layout) else {
            return Ok(false);
        };
        // process 1 first: its parent then waits for it and ends only when everything inside is gone
        for pid in process::children(pid).into_iter().chain([pid]).filter_map(raw) {
            let _gone = kill_process(pid, Signal::KILL);
        }
        let end = Instant::now() + GONE;
        while outer(&self.layout).is_some() {
            if Instant::now() > end {
                bail!(
                    "the test bed {} does not end, not even by SIGKILL (process {pid})",
                    self.layout.name
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(true)
    }

    /// Where the bed keeps what.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The bed's command socket.
    pub fn control(&self) -> Control {
        Control::of(&self.layout.dir)
    }

    /// The process id of the bed's process 1, on the host.
    ///
    /// # Errors
    /// The bed has ended.
    pub fn pid(&self) -> Result<u32> {
        let outer = outer(&self.layout).context("the bed has ended")?;
        process::children(outer)
            .first()
            .copied()
            .context("the bed has ended")
    }

    /// A command that runs inside the bed, in the folder the caller stands in. Its exit code is that of the program.
    ///
    /// # Errors
    /// The bed has ended, or the caller stands nowhere.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let cwd: PathBuf = std::env::current_dir().context("the current folder is gone")?;
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.pid()?))
            // the root too: this process may itself live in a chroot, which is not part of a namespace
            .args(["--all", "--root", "--"]);
        command
            .arg(self.layout.dir.join("mtk-bed"))
            .args(["testbed", "__inside", "enter"]);
        command.arg(&self.layout.dir).arg(cwd).arg(program);
        Ok(command)
    }

    /// Adds the second pool, of a newer HTCondor, and waits until it can be used: 35 s for its root the first time, then 5 s.
    ///
    /// # Errors
    /// Debian sid has another version by now; a package that cannot be had; a daemon that does not come up.
    pub fn add_second_pool(&self, say: &(dyn Fn(&str) + Sync)) -> Result<()> {
        let begin = Instant::now();
        let root = pool_sid::prepare(&Cache::user()?)?;
        self.control().ask(&Request::SecondPool { root })?;
        say(&format!(
            "second pool (HTCondor {}): {:.1} s",
            pool_sid::VERSION,
            begin.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// What each server is doing.
    ///
    /// # Errors
    /// The bed does not answer.
    pub fn status(&self) -> Result<std::collections::BTreeMap<String, servers::State>> {
        self.control().status()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some((mut child, lifeline)) = self.owned.take() {
            drop(lifeline);
            // it ends by itself now, and there is nobody to tell if it does not
            let _status = child.wait();
            // the logs stay; a copy of this program in each bed of each test run would add up
            let _absent = fs::remove_file(self.layout.dir.join("mtk-bed"));
        }
    }
}

/// The `--name` that commands for the bed `name` need.
fn flag(name: &str) -> String {
    if name == "default" {
        String::new()
    } else {
        format!(" --name {name}")
    }
}

fn need_root() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the test bed makes namespaces and mounts, which takes root: run it with sudo");
    }
    Ok(())
}

/// The process on the host whose child is the bed's process 1, if the bed is up.
fn outer(layout: &Layout) -> Option<u32> {
    let text = fs::read_to_string(layout.pid_file()).ok()?;
    let (pid, start) = text.trim().split_once(' ')?;
    let pid = pid.parse().ok()?;
    (process::start_time(pid)? == start.parse::<u64>().ok()?).then_some(pid)
}

fn raw(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}
