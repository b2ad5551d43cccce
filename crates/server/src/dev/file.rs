//! `dev.json`: the secrets of development mode, for scripts.

use crate::start::StartError;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

const NAME: &str = "dev.json";
/// No file of ours is larger.
const MAX_BYTES: u64 = 64 * 1024;

/// What `dev.json` says.
#[derive(Clone, Serialize, Deserialize)]
pub struct DevFile {
    /// The issuer of this run.
    pub issuer: String,
    /// Who can log in.
    pub user: UserLogin,
    /// Through what.
    pub clients: Clients,
}

/// A user's name and password.
#[derive(Clone, Serialize, Deserialize)]
pub struct UserLogin {
    /// The name.
    pub username: String,
    /// The password.
    pub password: String,
}

/// The clients, by the kind of their policy.
#[derive(Clone, Serialize, Deserialize)]
pub struct Clients {
    /// Policy `web`.
    pub sliding: Public,
    /// Policy `remember`.
    pub fixed: Public,
    /// Policy `app`.
    pub refresh: Public,
    /// Policy `browser`.
    pub cookie: Public,
    /// Confidential: administration, the feed, introspection.
    pub service: Service,
}

/// A public client.
#[derive(Clone, Serialize, Deserialize)]
pub struct Public {
    /// Its id.
    pub client_id: String,
}

/// A confidential client.
#[derive(Clone, Serialize, Deserialize)]
pub struct Service {
    /// Its id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
}

impl std::fmt::Debug for DevFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevFile").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for UserLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserLogin").field("username", &self.username).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

impl DevFile {
    /// Reads the file of an earlier start; `None` when there is none.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, StartError> {
        let path = folder.join(NAME);
        let failed = |error| StartError::File { path: path.clone(), error };
        let mut text = String::new();
        match File::open(&path) {
            Ok(file) => file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            let what = format!("not what development mode wrote ({error}); delete it to get new secrets");
            failed(io::Error::new(io::ErrorKind::InvalidData, what))
        })
    }

    /// Writes the file whole or not at all, readable by its owner only.
    pub(super) fn write(&self, folder: &Path) -> Result<(), StartError> {
        let path = folder.join(NAME);
        self.replace(&path, &folder.join("dev.json.tmp")).map_err(|error| StartError::File { path, error })
    }

    fn replace(&self, path: &Path, beside: &Path) -> io::Result<()> {
        // Of a run that was killed here. Made anew, so that its mode is surely ours.
        match fs::remove_file(beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(beside)?;
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(beside, path)
    }
}
