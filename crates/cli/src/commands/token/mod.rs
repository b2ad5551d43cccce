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
    /// Decode a token and say in words why it is valid or not
    Inspect(inspect::InspectArgs),
    /// Verify a token against a key set and print its payload
    Verify(verify::VerifyArgs),
}

pub(crate) async fn run(command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Inspect(args) => inspect::run(args).await,
        TokenCommand::Verify(args) => verify::run(&args),
    }
}
