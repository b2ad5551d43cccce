//! The file of breached passwords: sorted SHA-1 hashes, looked up on disk (ASVS 6.2.12).
//!
//! Its form is that of the Pwned Passwords downloads: one hash a line in hexadecimal, sorted, with or
//! without `:count` behind it. Such a file has tens of gigabytes; a look-up reads about forty of its
//! blocks and keeps nothing.

use super::Password;
use aws_lc_rs::digest;
use std::cmp::Ordering;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// An opened file of breached passwords.
#[derive(Debug)]
pub struct BreachedPasswords {
    file: File,
    len: u64,
    path: PathBuf,
}

/// Why a file of breached passwords cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BreachedFileError {
    /// It cannot be read.
    #[error("{path}: {error}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is something else.
    #[error(
        "{path}: not a sorted list of SHA-1 hashes: {reason}. Use the list of Pwned Passwords that is ordered by hash",
        path = path.display()
    )]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Hexadecimal digits of a hash.
const DIGITS: usize = 40;
/// No line is longer: hash, colon, count, line end.
const MAX_LINE: usize = 64;
/// How many places of a file are looked at when it is opened.
const SAMPLES: u64 = 64;

type Hash = [u8; 20];

impl BreachedPasswords {
    /// Opens a file and looks at some of its lines, to find one that is no list or not sorted.
    pub fn open(path: &Path) -> Result<Self, BreachedFileError> {
        let read = |error| BreachedFileError::Read { path: path.to_owned(), error };
        let file = File::open(path).map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        let this = Self { file, len: metadata.len(), path: path.to_owned() };
        if !metadata.is_file() {
            return Err(this.malformed("not a regular file"));
        }
        if this.len == 0 {
            return Err(this.malformed("it is empty"));
        }
        let mut last = None;
        for sample in 0..SAMPLES {
            let Some(line) = this.first_line_from(this.len / SAMPLES * sample)? else { break };
            if last.is_some_and(|last| line.hash < last) {
                return Err(this.malformed("it is not sorted"));
            }
            last = Some(line.hash);
        }
        Ok(this)
    }

    /// Whether the password is in the file. Reads the disk: not for a thread that must not wait.
    pub fn contains(&self, password: &Password) -> Result<bool, BreachedFileError> {
        let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, password.reveal().as_bytes());
        let mut wanted: Hash = [0; 20];
        wanted.copy_from_slice(sha1.as_ref());
        let (mut low, mut high) = (0, self.len);
        // Wanted is on no line that begins before `low` or at `high` and after.
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(line) = self.first_line_from(middle)?.filter(|line| line.start < high) else {
                high = middle;
                continue;
            };
            match line.hash.cmp(&wanted) {
                Ordering::Equal => return Ok(true),
                Ordering::Less => low = line.end,
                Ordering::Greater => high = middle,
            }
        }
        Ok(false)
    }

    /// The first line that begins at `from` or later; `None` when there is none.
    fn first_line_from(&self, from: u64) -> Result<Option<Line>, BreachedFileError> {
        // A line begins at 0 or behind a line end, which may be the byte before `from`.
        let base = from.saturating_sub(1);
        let mut buffer = [0; 2 * MAX_LINE + 1];
        let length = self.read_at(&mut buffer, base)?;
        let bytes = &buffer[..length];
        let skipped = match bytes.iter().position(|b| *b == b'\n') {
            _ if from == 0 => 0,
            Some(at) => at + 1,
            None if base + as_u64(length) >= self.len => return Ok(None),
            None => return Err(self.malformed("a line is too long")),
        };
        let rest = &bytes[skipped..];
        if rest.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let end = match rest.iter().position(|b| *b == b'\n') {
            Some(at) => at + 1,
            None if base + as_u64(length) >= self.len => rest.len(),
            None => return Err(self.malformed("a line is too long")),
        };
        let hash = parse(&rest[..end]).ok_or_else(|| self.malformed("a line is no SHA-1 hash"))?;
        let start = base + as_u64(skipped);
        Ok(Some(Line { start, end: start + as_u64(end), hash }))
    }

    /// Reads until the buffer is full or the file ends.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, BreachedFileError> {
        let mut length = 0;
        while length < buffer.len() {
            match self.file.read_at(&mut buffer[length..], offset + as_u64(length)) {
                Ok(0) => break,
                Ok(n) => length += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BreachedFileError::Read { path: self.path.clone(), error }),
            }
        }
        Ok(length)
    }

    fn malformed(&self, reason: &'static str) -> BreachedFileError {
        BreachedFileError::Malformed { path: self.path.clone(), reason }
    }
}

/// A line of the file: where it begins, where the next one does, and its hash.
struct Line {
    start: u64,
    end: u64,
    hash: Hash,
}

/// 40 hexadecimal digits, then nothing or `:count`.
fn parse(line: &[u8]) -> Option<Hash> {
    let (digits, rest) = line.trim_ascii_end().split_at_checked(DIGITS)?;
    match rest {
        [] => {}
        [b':', count @ ..] if !count.is_empty() && count.iter().all(u8::is_ascii_digit) => {}
        _ => return None,
    }
    let mut hash = [0; 20];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(hash)
}

fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write as _;

    fn password(text: &str) -> Password {
        Password::new(text.to_owned()).unwrap()
    }

    fn hex(text: &str) -> String {
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        hash.as_ref().iter().fold(String::new(), |mut out, byte| {
            write!(out, "{byte:02X}").unwrap();
            out
        })
    }

    fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("breached.txt");
        std::fs::write(&path, content).unwrap();
        (folder, path)
    }

    fn open(content: &str) -> Result<BreachedPasswords, BreachedFileError> {
        BreachedPasswords::open(&file(content).1)
    }

    #[test]
    fn the_hash_is_sha1_of_the_password() {
        // From the documentation of Pwned Passwords.
        assert_eq!(hex("P@ssw0rd"), "21BD12DC183F740EE76F27B78EB39C8AD972A757");
    }

    #[test]
    fn a_file_that_is_no_sorted_list_is_refused() {
        let (a, b) = ("0".repeat(40), "F".repeat(40));
        for (content, says) in [
            (String::new(), "empty"),
            ("password\nhunter2\n".to_owned(), "no SHA-1"),
            (format!("{a}:x\n"), "no SHA-1"),
            (format!("{a}0\n"), "no SHA-1"),
            ("0".repeat(400), "too long"),
            (format!("{b}\n").repeat(50) + &format!("{a}\n").repeat(50), "not sorted"),
        ] {
            let error = open(&content).unwrap_err().to_string();
            assert!(error.contains(says), "{content}: {error}");
        }
        assert!(matches!(
            BreachedPasswords::open(Path::new("/nowhere")),
            Err(BreachedFileError::Read { .. })
        ));
        let folder = tempfile::tempdir().unwrap();
        assert!(BreachedPasswords::open(folder.path()).is_err());
    }

    proptest! {
        #[test]
        fn what_is_in_the_file_is_found_and_nothing_else(
            known in proptest::collection::btree_set("[a-z]{1,6}", 1..60),
            asked in proptest::collection::vec("[a-z]{1,6}", 0..20),
            counts in proptest::bool::ANY,
            ending in prop_oneof![Just("\n"), Just("\r\n")],
            last_ending in proptest::bool::ANY,
            lower in proptest::bool::ANY,
        ) {
            let mut lines: Vec<String> = known.iter().map(|k| hex(k)).collect();
            lines.sort();
            for (n, line) in lines.iter_mut().enumerate() {
                if lower {
                    line.make_ascii_lowercase();
                }
                if counts {
                    write!(line, ":{}", 7usize.pow(u32::try_from(n % 10).unwrap())).unwrap();
                }
            }
            let mut content = lines.join(ending);
            if last_ending {
                content.push_str(ending);
            }
            let (_folder, path) = file(&content);
            let list = BreachedPasswords::open(&path).unwrap();
            for text in known.iter().chain(&asked) {
                prop_assert_eq!(list.contains(&password(text)).unwrap(), known.contains(text), "{}", text);
            }
        }
    }
}
