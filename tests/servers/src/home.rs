//! The folder of this process's servers, and who clears it away when the process is no more.
//!
//! Drops do not run when a test process is killed, nor for statics. So a small shell waits for the end of this
//! process (the end of its standard input), then kills whatever works in the folder and removes it.

use crate::program::Program;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Waits for the end of standard input. Every server's working folder is below `$1`, so it ends those and no
/// others. PostgreSQL's lock file names the memory segment that a killed server leaves behind.
const JANITOR: &str = r#"
trap '' HUP INT TERM
read -r _
for round in 1 2 3; do
  for process in /proc/[0-9]*; do
    case "$(readlink "$process/cwd" 2>/dev/null)" in "$1"/*) kill -9 "${process#/proc/}" 2>/dev/null;; esac
  done
  for file in "$1"/*/data/postmaster.pid; do
    [ -f "$file" ] && sed -n 7p "$file" | while read -r _ id; do ipcrm -m "$id" 2>/dev/null; done
  done
  rm -rf "$1" 2>/dev/null
  [ -e "$1" ] || exit 0
  sleep 1
done
"#;

struct Home {
    path: PathBuf,
    /// Its standard input is open as long as this process lives.
    _janitor: Child,
}

/// A folder that is removed when dropped, and when the test process ends in whatever way; a process that works in
/// it is killed then.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new one; the kind is part of its name.
    pub fn new(kind: &str) -> Self {
        Self(folder(kind))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A new folder for one server, which any user may enter.
pub(crate) fn folder(kind: &str) -> PathBuf {
    static HOME: OnceLock<Home> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let home = HOME.get_or_init(Home::new);
    let folder = home.path.join(format!("{kind}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir(&folder).unwrap();
    open_to_all(&folder);
    folder
}

impl Home {
    fn new() -> Self {
        let path = tempfile::Builder::new().prefix("reseal-servers-").tempdir().unwrap().keep();
        // As the janitor sees it in /proc.
        let path = path.canonicalize().unwrap();
        open_to_all(&path);
        let janitor = Command::new("sh")
            .args(["-c", JANITOR, "janitor"])
            .arg(&path)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What ends our group must not end it.
            .process_group(0)
            .spawn()
            .unwrap();
        Self { path, _janitor: janitor }
    }
}

fn open_to_all(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Whom PostgreSQL runs as: it refuses to be root. None: as ourselves.
pub(crate) fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let nobody = users.lines().find(|line| line.starts_with("nobody:"));
    let fields: Vec<&str> = nobody.expect("there is a user nobody").split(':').collect();
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}

/// A command of a program that runs in a folder, as that user.
pub(crate) fn command(program: &Program, folder: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = program.command();
    command.current_dir(folder).stdin(Stdio::null()).env("LC_ALL", "C");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}
