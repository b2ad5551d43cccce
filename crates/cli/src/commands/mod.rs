//! One module per command.

pub(crate) mod backup;
pub(crate) mod clients;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod generate;
pub(crate) mod init;
pub(crate) mod keys;
pub(crate) mod migrate;
pub(crate) mod policies;
pub(crate) mod restore;
pub(crate) mod serve;
pub(crate) mod sessions;
pub(crate) mod token;
pub(crate) mod users;

use crate::args::{Cli, Command};
use anyhow::Context as _;

/// Runs the command.
pub(crate) fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Init(args) => init::run(&args),
        Command::Users(command) => wait(users::run(command)),
        Command::Clients(command) => wait(clients::run(command)),
        Command::Sessions(command) => wait(sessions::run(command)),
        Command::Keys(command) => wait(keys::run(command)),
        Command::Policies(command) => wait(policies::run(command)),
        Command::Token(command) => wait(token::run(command)),
        Command::Doctor(args) => wait(doctor::run(args)),
        Command::Backup(args) => wait(backup::run(args)),
        Command::Restore(args) => wait(restore::run(args)),
        Command::Migrate(args) => wait(migrate::run(args)),
        Command::Generate(args) => generate::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}

/// Runs a command that works on a data folder; one thread is enough for all but serving.
fn wait(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime does not start")?;
    // Boxed: the futures of whole commands are large, and this happens once.
    runtime.block_on(Box::pin(command))
}
