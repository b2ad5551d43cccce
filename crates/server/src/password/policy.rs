//! What a new password may be.

use super::breached::{BreachedFileError, BreachedPasswords};
use super::{Password, common};
use std::path::Path;
use std::sync::Arc;

/// The rules for new passwords (ASVS 6.2, NIST SP 800-63B-4 §3.1.1.2): a length, and nothing that is known
/// or easily guessed. No rules of composition, no expiry.
#[derive(Clone, Debug, Default)]
pub struct PasswordPolicy {
    breached: Option<Arc<BreachedPasswords>>,
}

/// Why a password may not be a new one. The messages are for its user, but the last, which is for the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeakPassword {
    /// Too few characters.
    #[error("The password needs at least {} characters; 15 or more are better.", PasswordPolicy::MIN_CHARS)]
    TooShort,
    /// Too many characters.
    #[error("The password may have at most {} characters.", PasswordPolicy::MAX_CHARS)]
    TooLong,
    /// One of those that everybody tries.
    #[error("This password is one of the most common ones. Choose another.")]
    Common,
    /// The username with little else.
    #[error("The password must not be made of the username.")]
    Username,
    /// It was in a data breach.
    #[error("This password has appeared in a data breach. Choose another.")]
    Breached,
    /// It is not known whether it was: the file cannot be read. The password must not be taken.
    #[error(transparent)]
    Unchecked(#[from] BreachedFileError),
}

impl PasswordPolicy {
    /// Fewest characters.
    pub const MIN_CHARS: usize = 8;
    /// Most characters: however wide they are, they fit into [`Password::MAX_BYTES`].
    pub const MAX_CHARS: usize = Password::MAX_BYTES / 4;
    /// What must be left of a password without the username in it.
    const MIN_BESIDE_USERNAME: usize = 4;

    /// The rules with the file of breached passwords, if one is configured.
    pub fn open(breached_passwords_file: Option<&Path>) -> Result<Self, BreachedFileError> {
        let breached = breached_passwords_file.map(BreachedPasswords::open).transpose()?;
        Ok(Self { breached: breached.map(Arc::new) })
    }

    /// Whether `password` may become the password of the user of that name. The file is read on a thread
    /// that may wait.
    pub async fn check(&self, password: &Password, username: &str) -> Result<(), WeakPassword> {
        check_text(password.reveal(), username)?;
        let Some(breached) = self.breached.clone() else { return Ok(()) };
        let password = password.clone();
        match tokio::task::spawn_blocking(move || breached.contains(&password)).await {
            Ok(found) => found_in(found?),
            // The runtime is shutting down: there is no answer any more, least of all a good one.
            Err(_) => Err(WeakPassword::Breached),
        }
    }

    /// The same on the calling thread, for the command line.
    pub fn check_blocking(&self, password: &Password, username: &str) -> Result<(), WeakPassword> {
        check_text(password.reveal(), username)?;
        self.breached.as_ref().map_or(Ok(()), |breached| found_in(breached.contains(password)?))
    }
}

fn found_in(breached: bool) -> Result<(), WeakPassword> {
    if breached { Err(WeakPassword::Breached) } else { Ok(()) }
}

fn check_text(password: &str, username: &str) -> Result<(), WeakPassword> {
    let chars = password.chars().count();
    if chars < PasswordPolicy::MIN_CHARS {
        return Err(WeakPassword::TooShort);
    }
    if chars > PasswordPolicy::MAX_CHARS {
        return Err(WeakPassword::TooLong);
    }
    if common::is_common(password) {
        return Err(WeakPassword::Common);
    }
    // The name before the @ of an e-mail address is a name too.
    let local = username.split('@').next().unwrap_or_default();
    if [username, local].into_iter().any(|name| is_made_of(password, name)) {
        return Err(WeakPassword::Username);
    }
    Ok(())
}

/// Whether the password has the name in it, however capitalised or often, and hardly anything else.
fn is_made_of(password: &str, name: &str) -> bool {
    let (password, name) = (password.to_lowercase(), name.to_lowercase());
    if name.is_empty() || !password.contains(&name) {
        return false;
    }
    password.replace(&name, "").chars().count() < PasswordPolicy::MIN_BESIDE_USERNAME
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::new(text.to_owned()).unwrap()
    }

    fn check(text: &str, username: &str) -> Result<(), WeakPassword> {
        PasswordPolicy::default().check_blocking(&password(text), username)
    }

    #[test]
    fn length_is_counted_in_characters() {
        assert!(matches!(check("1x3y5z7", "ann"), Err(WeakPassword::TooShort)));
        assert!(matches!(check("äöüßéèñ", "ann"), Err(WeakPassword::TooShort)));
        check("äöüßéèñø", "ann").unwrap();
        check(&"🦀x".repeat(128), "ann").unwrap();
        assert!(matches!(check(&"xy".repeat(129), "ann"), Err(WeakPassword::TooLong)));
        check(&"🔑".repeat(256), "ann").unwrap();
    }

    #[test]
    fn no_kind_of_character_is_asked_for() {
        for text in ["tenletters", "correct horse battery staple", "29384756103", "    spaces    "] {
            check(text, "ann").unwrap();
        }
    }

    #[test]
    fn common_passwords_are_refused_however_capitalised() {
        for text in ["password", "Password1", "QWERTYUIOP", "12345678", "iloveyou1"] {
            assert!(matches!(check(text, "ann"), Err(WeakPassword::Common)), "{text}");
        }
    }

    #[test]
    fn a_password_made_of_the_username_is_refused() {
        for (text, username) in [
            ("jsmith1984xx", "jsmith1984xx"),
            ("JSmith1984", "jsmith1984"),
            ("annekatrin123", "annekatrin"),
            ("annannannann", "ann"),
            ("jane.roe42", "jane.roe@example.com"),
            ("jane.roe@example.com", "jane.roe@example.com"),
        ] {
            assert!(matches!(check(text, username), Err(WeakPassword::Username)), "{text}");
        }
        for (text, username) in [("ann likes tea", "ann"), ("savannah rain", "a"), ("something else", "")] {
            check(text, username).unwrap();
        }
    }

    #[tokio::test]
    async fn breached_passwords_are_refused_and_so_is_an_unreadable_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("breached.txt");
        // SHA-1 of "P@ssw0rd!!", as sha1sum tells it, among others.
        std::fs::write(&path, format!("{}\n{SHA1}:3\n{}\n", "0".repeat(40), "F".repeat(40))).unwrap();
        let policy = PasswordPolicy::open(Some(&path)).unwrap();
        assert!(matches!(policy.check(&password(TEXT), "ann").await, Err(WeakPassword::Breached)));
        assert!(matches!(policy.check_blocking(&password(TEXT), "ann"), Err(WeakPassword::Breached)));
        policy.check(&password("P@ssw0rd!!!"), "ann").await.unwrap();

        std::fs::write(&path, "this is another file now, but as long as the one that was opened before it")
            .unwrap();
        let unchecked = policy.check(&password("P@ssw0rd!!!"), "ann").await;
        assert!(matches!(unchecked, Err(WeakPassword::Unchecked(_))), "{unchecked:?}");
        assert!(PasswordPolicy::open(Some(&folder.path().join("missing"))).is_err());
    }

    const TEXT: &str = "P@ssw0rd!!";
    const SHA1: &str = "0dc2dccff772651d2c5faa55f13e7a6c3fa9f55f";
}
