//! Standard output and standard error.
//!
//! Answers go to standard output, everything else to standard error. A reader that goes away ends the
//! command quietly; an output that cannot be written (a full disk) is an error.

use anyhow::Context as _;
use serde::Serialize;
use std::fmt;
use std::io::{BufWriter, ErrorKind, IsTerminal as _, Stdout, Write as _};

/// Whoever read our standard output has gone.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub(crate) struct Closed;

/// Standard output, buffered. Call [`Out::finish`] at the end.
pub(crate) struct Out(BufWriter<Stdout>);

impl Out {
    /// Takes standard output.
    pub(crate) fn new() -> Self {
        Self(BufWriter::new(std::io::stdout()))
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> anyhow::Result<()> {
        writeln!(self.0, "{line}").map_err(refused)
    }

    /// Writes a text that brings its own line ends.
    pub(crate) fn text(&mut self, text: &str) -> anyhow::Result<()> {
        self.bytes(text.as_bytes())
    }

    /// Writes bytes unchanged.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.0.write_all(bytes).map_err(refused)
    }

    /// Writes one JSON document on one line.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string(value).context("the answer does not serialize")?;
        self.line(text)
    }

    /// Writes one JSON document for reading.
    pub(crate) fn pretty_json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(value).context("the answer does not serialize")?;
        self.line(text)
    }

    /// Writes a table: columns as wide as they need, two spaces between.
    pub(crate) fn table(&mut self, header: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain(header.get(column).map(|h| h.chars().count())).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..header.len()).map(width).collect();
        let header: Vec<String> = header.iter().map(|h| h.to_uppercase()).collect();
        for row in std::iter::once(&header).chain(rows) {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            self.line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }

    /// Writes what is buffered.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        self.0.flush().map_err(refused)
    }
}

fn refused(error: std::io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::BrokenPipe => Closed.into(),
        _ => anyhow::Error::new(error).context("standard output cannot be written"),
    }
}

/// Writes a line to standard error. If nobody can read it there is nobody to tell.
pub(crate) fn note(line: impl fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// A text from outside as it may be shown on a terminal: control characters are made visible, so that
/// nothing in a record or a token can move the cursor or colour the screen.
pub(crate) fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(plain).collect()
}

/// One line on standard error that is written over again and again; nothing where that is no terminal.
pub(crate) struct Progress {
    terminal: bool,
}

impl Progress {
    /// A line that is still empty.
    pub(crate) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal() }
    }

    /// Shows the line.
    pub(crate) fn show(&self, line: impl fmt::Display) {
        if self.terminal {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K{line}");
        }
    }

    /// Takes the line away, so that something else can be said.
    pub(crate) fn clear(&self) {
        self.show("");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_record_can_move_the_cursor() {
        assert_eq!(shown("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(shown("Zoë 李"), "Zoë 李");
    }
}
