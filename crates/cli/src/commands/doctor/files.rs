//! What can be seen without opening the database: the folder, its files, who serves it, the disk.

use super::Findings;
use crate::words;
use reseal_server::config::Config;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let data = &config.store.data;
    let shown = data.display();
    // With a database server only the master key lies there, unless it is elsewhere.
    let is_server = config.store.url.is_some();
    if is_server && !data.exists() {
        return;
    }
    let meta = match fs::metadata(data) {
        Ok(meta) if meta.is_dir() => meta,
        Ok(_) => {
            return findings.fail("folder", format!("{shown} is not a folder; name another with --data"));
        }
        Err(error) => {
            return findings.fail(
                "folder",
                format!("{shown}: {error}; `reseal serve` makes it, or name it with --data"),
            );
        }
    };
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        findings.ok("folder", format!("{shown} (mode {mode:04o}, owner {})", meta.uid()));
    } else {
        findings
            .warn("folder", format!("{shown} is open to others (mode {mode:04o}); run `chmod 700 {shown}`"));
    }
    check_files(data, findings);
    if !is_server {
        check_lock(data, findings);
        check_disk(data, findings);
    }
}

/// Files with secrets or records, each for its owner only. Of databases that were set aside, as of the others.
fn check_files(data: &Path, findings: &mut Findings) {
    let files = fs::read_dir(data).into_iter().flatten().filter_map(|entry| entry.ok().map(|e| e.path()));
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name == "dev.json" || name.starts_with("reseal.db")
    };
    let ours: Vec<PathBuf> = files.filter(is_ours).collect();
    let open: Vec<String> = ours
        .iter()
        .filter(|path| fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o077 != 0))
        .map(|path| path.display().to_string())
        .collect();
    if open.is_empty() {
        findings.ok("files", "readable by their owner only");
    } else {
        findings.fail("files", format!("others can read them: run `chmod 600 {}`", open.join(" ")));
    }
}

fn check_lock(data: &Path, findings: &mut Findings) {
    let path = data.join("lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return findings.ok("server", "never ran on this folder");
        }
        Err(error) => return findings.warn("server", format!("{}: {error}", path.display())),
    };
    // Shared, and only for this instant: a server that starts right now takes it a moment later.
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let pid = fs::read_to_string(&path).unwrap_or_default();
            let pid = pid.trim();
            let who = if pid.is_empty() { String::new() } else { format!(" (process {pid})") };
            findings.ok("server", format!("running{who}"));
        }
        Err(TryLockError::Error(error)) => findings.warn("server", format!("{}: {error}", path.display())),
        Ok(()) => findings.ok("server", "not running"),
    }
}

/// Below this much free space a warning, below the other a failure.
const SPACE_WARN: u64 = 1 << 30;
const SPACE_FAIL: u64 = 64 << 20;

fn check_disk(data: &Path, findings: &mut Findings) {
    let stat = match rustix::fs::statvfs(data) {
        Ok(stat) => stat,
        Err(error) => return findings.warn("disk", format!("free space cannot be read: {error}")),
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let text = format!("{} free", words::bytes(free));
    if free < SPACE_FAIL {
        findings.fail("disk", format!("{text}: writes will soon be refused; make room now"));
    } else if free < SPACE_WARN {
        findings.warn("disk", format!("{text}; make room soon"));
    } else {
        findings.ok("disk", text);
    }
}
