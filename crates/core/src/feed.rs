//! The feed on the wire (design §7): its messages and positions, for those who write and who read it.
//!
//! The feed is a stream of server-sent events. Each message has a name (`event:`) and data in JSON; those
//! that tell of the log also have a [`Position`] (`id:`), which a reader sends back as `Last-Event-ID`.

use crate::event::{EndReason, Event, EventKind, LoggedEvent};
use crate::id::{ClientId, SessionId, UserId};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest data of a message that is read, in bytes: a `keys-changed` with all keys of a set fits.
pub const MAX_DATA_LEN: usize = 64 * 1024;

/// A place in the log of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which log: random, and another one after a restore.
    pub epoch: [u8; 16],
    /// The number of the event.
    pub seq: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.epoch {
            write!(f, "{byte:02x}")?;
        }
        write!(f, ".{}", self.seq)
    }
}

/// A text that is no [`Position`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position in the feed is 32 lower-case hexadecimal digits, a dot and a number")]
pub struct InvalidPosition;

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(s: &str) -> Result<Self, InvalidPosition> {
        let (hex, number) = s.split_once('.').ok_or(InvalidPosition)?;
        let digit = |b: u8| match b {
            b'0'..=b'9' => Ok(b - b'0'),
            b'a'..=b'f' => Ok(b - b'a' + 10),
            _ => Err(InvalidPosition),
        };
        let digits: [u8; 32] = hex.as_bytes().try_into().map_err(|_| InvalidPosition)?;
        let mut epoch = [0; 16];
        for (byte, pair) in epoch.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        // One spelling of every number: no sign, no leading zero.
        let canonical = number == "0" || number.starts_with(|c: char| ('1'..='9').contains(&c));
        let seq = number.parse().ok().filter(|_| canonical).ok_or(InvalidPosition)?;
        Ok(Self { epoch, seq })
    }
}

/// A message of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedMessage {
    /// An event of the log; the only one with an `id:`.
    Event(LoggedEvent),
    /// Everything up to here was sent; from now on it is live.
    CaughtUp {
        /// The number of the newest event that the node has read.
        seq: u64,
    },
    /// The node has read the log within the last second.
    Heartbeat {
        /// The number of the newest event that was sent or needed no sending.
        seq: u64,
        /// The node's time, Unix seconds.
        now: i64,
    },
    /// What the reader knows is of another log, or too old: all live events follow, then `caught-up`.
    StartOver,
}

/// `data:` of the events; every member that any of them has.
#[derive(Serialize, Deserialize)]
struct EventData<'a> {
    seq: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sid: Option<SessionId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sub: Option<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rev: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    client_id: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    withdrawn: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    reason: Option<std::borrow::Cow<'a, str>>,
    until: i64,
}

#[derive(Serialize, Deserialize)]
struct CaughtUpData {
    seq: u64,
}

#[derive(Serialize, Deserialize)]
struct HeartbeatData {
    seq: u64,
    now: i64,
}

/// A message that is not as the design has it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// Longer than [`MAX_DATA_LEN`].
    #[error("the data of a {0} has more than {MAX_DATA_LEN} bytes")]
    TooLong(&'static str),
    /// Not JSON, or a member is missing or of another type.
    #[error("the data of a {0} is not what it should be")]
    Malformed(&'static str),
}

impl FeedMessage {
    /// The name: `event:`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Event(logged) => logged.event.kind.type_name(),
            Self::CaughtUp { .. } => "caught-up",
            Self::Heartbeat { .. } => "heartbeat",
            Self::StartOver => "start-over",
        }
    }

    /// The JSON: `data:`. One line.
    pub fn data(&self) -> String {
        let json = match self {
            Self::Event(logged) => serde_json::to_string(&event_data(logged)),
            Self::CaughtUp { seq } => serde_json::to_string(&CaughtUpData { seq: *seq }),
            Self::Heartbeat { seq, now } => serde_json::to_string(&HeartbeatData { seq: *seq, now: *now }),
            Self::StartOver => return "{}".to_owned(),
        };
        json.expect("numbers and texts are JSON")
    }

    /// The whole message as it goes over the wire, with its `id:` where it has one.
    pub fn encode(&self, epoch: [u8; 16]) -> String {
        let (name, data) = (self.name(), self.data());
        match self {
            Self::Event(logged) => {
                format!("event: {name}\nid: {}\ndata: {data}\n\n", Position { epoch, seq: logged.seq })
            }
            _ => format!("event: {name}\ndata: {data}\n\n"),
        }
    }

    /// Reads a message. `None` is one of a name that this version does not know: it may be passed by.
    pub fn decode(name: &str, data: &str) -> Result<Option<Self>, FeedError> {
        let known = ["session-ended", "claims-changed", "client-changed", "keys-changed"];
        let known = known.into_iter().chain(["caught-up", "heartbeat", "start-over"]);
        let Some(name) = known.into_iter().find(|known| *known == name) else { return Ok(None) };
        if data.len() > MAX_DATA_LEN {
            return Err(FeedError::TooLong(name));
        }
        let malformed = || FeedError::Malformed(name);
        Ok(Some(match name {
            "caught-up" => {
                let CaughtUpData { seq } = serde_json::from_str(data).map_err(|_| malformed())?;
                Self::CaughtUp { seq }
            }
            "heartbeat" => {
                let HeartbeatData { seq, now } = serde_json::from_str(data).map_err(|_| malformed())?;
                Self::Heartbeat { seq, now }
            }
            "start-over" => Self::StartOver,
            _ => {
                let data = serde_json::from_str(data).map_err(|_| malformed())?;
                Self::Event(logged_event(name, data).ok_or_else(malformed)?)
            }
        }))
    }
}

fn event_data(logged: &LoggedEvent) -> EventData<'_> {
    // Rounded up: on the wire an event must not die before its time.
    let until = logged.event.until.millis().saturating_add(999).div_euclid(1000);
    let mut data = EventData {
        seq: logged.seq,
        sid: None,
        sub: None,
        rev: None,
        client_id: None,
        before: None,
        withdrawn: None,
        reason: None,
        until,
    };
    match &logged.event.kind {
        EventKind::SessionEnded { sid, reason } => {
            (data.sid, data.reason) = (Some(*sid), Some(reason.as_str().into()));
        }
        EventKind::ClaimsChanged { sub, rev } => (data.sub, data.rev) = (Some(*sub), Some(*rev)),
        EventKind::ClientChanged { client_id, before } => {
            (data.client_id, data.before) = (Some(client_id.as_str().into()), Some(*before));
        }
        EventKind::KeysChanged { withdrawn } => data.withdrawn = Some(withdrawn.clone()),
    }
    data
}

fn logged_event(name: &str, data: EventData<'_>) -> Option<LoggedEvent> {
    let kind = match name {
        "session-ended" => EventKind::SessionEnded {
            sid: data.sid?,
            // That it ended counts, whatever a newer authority calls the reason.
            reason: data.reason?.parse().unwrap_or(EndReason::Revoked),
        },
        "claims-changed" => EventKind::ClaimsChanged { sub: data.sub?, rev: data.rev? },
        "client-changed" => EventKind::ClientChanged {
            client_id: data.client_id?.parse::<ClientId>().ok()?,
            before: data.before?,
        },
        "keys-changed" => EventKind::KeysChanged { withdrawn: data.withdrawn? },
        _ => return None,
    };
    Some(LoggedEvent { seq: data.seq, event: Event { kind, until: Timestamp::from_secs(data.until) } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds() -> impl Strategy<Value = EventKind> {
        prop_oneof![
            (any::<[u8; 16]>(), 0..EndReason::ALL.len()).prop_map(|(sid, reason)| EventKind::SessionEnded {
                sid: SessionId::from_bytes(sid),
                reason: EndReason::ALL[reason],
            }),
            (any::<[u8; 16]>(), any::<u64>())
                .prop_map(|(sub, rev)| EventKind::ClaimsChanged { sub: UserId::from_bytes(sub), rev }),
            any::<i64>().prop_map(|before| EventKind::ClientChanged {
                client_id: "a-client".parse().unwrap(),
                before,
            }),
            proptest::collection::vec("[ -~]{0,20}", 0..4)
                .prop_map(|withdrawn| EventKind::KeysChanged { withdrawn }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(kind in kinds(), seq: u64, until in 0..i64::MAX / 2000) {
            let event = Event { kind, until: Timestamp::from_secs(until) };
            let message = FeedMessage::Event(LoggedEvent { seq, event });
            let data = message.data();
            prop_assert!(!data.contains('\n'));
            prop_assert_eq!(FeedMessage::decode(message.name(), &data).unwrap(), Some(message));
        }

        #[test]
        fn any_text_is_read_without_a_panic(name in "[a-z-]{0,16}", data in ".{0,200}") {
            let names = ["session-ended", "claims-changed", "client-changed", "keys-changed", "caught-up", "heartbeat"];
            for name in names.into_iter().chain([name.as_str()]) {
                let _ = FeedMessage::decode(name, &data);
            }
            let _ = data.parse::<Position>();
        }

        #[test]
        fn a_position_reads_back(epoch: [u8; 16], seq: u64) {
            let position = Position { epoch, seq };
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }
    }

    #[test]
    fn a_position_has_one_spelling() {
        let epoch = "00112233445566778899aabbccddeeff";
        assert!(format!("{epoch}.7").parse::<Position>().is_ok());
        for bad in
            ["", "7", ".7", "00.7", &format!("{epoch}."), &format!("{epoch}.+7"), &format!("{epoch}.07")]
        {
            assert_eq!(bad.parse::<Position>(), Err(InvalidPosition), "{bad}");
        }
        assert!(format!("{}.7", epoch.to_uppercase()).parse::<Position>().is_err());
        assert!(format!("{epoch}.18446744073709551616").parse::<Position>().is_err());
    }

    #[test]
    fn the_wire_is_as_the_design_has_it() {
        let sid = SessionId::from_bytes([1; 16]);
        let kind = EventKind::SessionEnded { sid, reason: EndReason::SignedOut };
        let event = Event { kind, until: Timestamp::from_millis(1_000_001) };
        let message = FeedMessage::Event(LoggedEvent { seq: 7, event });
        assert_eq!(
            message.encode([0xab; 16]),
            format!(
                "event: session-ended\nid: {}.7\ndata: {{\"seq\":7,\"sid\":\"{sid}\",\"reason\":\"signed_out\",\"until\":1001}}\n\n",
                "ab".repeat(16)
            )
        );
        assert_eq!(FeedMessage::StartOver.encode([0; 16]), "event: start-over\ndata: {}\n\n");
        let heartbeat = FeedMessage::Heartbeat { seq: 3, now: 5 };
        assert_eq!(heartbeat.encode([0; 16]), "event: heartbeat\ndata: {\"seq\":3,\"now\":5}\n\n");
    }

    #[test]
    fn a_message_of_a_later_version_is_passed_by_and_a_broken_one_is_not() {
        assert_eq!(FeedMessage::decode("something-new", "{}"), Ok(None));
        let sid = SessionId::from_bytes([1; 16]);
        let data = format!("{{\"seq\":1,\"sid\":\"{sid}\",\"reason\":\"because\",\"until\":9,\"more\":[]}}");
        assert!(matches!(FeedMessage::decode("session-ended", &data), Ok(Some(FeedMessage::Event(_)))));
        assert!(FeedMessage::decode("session-ended", "{\"seq\":1,\"until\":9}").is_err());
        assert!(FeedMessage::decode("caught-up", "{}").is_err());
    }
}
