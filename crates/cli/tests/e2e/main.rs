//! The real binary, from outside: every command, and a served authority over HTTP.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

mod cli_clients;
mod cli_command_line;
mod cli_folder;
mod cli_import;
mod cli_keys;
mod cli_listen;
mod cli_policies;
mod cli_postgres;
mod cli_restore;
mod cli_serve;
mod cli_sessions;
mod cli_token;
mod cli_users;
