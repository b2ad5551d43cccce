//! A process of its own and its log.

use crate::wait::until;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// A running server; killed when dropped. Its working folder must be a [`Folder`](crate::Folder) or below one
/// for it to end with the test process, too.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    stopped: bool,
}

impl Process {
    /// Starts it; what it prints is appended to `log`.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(log).unwrap();
        let copy: File = file.try_clone().unwrap();
        let child = command.stdout(file).stderr(copy).spawn();
        let child = child.unwrap_or_else(|e| panic!("{:?} does not start: {e}", command.get_program()));
        Self { child, log: log.to_owned(), stopped: false }
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// When it ends before, with the end of its log.
    pub fn until_ready(&mut self, what: &str, mut ready: impl FnMut() -> bool) {
        until(what, || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{what}: {status}\n{}", self.tail());
            }
            ready().then_some(())
        });
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let text = String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Everything it consists of dies at the same moment, as when a machine loses its power.
    pub fn kill(&mut self) {
        // Held still first, so that it starts no further process meanwhile.
        for pid in self.halt() {
            signal(pid, Signal::KILL);
        }
        drop(self.child.wait());
        self.stopped = false;
    }

    /// Asks it to end by SIGTERM, and waits until it has.
    pub fn terminate(&mut self) {
        self.end(Signal::TERM);
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn end(&mut self, how: Signal) {
        if self.stopped {
            self.resume();
        }
        if self.is_running() {
            signal(self.pid(), how);
        }
        until("a server ends", || (!self.is_running()).then_some(()));
    }

    /// Holds it and its children still.
    pub fn pause(&mut self) {
        self.halt();
        self.stopped = true;
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        for pid in children(self.pid()).into_iter().chain([self.pid()]) {
            signal(pid, Signal::CONT);
        }
        self.stopped = false;
    }

    fn halt(&mut self) -> Vec<Pid> {
        if !self.is_running() {
            return Vec::new();
        }
        signal(self.pid(), Signal::STOP);
        let all: Vec<Pid> = [self.pid()].into_iter().chain(children(self.pid())).collect();
        for pid in &all {
            signal(*pid, Signal::STOP);
        }
        all
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One that has just ended is as good as told.
fn signal(pid: Pid, signal: Signal) {
    kill_process(pid, signal).unwrap_or_default();
}

/// Direct children: the servers here have no others.
fn children(of: Pid) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let processes = processes.filter_map(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| parent(*pid) == Some(of.as_raw_nonzero().get())).filter_map(Pid::from_raw).collect()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which is in parentheses and may contain anything: state, then parent.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
