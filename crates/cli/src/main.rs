//! The `reseal` command: starts the authority and administers its data folder.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod args;
mod commands;
mod exit;
mod folder;
mod input;
mod output;
mod words;

use clap::Parser as _;
use std::process::ExitCode;

/// Gives memory back to the system soon, and does not fragment under many small allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    exit::code(commands::run(args::Cli::parse()))
}
