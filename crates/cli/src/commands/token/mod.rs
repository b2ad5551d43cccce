//! `reseal token`.

mod claims;
mod credential;
mod inspect;
mod key_file;
mod verify;

use clap::Subcommand;

/// What to do with a token.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    // Their help is with their arguments: a comment here would hide the long one.
    Inspect(inspect::InspectArgs),
    Verify(verify::VerifyArgs),
}

pub(crate) async fn run(command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Inspect(args) => inspect::run(args).await,
        TokenCommand::Verify(args) => verify::run(&args),
    }
}
