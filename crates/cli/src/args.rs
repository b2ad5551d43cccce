//! The command line as a whole; each command describes its own part.

use crate::commands::{
    backup, clients, completions, doctor, generate, init, keys, migrate, policies, restore, serve, sessions,
};
use crate::commands::{token, users};
use clap::{Parser, Subcommand};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "reseal",
    version,
    propagate_version = true,
    about = "A session authority: starts, renews, updates and ends login sessions",
    long_about = "A session authority: starts, renews, updates and ends login sessions.\n\n\
        All commands work on the store of the configuration (--config FILE, else reseal.toml in the \
        working folder), or on the one that --data (a folder) or --store (an address) names, also while \
        `reseal serve` runs on it: every node learns of every change within a second, of a rotation of \
        keys within a minute.\n\n\
        Exit codes: 0 done; 1 refused or failed; 2 a wrong command line or an unreadable file.",
    after_help = EXAMPLES,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  reseal serve --dev                        try everything, with nothing to set up
  reseal init                               write a commented reseal.toml
  reseal users add ada --role admin         make a user; asks for the password
  reseal sessions list --user ada           where Ada is signed in
  reseal token inspect TOKEN                why a token is valid or not, in words
  reseal doctor                             check the data folder and say what to do

Each command has examples of its own: reseal users import --help";

/// What to do. A comment on a command here is its help and hides a longer one on its arguments, so the
/// commands with a long help have none.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(serve::ServeArgs),
    /// Write a commented configuration file
    Init(init::InitArgs),
    /// Add, show, change, import and remove users
    #[command(subcommand)]
    Users(users::UsersCommand),
    /// Register, show, change and remove clients
    #[command(subcommand)]
    Clients(clients::ClientsCommand),
    /// List, show and end sessions
    #[command(subcommand)]
    Sessions(sessions::SessionsCommand),
    /// List, rotate, withdraw and reset keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Check policies before they are put in force
    #[command(subcommand)]
    Policies(policies::PoliciesCommand),
    /// Look into tokens and verify them
    #[command(subcommand)]
    Token(token::TokenCommand),
    Doctor(doctor::DoctorArgs),
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Migrate(migrate::MigrateArgs),
    /// Print a generated document
    Generate(generate::GenerateArgs),
    /// Print a shell's completions
    Completions(completions::CompletionsArgs),
}
