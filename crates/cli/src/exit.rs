//! How the command ends: 0 done, 1 refused or failed, 2 a wrong command line or an unreadable file.

use crate::output;
use reseal_server::config::ConfigError;
use std::path::Path;
use std::process::ExitCode;

/// The command line is wrong, or a file that it names cannot be read: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misused(String);

/// It failed and the user has been told already: exit code 1 and no further word.
#[derive(Debug, thiserror::Error)]
#[error("failed")]
pub(crate) struct Told;

/// An error for a wrong command line.
pub(crate) fn misused(what: impl Into<String>) -> anyhow::Error {
    Misused(what.into()).into()
}

/// An error for a file that cannot be read.
pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> anyhow::Error {
    Misused(format!("cannot read {}: {error}", path.display())).into()
}

/// Tells what went wrong, and how the process should end.
pub(crate) fn code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    if error.chain().any(|e| e.is::<output::Closed>()) {
        // Whoever read our output has seen enough (`reseal users list | head`).
        return ExitCode::SUCCESS;
    }
    if !error.is::<Told>() {
        output::note(format_args!("error: {}", told(&error)));
    }
    let misused = error
        .chain()
        .any(|e| e.is::<Misused>() || matches!(e.downcast_ref(), Some(ConfigError::Read { .. })));
    ExitCode::from(if misused { 2 } else { 1 })
}

/// The error and its causes, without those that it has named itself.
fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
