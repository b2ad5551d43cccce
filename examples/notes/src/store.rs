//! Notes in memory: a real service would have a database here.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Users who may have notes, notes of one user, and bytes of one note, at most.
const USERS_MAX: usize = 1000;
const NOTES_MAX: usize = 100;
const TEXT_MAX: usize = 4096;

/// A note.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Note {
    id: u64,
    text: String,
}

/// The notes of all users, by `sub`: that never becomes somebody else's, as a name or an address may.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    last: u64,
    by_user: BTreeMap<String, Vec<Note>>,
}

/// There is no room for it.
#[derive(Debug)]
pub(crate) struct Full;

impl Notes {
    pub(crate) fn of(&self, user: &str) -> Vec<Note> {
        self.lock().by_user.get(user).cloned().unwrap_or_default()
    }

    pub(crate) fn all(&self) -> BTreeMap<String, Vec<Note>> {
        self.lock().by_user.clone()
    }

    pub(crate) fn add(&self, user: &str, text: String) -> Result<Note, Full> {
        let mut shelf = self.lock();
        let held = shelf.by_user.get(user).map_or(0, Vec::len);
        let new_user_too_many = held == 0 && shelf.by_user.len() >= USERS_MAX;
        if text.len() > TEXT_MAX || held >= NOTES_MAX || new_user_too_many {
            return Err(Full);
        }
        shelf.last += 1;
        let note = Note { id: shelf.last, text };
        shelf.by_user.entry(user.to_owned()).or_default().push(note.clone());
        Ok(note)
    }

    /// Whether the user had it.
    pub(crate) fn delete(&self, user: &str, id: u64) -> bool {
        let mut shelf = self.lock();
        let Some(notes) = shelf.by_user.get_mut(user) else { return false };
        let before = notes.len();
        notes.retain(|note| note.id != id);
        before != notes.len()
    }

    pub(crate) fn delete_all(&self, user: &str) {
        self.lock().by_user.remove(user);
    }

    // No change is ever half done.
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IntoResponse for Full {
    fn into_response(self) -> Response {
        let text = "At most 100 notes of 4096 bytes each.";
        let body = json!({ "error": "too_much", "error_description": text });
        (StatusCode::CONFLICT, Json(body)).into_response()
    }
}
