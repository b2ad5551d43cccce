//! Where the programs are: installed, or unpacked under `target/debian` by `cargo xtask test`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A program that is there.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    path: PathBuf,
    /// Folders of shared libraries that were unpacked with it.
    libraries: Vec<PathBuf>,
}

impl Program {
    /// A program of PostgreSQL, of the newest version that is installed. The environment variable
    /// `RESEAL_TEST_PG_BIN` names another folder.
    pub(crate) fn postgres(name: &str) -> Self {
        let folder =
            postgres_folder().unwrap_or_else(|| panic!("please install: postgresql ({name} is missing)"));
        Self::at(folder.join(name))
    }

    /// A program of a Debian package.
    pub(crate) fn find(name: &str, package: &str) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let unpacked = unpacked();
        let folders = std::env::split_paths(&path)
            .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
            .chain(["usr/sbin", "usr/bin"].map(|folder| unpacked.join(folder)));
        let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
        Self::at(found.unwrap_or_else(|| panic!("please install: {package} ({name} is missing)")))
    }

    fn at(path: PathBuf) -> Self {
        let libraries = if path.starts_with(unpacked()) { library_folders() } else { Vec::new() };
        Self { path, libraries }
    }

    /// A command that runs it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        if let Ok(joined) = std::env::join_paths(&self.libraries)
            && !joined.is_empty()
        {
            command.env("LD_LIBRARY_PATH", joined);
        }
        command
    }
}

/// Where `cargo xtask test` unpacks Debian's packages.
fn unpacked() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/debian").components().collect()
}

fn postgres_folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("RESEAL_TEST_PG_BIN") {
        return Some(folder.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    newest(Path::new("/usr/lib/postgresql"))
        .or_else(|| newest(&unpacked().join("usr/lib/postgresql")))
        .or_else(|| std::env::split_paths(&path).find(|folder| is_postgres(folder)))
}

/// The `bin` of the highest version in a folder with one folder per version.
fn newest(versions: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(versions).ok()?.filter_map(Result::ok);
    let numbered = versions.filter_map(|entry| {
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        let folder = entry.path().join("bin");
        is_postgres(&folder).then_some((number, folder))
    });
    numbered.max().map(|(_, folder)| folder)
}

fn is_postgres(folder: &Path) -> bool {
    ["postgres", "initdb", "pg_basebackup", "psql"].iter().all(|name| folder.join(name).is_file())
}

/// `usr/lib/<triplet>` and `lib/<triplet>`.
fn library_folders() -> Vec<PathBuf> {
    let parents = ["usr/lib", "lib"].map(|folder| unpacked().join(folder));
    let inside = parents.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let folders = inside.filter_map(Result::ok).map(|entry| entry.path());
    folders.filter(|path| path.to_string_lossy().ends_with("-linux-gnu")).collect()
}
