//! What tests of the binary share: running commands, and a served authority.

mod command;
mod server;

pub(crate) use command::{Folder, Ran, reseal, send_signal};
pub(crate) use server::Server;
