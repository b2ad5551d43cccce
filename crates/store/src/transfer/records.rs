//! What travels: records as core types, so that no engine needs to know another's tables.

use reseal_core::challenge::Challenge;
use reseal_core::event::LoggedEvent;
use reseal_core::keys::{KeyRecord, KeyUse};
use reseal_core::user::UserSecrets;
use reseal_core::{Client, ClientId, KeyId, Session, SessionId, TimelineEntry, Timestamp, User, UserId};
use serde::{Deserialize, Serialize};

/// The kinds of records, in the order in which they are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Small named values of the authority itself, feed epoch and high-water marks among them.
    Meta,
    /// Clients.
    Clients,
    /// Keys, as sealed as they are.
    Keys,
    /// Users with their secrets, and what is remembered of deleted ones.
    Users,
    /// Sessions with their timelines, ended ones included.
    Sessions,
    /// Challenges.
    Challenges,
    /// Events with their numbers.
    Events,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] =
        [Self::Meta, Self::Clients, Self::Keys, Self::Users, Self::Sessions, Self::Challenges, Self::Events];

    /// Its name, in the plural.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "values",
            Self::Clients => "clients",
            Self::Keys => "keys",
            Self::Users => "users",
            Self::Sessions => "sessions",
            Self::Challenges => "challenges",
            Self::Events => "events",
        }
    }

    /// The kind that is copied after this one.
    pub(crate) fn following(self) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind > self)
    }

    /// Its number in a journal.
    pub(crate) const fn code(self) -> i16 {
        match self {
            Self::Meta => 1,
            Self::Clients => 2,
            Self::Keys => 3,
            Self::Users => 4,
            Self::Sessions => 5,
            Self::Challenges => 6,
            Self::Events => 7,
        }
    }
}

/// Which record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// The value of that name.
    Meta(String),
    /// A client.
    Client(ClientId),
    /// A key.
    Key(KeyUse),
    /// A user.
    User(UserId),
    /// A session with its timeline.
    Session(SessionId),
    /// The challenge of that id.
    Challenge([u8; 32]),
    /// The event of that number.
    Event(u64),
}

impl Item {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Meta(_) => Kind::Meta,
            Self::Client(_) => Kind::Clients,
            Self::Key(_) => Kind::Keys,
            Self::User(_) => Kind::Users,
            Self::Session(_) => Kind::Sessions,
            Self::Challenge(_) => Kind::Challenges,
            Self::Event(_) => Kind::Events,
        }
    }

    /// A challenge of that id in hexadecimal digits.
    pub(crate) fn challenge_from_hex(hex: &str) -> Option<Self> {
        let mut id = [0; 32];
        if hex.len() != 64 {
            return None;
        }
        for (i, byte) in id.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok()?;
        }
        Some(Self::Challenge(id))
    }

    /// From a journal's entry: ids as their bytes, everything else as text.
    pub(crate) fn from_journal(kind: i16, key: &[u8]) -> Option<Self> {
        let text = || std::str::from_utf8(key).ok();
        let kind = Kind::ALL.into_iter().find(|known| known.code() == kind)?;
        Some(match kind {
            Kind::Meta => Self::Meta(text()?.to_owned()),
            Kind::Clients => Self::Client(text()?.parse().ok()?),
            Kind::Keys => Self::Key(key_use(text()?)?),
            Kind::Users => Self::User(UserId::from_bytes(key.try_into().ok()?)),
            Kind::Sessions => Self::Session(SessionId::from_bytes(key.try_into().ok()?)),
            Kind::Challenges => Self::Challenge(key.try_into().ok()?),
            Kind::Events => Self::Event(text()?.parse().ok()?),
        })
    }
}

impl Item {
    /// Its key in a journal; see [`Item::from_journal`].
    pub(crate) fn journal_key(&self) -> Vec<u8> {
        match self {
            Self::Meta(name) => name.clone().into_bytes(),
            Self::Client(id) => id.as_str().as_bytes().to_vec(),
            Self::Key(key_use) => key_name(key_use).into_bytes(),
            Self::User(id) => id.as_bytes().to_vec(),
            Self::Session(id) => id.as_bytes().to_vec(),
            Self::Challenge(id) => id.to_vec(),
            Self::Event(seq) => seq.to_string().into_bytes(),
        }
    }
}

/// The name that the engines give a key.
pub(crate) fn key_name(key_use: &KeyUse) -> String {
    match key_use {
        KeyUse::Signing { algorithm, kid } => format!("signing {algorithm} {kid}"),
        KeyUse::Ring { id } => format!("ring {}", id.0),
    }
}

/// The use of a key from the name that the engines give it: `ring ID` or `signing ALGORITHM KID`.
pub(crate) fn key_use(name: &str) -> Option<KeyUse> {
    if let Some(id) = name.strip_prefix("ring ") {
        return Some(KeyUse::Ring { id: KeyId(id.parse().ok()?) });
    }
    let (algorithm, kid) = name.strip_prefix("signing ")?.split_once(' ')?;
    Some(KeyUse::Signing { algorithm: algorithm.to_owned(), kid: kid.to_owned() })
}

/// A user, or what is remembered of one.
#[derive(Clone, Debug, PartialEq)]
pub enum UserRecord {
    /// A user with the secrets.
    Live(Box<User>, UserSecrets),
    /// A deleted one.
    Deleted(DeletedUser),
}

impl UserRecord {
    /// Whose.
    pub fn id(&self) -> UserId {
        match self {
            Self::Live(user, _) => user.id,
            Self::Deleted(deleted) => deleted.id,
        }
    }
}

/// What is remembered of a deleted user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletedUser {
    /// Whose.
    pub id: UserId,
    /// The highest `auth_epoch` there was.
    pub auth_epoch: u64,
    /// The highest `revision` there was.
    pub revision: u64,
    /// When it was deleted.
    pub deleted_at: Timestamp,
}

/// A session with its timeline, oldest line first.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionRecord {
    /// The row.
    pub session: Session,
    /// Its lines.
    pub timeline: Vec<TimelineEntry>,
}

/// Records that are written together. Repeating it changes nothing.
#[derive(Clone, Default, PartialEq)]
pub struct Batch {
    /// Values by name.
    pub meta: Vec<(String, Vec<u8>)>,
    /// Clients.
    pub clients: Vec<Client>,
    /// Keys.
    pub keys: Vec<KeyRecord>,
    /// Users, each once.
    pub users: Vec<UserRecord>,
    /// Sessions, each once.
    pub sessions: Vec<SessionRecord>,
    /// Challenges.
    pub challenges: Vec<Challenge>,
    /// Events.
    pub events: Vec<LoggedEvent>,
    /// What was asked for and is not there. A user who is gone takes along what the target still has of his
    /// sessions: the source has none.
    pub gone: Vec<Item>,
}

/// Figures only: values and secrets stay out of logs.
impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({} records, {} gone)", self.len(), self.gone.len())
    }
}

impl Batch {
    /// How many records there are, without those that are gone.
    pub fn len(&self) -> usize {
        self.meta.len()
            + self.clients.len()
            + self.keys.len()
            + self.users.len()
            + self.sessions.len()
            + self.challenges.len()
            + self.events.len()
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.gone.is_empty()
    }

    /// Everything in the order of the keys, for comparing.
    pub(crate) fn sort(&mut self) {
        self.meta.sort();
        self.clients.sort_by(|a, b| a.id.cmp(&b.id));
        self.keys.sort_by(|a, b| a.key_use.cmp(&b.key_use));
        self.users.sort_by_key(UserRecord::id);
        self.sessions.sort_by_key(|s| s.session.id);
        self.challenges.sort_by_key(|c| c.id.0);
        self.events.sort_by_key(|e| e.seq);
        self.gone.sort();
    }

    /// The keys of all records that are there.
    pub(crate) fn items(&self) -> Vec<Item> {
        let mut items = Vec::with_capacity(self.len());
        items.extend(self.meta.iter().map(|(name, _)| Item::Meta(name.clone())));
        items.extend(self.clients.iter().map(|c| Item::Client(c.id.clone())));
        items.extend(self.keys.iter().map(|k| Item::Key(k.key_use.clone())));
        items.extend(self.users.iter().map(|u| Item::User(u.id())));
        items.extend(self.sessions.iter().map(|s| Item::Session(s.session.id)));
        items.extend(self.challenges.iter().map(|c| Item::Challenge(c.id.0)));
        items.extend(self.events.iter().map(|e| Item::Event(e.seq)));
        items
    }
}

/// How many records of each kind a store has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Values.
    pub meta: u64,
    /// Clients.
    pub clients: u64,
    /// Keys.
    pub keys: u64,
    /// Users, deleted ones that are remembered included.
    pub users: u64,
    /// Sessions, ended ones included.
    pub sessions: u64,
    /// Lines of all timelines.
    pub timeline: u64,
    /// Challenges.
    pub challenges: u64,
    /// Events.
    pub events: u64,
    /// The number of the newest event ever logged.
    pub last_event: u64,
}

impl Counts {
    /// How many of that kind.
    pub const fn of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Meta => self.meta,
            Kind::Clients => self.clients,
            Kind::Keys => self.keys,
            Kind::Users => self.users,
            Kind::Sessions => self.sessions,
            Kind::Challenges => self.challenges,
            Kind::Events => self.events,
        }
    }

    /// All records; a timeline belongs to its session.
    pub fn total(&self) -> u64 {
        Kind::ALL.iter().map(|kind| self.of(*kind)).sum()
    }

    /// The first figure that differs, with ours and theirs.
    pub(crate) fn difference(&self, other: &Self) -> Option<(&'static str, u64, u64)> {
        let kinds = Kind::ALL.map(|kind| (kind.name(), self.of(kind), other.of(kind)));
        let rest = [
            ("lines of timelines", self.timeline, other.timeline),
            ("as number of the newest event", self.last_event, other.last_event),
        ];
        kinds.into_iter().chain(rest).find(|(_, ours, theirs)| ours != theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_reads_back_from_a_journal() {
        let cases: [(Kind, Vec<u8>, Item); 8] = [
            (Kind::Meta, b"feed_epoch".to_vec(), Item::Meta("feed_epoch".to_owned())),
            (Kind::Clients, b"web".to_vec(), Item::Client("web".parse().unwrap())),
            (Kind::Keys, b"ring 7".to_vec(), Item::Key(KeyUse::Ring { id: KeyId(7) })),
            (
                Kind::Keys,
                b"signing ES256 a-kid".to_vec(),
                Item::Key(KeyUse::Signing { algorithm: "ES256".to_owned(), kid: "a-kid".to_owned() }),
            ),
            (Kind::Users, vec![1; 16], Item::User(UserId::from_bytes([1; 16]))),
            (Kind::Sessions, vec![2; 16], Item::Session(SessionId::from_bytes([2; 16]))),
            (Kind::Challenges, vec![3; 32], Item::Challenge([3; 32])),
            (Kind::Events, b"18446744073709551615".to_vec(), Item::Event(u64::MAX)),
        ];
        for (kind, key, item) in cases {
            assert_eq!(item.kind(), kind);
            assert_eq!(item.journal_key(), key);
            assert_eq!(Item::from_journal(kind.code(), &key), Some(item));
        }
        assert_eq!(Item::from_journal(99, b"x"), None);
        assert_eq!(Item::from_journal(Kind::Users.code(), b"short"), None);
        assert_eq!(Item::from_journal(Kind::Keys.code(), b"signing ES256"), None);
    }

    #[test]
    fn the_kinds_follow_each_other_and_all_are_reached() {
        let mut kinds = vec![Kind::Meta];
        while let Some(next) = kinds.last().and_then(|kind| kind.following()) {
            kinds.push(next);
        }
        assert_eq!(kinds, Kind::ALL);
    }
}
