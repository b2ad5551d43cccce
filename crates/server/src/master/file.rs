//! The master key file: read with suspicion, made whole or not at all.

use super::{MasterKeyError, Secret, encode, parse};
use crate::random::Random;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// No form of a key is longer.
const MAX_LEN: u64 = 1024;

/// Reads the file; refuses one that others can read, or that holds no key.
pub(super) fn read(path: &Path) -> Result<Secret, MasterKeyError> {
    let fail = |error| MasterKeyError::File { path: path.to_owned(), error };
    let mut file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => MasterKeyError::Missing(path.to_owned()),
        _ => fail(error),
    })?;
    // Asked of the open file: between looking at a path and opening it, it may become another file's.
    let metadata = file.metadata().map_err(fail)?;
    if !metadata.is_file() {
        return Err(MasterKeyError::MalformedFile(path.to_owned()));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(MasterKeyError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(256));
    (&mut file).take(MAX_LEN).read_to_end(&mut text).map_err(fail)?;
    parse(&text).ok_or_else(|| MasterKeyError::MalformedFile(path.to_owned()))
}

/// Makes a file with a new key. If somebody else made it at the same time, that one counts.
pub(super) fn create(path: &Path, random: &Random) -> Result<Secret, MasterKeyError> {
    let fail = |error| MasterKeyError::File { path: path.to_owned(), error };
    let secret = Secret::new(random.bytes());
    let mut text = encode(&secret);
    text.push('\n');
    let temporary = temporary(path, random);
    let linked = write(&temporary, text.as_bytes()).and_then(|()| publish(&temporary, path));
    // It is the published file's second name by now, or useless.
    let _ = std::fs::remove_file(&temporary);
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return read(path),
        Err(error) => return Err(fail(error)),
    }
    sync_folder(path).map_err(fail)?;
    // What is on disk is what counts from now on.
    read(path)
}

fn temporary(path: &Path, random: &Random) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}.tmp", u64::from_be_bytes(random.bytes())));
    path.with_file_name(name)
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// Gives the finished file its name, never in place of another.
fn publish(temporary: &Path, path: &Path) -> io::Result<()> {
    match std::fs::hard_link(temporary, path) {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) =>
        {
            // A file system without hard links. The folder is locked by this process, so that nobody of
            // ours makes the file between the look and the renaming.
            if path.try_exists()? {
                Err(io::ErrorKind::AlreadyExists.into())
            } else {
                std::fs::rename(temporary, path)
            }
        }
        linked => linked,
    }
}

/// A new name is on disk only when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::MasterKey;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        (folder, path)
    }

    #[test]
    fn a_new_key_is_written_for_its_owner_only_and_read_again() {
        let (folder, path) = folder();
        let made = create(&path, &Random::new()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(read(&path).unwrap(), made);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_key_that_is_there_is_never_replaced() {
        let (_folder, path) = folder();
        let first = create(&path, &Random::new()).unwrap();
        assert_eq!(create(&path, &Random::new()).unwrap(), first);
    }

    #[test]
    fn those_who_start_at_once_agree_on_one_key() {
        let (_folder, path) = folder();
        let keys: Vec<Secret> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| create(&path, &Random::new()).unwrap())).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|k| *k == keys[0]));
    }

    #[test]
    fn a_missing_file_is_made_only_when_that_is_asked_for() {
        let (_folder, path) = folder();
        assert!(matches!(read(&path), Err(MasterKeyError::Missing(_))));
        assert!(!path.exists());
        // The environment of the test has no master key.
        let made = MasterKey::load_or_create(&path, &Random::new()).unwrap();
        assert_eq!(MasterKey::load(&path).unwrap().fingerprint(), made.fingerprint());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_what_to_do() {
        let (_folder, path) = folder();
        create(&path, &Random::new()).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o601, 0o777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600") && error.contains(&format!("{mode:04o}")), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        read(&path).unwrap();
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        let (_folder, path) = folder();
        for text in ["", "hunter2", &"A".repeat(44), &"00".repeat(2000)] {
            let _ = fs::remove_file(&path);
            write(&path, text.as_bytes()).unwrap();
            let error = read(&path).unwrap_err();
            assert!(matches!(error, MasterKeyError::MalformedFile(_)), "{error}");
            assert!(!error.to_string().contains("hunter2"));
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(read(&path).is_err());
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_told() {
        let (folder, _) = folder();
        let error = create(&folder.path().join("missing/master.key"), &Random::new()).unwrap_err();
        assert!(matches!(error, MasterKeyError::File { .. }), "{error}");
    }
}
