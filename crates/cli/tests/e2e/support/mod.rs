//! What tests of the binary share: running commands, and a served authority.

mod command;
mod server;

pub(crate) use command::{Folder, Ran, reseal, send_signal};
pub(crate) use server::Server;

/// Whether it becomes true within some seconds: for what a running server learns from another process.
#[expect(
    clippy::disallowed_methods,
    reason = "there is nothing that would wake a test when a server has learned"
)]
pub(crate) fn eventually(mut is_so: impl FnMut() -> bool) -> bool {
    (0..200).any(|_| {
        is_so() || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            false
        }
    })
}
