//! What is imported: a file, known by its content, or standard input.

use super::lines::Lines;
use crate::exit::{misused, unreadable};
use aws_lc_rs::digest::{Context, SHA256};
use std::fs::File;
use std::io::{BufReader, Read, Seek as _};
use std::path::Path;

/// An open source of lines.
pub(super) struct Source {
    /// Its lines.
    pub(super) lines: Lines<BufReader<Box<dyn Read + Send>>>,
    /// What is known of a file before it is read.
    pub(super) file: Option<FileFacts>,
}

/// A file as it was found.
pub(super) struct FileFacts {
    /// SHA-256 of its content: an import goes on only in exactly the file that it began with. A file
    /// in which a bad line was mended is another one, and starts over.
    pub(super) digest: [u8; 32],
    /// How many lines it has.
    pub(super) lines: u64,
}

impl Source {
    /// Opens the file, or standard input for `-`.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        if path.as_os_str() == "-" {
            let lines = Lines::new(BufReader::new(Box::new(std::io::stdin()) as Box<dyn Read + Send>));
            return Ok(Self { lines, file: None });
        }
        let failed = |error| unreadable(path, &error);
        let mut file = File::open(path).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        if kind.is_dir() {
            return Err(misused(format!("{} is a folder, not a file", path.display())));
        }
        if !kind.is_file() {
            // A pipe can be read only once.
            return Ok(Self {
                lines: Lines::new(BufReader::new(Box::new(file) as Box<dyn Read + Send>)),
                file: None,
            });
        }
        let facts = read_facts(&mut file).map_err(failed)?;
        file.rewind().map_err(failed)?;
        let reader = BufReader::with_capacity(64 * 1024, Box::new(file) as Box<dyn Read + Send>);
        Ok(Self { lines: Lines::new(reader), file: Some(facts) })
    }
}

fn read_facts(file: &mut File) -> std::io::Result<FileFacts> {
    let mut digest = Context::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    let (mut lines, mut last) = (0, b'\n');
    loop {
        let length = file.read(&mut buffer)?;
        let Some(end) = buffer[..length].last() else { break };
        last = *end;
        digest.update(&buffer[..length]);
        lines += buffer[..length].iter().filter(|b| **b == b'\n').count();
    }
    // A last line without an end is a line too.
    lines += usize::from(last != b'\n');
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.finish().as_ref());
    Ok(FileFacts { digest: bytes, lines: u64::try_from(lines).unwrap_or(u64::MAX) })
}
