//! Commands, run from the repository's root and shown before they run.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// A command to run.
pub(crate) struct Sh(Command, String);

/// A command in the repository's root.
pub(crate) fn sh(program: &str, args: &[&str]) -> Sh {
    let mut command = Command::new(program);
    command.args(args).current_dir(root()).stdin(Stdio::null());
    Sh(command, format!("{program} {}", args.join(" ")))
}

/// The cargo that runs this.
pub(crate) fn cargo(args: &[&str]) -> Sh {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root()).stdin(Stdio::null());
    Sh(command, format!("cargo {}", args.join(" ")))
}

impl Sh {
    /// In a folder below the root.
    pub(crate) fn dir(mut self, dir: &str) -> Self {
        self.0.current_dir(root().join(dir));
        self
    }

    /// With a variable in its environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    /// Whether it succeeds; its output is dropped.
    pub(crate) fn succeeds(mut self) -> bool {
        self.0.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    }

    /// Runs it; an error when it fails.
    pub(crate) fn run(mut self) -> Result<()> {
        eprintln!("$ {}", self.1);
        let status = self.0.status().with_context(|| format!("{} does not start", self.1))?;
        if status.success() { Ok(()) } else { bail!("{}: {status}", self.1) }
    }

    /// Runs it and returns what it printed.
    pub(crate) fn read(mut self) -> Result<Vec<u8>> {
        let output =
            self.0.stderr(Stdio::inherit()).output().with_context(|| format!("{} does not start", self.1))?;
        if output.status.success() { Ok(output.stdout) } else { bail!("{}: {}", self.1, output.status) }
    }

    /// Runs it, shows each line of its output as it comes and hands it to `line`; returns whether it succeeded.
    pub(crate) fn watch(mut self, mut line: impl FnMut(&str)) -> Result<bool> {
        eprintln!("$ {}", self.1);
        let mut child =
            self.0.stdout(Stdio::piped()).spawn().with_context(|| format!("{} does not start", self.1))?;
        let output = child.stdout.take().context("no output")?;
        for text in BufReader::new(output).lines() {
            let text = text?;
            println!("{text}");
            line(&text);
        }
        Ok(child.wait()?.success())
    }
}
