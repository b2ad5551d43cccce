//! What the command reads from its user: passwords, confirmations, tokens. Never as an argument what
//! must stay secret: arguments are seen by every process of the machine and stay in the shell's history.

use crate::exit::misused;
use anyhow::{Context as _, bail};
use reseal_server::random::Random;
use std::io::{IsTerminal as _, Read as _, Write as _};
use zeroize::Zeroizing;

/// Where a new password comes from. Without any of these it is asked for on the terminal.
#[derive(Debug, Default, clap::Args)]
#[group(multiple = false)]
pub(crate) struct PasswordArgs {
    /// Read the password from standard input (its first line)
    #[arg(long)]
    password_stdin: bool,
    /// Make up a password and print it, once
    #[arg(long)]
    generate_password: bool,
}

/// A new password, and whether we made it up, so that it must be shown.
pub(crate) struct NewPassword {
    pub(crate) text: Zeroizing<String>,
    pub(crate) generated: bool,
}

/// Longest password line read; the policy's own bound is far below.
const MAX_PASSWORD_LINE: u64 = 4096;

impl PasswordArgs {
    /// Gets the password for `username`.
    pub(crate) fn read(&self, username: &str, random: &Random) -> anyhow::Result<NewPassword> {
        let (text, generated) = if self.generate_password {
            (generate(random), true)
        } else if self.password_stdin {
            (first_line_of_stdin()?, false)
        } else if std::io::stdin().is_terminal() {
            (ask_twice(username)?, false)
        } else {
            return Err(misused(
                "there is no terminal to ask for the password on: pipe it in with --password-stdin, \
                 or have one made with --generate-password",
            ));
        };
        Ok(NewPassword { text, generated })
    }
}

fn first_line_of_stdin() -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    std::io::stdin()
        .take(MAX_PASSWORD_LINE + 1)
        .read_to_string(&mut text)
        .map_err(|e| misused(format!("standard input cannot be read: {e}")))?;
    if text.len() as u64 > MAX_PASSWORD_LINE {
        bail!("the password on standard input is longer than {MAX_PASSWORD_LINE} bytes");
    }
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        bail!("standard input holds no password: its first line is empty");
    }
    Ok(Zeroizing::new(line.to_owned()))
}

fn ask_twice(username: &str) -> anyhow::Result<Zeroizing<String>> {
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt).map(Zeroizing::new).context("the terminal cannot be read")
    };
    let first = ask(&format!("New password for {username}: "))?;
    if *first != *ask("The same again: ")? {
        bail!("the two passwords are not the same; nothing was changed");
    }
    Ok(first)
}

/// 140 random bits in letters and digits that are not mistaken for one another.
fn generate(random: &Random) -> Zeroizing<String> {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let bytes = Zeroizing::new(random.bytes::<28>());
    let mut text = Zeroizing::new(String::with_capacity(31));
    for (i, byte) in bytes.iter().enumerate() {
        if i > 0 && i % 7 == 0 {
            text.push('-');
        }
        text.push(char::from(ALPHABET[usize::from(byte % 32)]));
    }
    text
}

/// Asks whether to do what cannot be undone, unless `yes` said so already.
pub(crate) fn confirm(what: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(misused(format!("{what} Add --yes if that is what you want.")));
    }
    let _ = write!(std::io::stderr().lock(), "{what} Type yes to go on: ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("the terminal cannot be read")?;
    if answer.trim() != "yes" {
        bail!("nothing was changed");
    }
    Ok(())
}

/// A token from the command line, or from standard input for `-`. What is not UTF-8 becomes text that
/// is no token, since a token that nobody can read is refused like any other bad one.
pub(crate) fn token(argument: &std::ffi::OsStr, max: usize) -> anyhow::Result<String> {
    if argument != "-" {
        return Ok(argument.to_string_lossy().into_owned());
    }
    let mut bytes = Vec::new();
    // Two bytes more than allowed, for a line end, are enough to see that it is too long.
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(3);
    std::io::stdin()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|e| misused(format!("standard input cannot be read: {e}")))?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_passwords_are_long_and_differ() {
        let random = Random::new();
        let (a, b) = (generate(&random), generate(&random));
        assert_eq!(a.len(), 28 + 3);
        assert_ne!(*a, *b);
    }
}
