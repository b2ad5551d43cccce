//! What a move shows of itself: a line on a terminal, a line now and then in a file.

use crate::output::{self, note};
use crate::words;
use reseal_store::transfer::{Progress, Watch};
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How often a line is written where that is no terminal.
const LINES: Duration = Duration::from_secs(10);
/// How often the line on a terminal is.
const REDRAW: Duration = Duration::from_millis(200);

/// Shows progress, and says when to stop.
pub(super) struct Display {
    stop: Arc<AtomicBool>,
    line: output::Progress,
    terminal: bool,
    shown_at: Option<Instant>,
    /// When the bulk began, and with how many records there.
    began: Option<(Instant, u64)>,
}

impl Display {
    pub(super) fn new(stop: Arc<AtomicBool>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { stop, line: output::Progress::new(), terminal, shown_at: None, began: None }
    }

    /// Takes the line away.
    pub(super) fn done(&self) {
        self.line.clear();
    }

    /// A step that comes again and again.
    fn now_and_then(&mut self, line: impl FnOnce() -> String) {
        let every = if self.terminal { REDRAW } else { LINES };
        if self.shown_at.is_some_and(|at| at.elapsed() < every) {
            return;
        }
        self.shown_at = Some(Instant::now());
        if self.terminal {
            self.line.show(line());
        } else {
            note(line());
        }
    }

    /// A step that comes once.
    fn once(&mut self, line: &str) {
        self.line.clear();
        note(line);
        self.shown_at = None;
    }

    fn copying(&mut self, kind: &str, copied: u64, total: u64) {
        let (began, before) = *self.began.get_or_insert_with(|| (Instant::now(), copied));
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let here = copied.saturating_sub(before);
        self.now_and_then(|| copying_line((kind, copied, total), here, millis));
    }
}

/// The bulk: how much of it, how fast, how long it will take.
fn copying_line((kind, copied, total): (&str, u64, u64), here: u64, millis: u64) -> String {
    let rate = here.saturating_mul(1000) / millis.max(1);
    let left = total.saturating_sub(copied);
    let (copied, total) = (words::grouped(copied), words::grouped(total.max(copied)));
    match left.checked_div(rate) {
        Some(seconds) => format!(
            "{copied} of about {total} records ({kind}), {} a second, {} left",
            words::grouped(rate),
            words::duration(Duration::from_secs(seconds))
        ),
        None => format!("{copied} of about {total} records ({kind})"),
    }
}

impl Watch for Display {
    fn progress(&mut self, progress: Progress) {
        match progress {
            Progress::Resumed { copied } => {
                self.once(&format!("going on where it was: {} copied", words::count(copied, "record")));
            }
            Progress::Clearing => self.once("removing what an earlier move left there"),
            Progress::Copying { kind, copied, total } => self.copying(kind.name(), copied, total),
            Progress::Following { taken, waiting } => self.now_and_then(|| {
                format!("{} copied since, {} waiting", words::count(taken, "change"), words::grouped(waiting))
            }),
            Progress::Frozen => self.once("the first store takes no more writes"),
            Progress::Comparing => self.once("comparing"),
            _ => {}
        }
    }

    fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_fast_and_how_long() {
        assert_eq!(
            copying_line(("sessions", 500_000, 1_100_000), 300_000, 30_000),
            "500,000 of about 1,100,000 records (sessions), 10,000 a second, 1 min left"
        );
        // Nothing copied yet by this run: nobody knows.
        assert_eq!(copying_line(("users", 5, 10), 0, 10), "5 of about 10 records (users)");
        // More came than there was.
        assert_eq!(
            copying_line(("users", 20, 10), 20, 1000),
            "20 of about 20 records (users), 20 a second, 0 s left"
        );
    }
}
