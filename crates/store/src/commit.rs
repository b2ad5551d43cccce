//! Everything that is not a rotation or a touch: writes that belong together.

use reseal_core::challenge::Challenge;
use reseal_core::client::SecretHash;
use reseal_core::event::{EndReason, Event};
use reseal_core::keys::{KeyRecord, KeyUse};
use reseal_core::user::UserSecrets;
use reseal_core::{Client, ClientId, Session, SessionId, TimelineEntry, Timestamp, User, UserId};
use std::net::IpAddr;

/// Writes that are done in order in one transaction; the first precondition that fails undoes all.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// The writes.
    pub writes: Vec<Write>,
}

/// One write and its precondition.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Write {
    /// Inserts a session. The id must be unused, the user must exist, be enabled, and have the
    /// `auth_epoch` that the login began with.
    StartSession(Box<StartSession>),
    /// Replaces a session that has not ended and has the version before this one's.
    SwapSession(Box<Session>),
    /// Ends all sessions that match and have not ended (also those that have run out, with this
    /// reason): one event and one line each.
    EndSessions(EndSessions),
    /// Inserts a user; the username must be free. One who comes again under the id of a user that was
    /// deleted begins above the `revision` and `auth_epoch` of before, whatever the record says: a verifier
    /// may still know those of before, and a login may be under way.
    CreateUser(Box<User>, UserSecrets),
    /// Replaces a user of the version before this one's; with `Some`, the secrets too.
    SwapUser(Box<User>, Option<UserSecrets>),
    /// Replaces the secrets alone, of a user that has exactly this version, and keeps the record: for
    /// a rehash, which is no change of the password.
    SwapSecrets {
        /// Whose.
        user: UserId,
        /// The record's version, which stays.
        version: u32,
        /// The new secrets.
        secrets: UserSecrets,
    },
    /// Deletes a user of this version whose sessions have all ended or end in this commit.
    DeleteUser {
        /// Whom.
        user: UserId,
        /// The record's version.
        version: u32,
        /// When: revision and epoch are remembered for a day from then, and as long as an event names the
        /// user.
        at: Timestamp,
    },
    /// Inserts a client; the id must be free.
    CreateClient(Box<Client>),
    /// Replaces a client of the version before this one's.
    SwapClient(Box<Client>),
    /// Deletes a client.
    DeleteClient(ClientId),
    /// Inserts a challenge.
    CreateChallenge(Box<Challenge>),
    /// Replaces a challenge of the version before this one's.
    SwapChallenge(Box<Challenge>),
    /// Deletes a challenge that must still be there with exactly this version: used once.
    TakeChallenge {
        /// Which.
        id: SecretHash,
        /// Its version.
        version: u32,
    },
    /// Inserts a key, or changes the times of one with the same secret: two processes may number a key of
    /// theirs alike. A key that was withdrawn stays so, whatever this says, for it may have been decided
    /// on before the withdrawal.
    PutKey(Box<KeyRecord>),
    /// Deletes a key.
    DeleteKey(KeyUse),
    /// Adds a line to a timeline (dropped when the timeline is full, unless it tells of an end).
    Timeline(TimelineEntry),
    /// Appends an event to the log.
    Log(Event),
    /// Sets a small named value of the authority itself.
    PutMeta(String, Vec<u8>),
    /// The same, if its value is still `before` (`None`: there is none): what several nodes read, decide on
    /// and write.
    SwapMeta {
        /// Its name.
        name: String,
        /// The value that was decided on.
        before: Option<Vec<u8>>,
        /// The new one.
        value: Vec<u8>,
    },
}

/// A session to start.
#[derive(Clone, Debug)]
pub struct StartSession {
    /// The row.
    pub session: Session,
    /// The user's `auth_epoch` when the login began.
    pub auth_epoch: u64,
    /// Most sessions the user may have that have neither ended nor run out, this one included; 0 is no
    /// limit. The oldest end with reason `revoked` to make room.
    pub max_sessions: usize,
    /// `until` of the events of those.
    pub event_until: Timestamp,
}

/// Sessions to end together.
#[derive(Clone, Debug)]
pub struct EndSessions {
    /// Which.
    pub filter: EndFilter,
    /// Why.
    pub reason: EndReason,
    /// When.
    pub now: Timestamp,
    /// On whose request, for the timeline.
    pub ip: Option<IpAddr>,
    /// `until` of their events.
    pub event_until: Timestamp,
}

/// Which sessions to end.
#[derive(Clone, Debug)]
pub enum EndFilter {
    /// That one.
    One(SessionId),
    /// All of the user but one, if one is named.
    User {
        /// Whose.
        user: UserId,
        /// The one to keep.
        except: Option<SessionId>,
    },
    /// At most `limit` of a client (repeat until none is left).
    Client {
        /// Which client.
        client: ClientId,
        /// How many in one transaction.
        limit: usize,
    },
    /// At most `limit` of all (repeat until none is left).
    All {
        /// How many in one transaction.
        limit: usize,
    },
}

impl Commit {
    /// A commit of these writes.
    pub fn of(writes: impl IntoIterator<Item = Write>) -> Self {
        Self { writes: writes.into_iter().collect() }
    }

    /// Adds a write.
    pub fn push(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// Adds what a decision changed: the row, its lines and its events.
    pub fn push_change(&mut self, change: reseal_core::session::Change, event_until: Timestamp) {
        let events: Vec<Event> = change.events_until(event_until).collect();
        if let Some(session) = change.session {
            self.push(Write::SwapSession(Box::new(session)));
        }
        self.writes.extend(change.timeline.into_iter().map(Write::Timeline));
        self.writes.extend(events.into_iter().map(Write::Log));
    }
}
