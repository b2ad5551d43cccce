//! Running `reseal` and looking at what it says.

use serde_json::Value;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The command, with nothing from the environment that would change what it does.
pub(crate) fn reseal() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reseal"));
    for variable in ["RESEAL_CONFIG", "RESEAL_DATA", "RESEAL_STORE_URL", "RESEAL_MASTER_KEY", "RESEAL_LOG"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Runs the command to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        Self::from(command.output().unwrap())
    }

    /// The same, with something on standard input.
    pub(crate) fn with_input(command: &mut Command, input: &[u8]) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        // A command that refuses its arguments reads nothing, and its end of the pipe closes.
        let _ = child.stdin.take().unwrap().write_all(input);
        Self::from(child.wait_with_output().unwrap())
    }

    /// The output of a command that must succeed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// The error of a command that must end with this code, saying this.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, saying: &str) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.contains(saying), "{saying:?} in {self:?}");
        self
    }

    /// The output as one JSON document.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// The output as one JSON document a line.
    #[track_caller]
    pub(crate) fn lines(self) -> Vec<Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl From<std::process::Output> for Ran {
    fn from(output: std::process::Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A working folder for commands, with a data folder in it once one is made.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A path in the working folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file into the working folder.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), text).unwrap();
        name.to_owned()
    }

    /// The command in the working folder; arguments with spaces between.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = reseal();
        command.current_dir(self.0.path()).args(arguments.split(' '));
        command
    }

    /// Runs a command in the working folder.
    pub(crate) fn run(&self, arguments: &str) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    /// The same with single arguments, which may hold spaces.
    pub(crate) fn run_args(&self, arguments: &[&str]) -> Ran {
        Ran::of(reseal().current_dir(self.0.path()).args(arguments))
    }

    /// The same with something on standard input.
    pub(crate) fn run_with_input(&self, arguments: &str, input: impl AsRef<[u8]>) -> Ran {
        Ran::with_input(&mut self.command(arguments), input.as_ref())
    }
}

/// Sends a signal, by name, to a process that this test started.
pub(crate) fn send_signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
    assert!(status.success());
}
