//! One connection to the feed: what it says goes into the maps, and how it ended decides what comes next.

use super::authority::{Authority, NoToken};
use super::sse::{Message, Parser};
use super::status::Status;
use super::{Settings, Timing};
use crate::freshness::SharedFreshness;
use crate::http::cause;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Response, StatusCode};
use reseal_core::event::LoggedEvent;
use reseal_core::feed::{FeedMessage, Position};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// The stream has no time limit as a whole; a client's own must not count.
const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// How a connection ended, or why there was none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The server ended it in order, as it does when the token expires.
    Orderly,
    /// It did not come about, was cut, or fell silent.
    Broken(String),
    /// The token is not good (any more).
    Unauthorized,
    /// Only a person can mend it.
    Forbidden(&'static str),
    /// What is known may have holes: all live events must come again.
    StartOver(String),
}

/// Reads the feed, one connection after the other. There is never more than one, so that nothing of a
/// superseded one is ever taken in.
pub(super) struct Reader<'a> {
    pub(super) authority: Authority,
    pub(super) freshness: &'a SharedFreshness,
    pub(super) status: &'a Status,
    pub(super) settings: &'a Settings,
    /// The last event that was taken in.
    pub(super) position: Option<Position>,
}

impl Reader<'_> {
    /// Opens a connection and reads it to its end.
    pub(super) async fn connect(&mut self) -> End {
        let response = match self.open().await {
            Ok(response) => response,
            Err(end) => return end,
        };
        self.status.connected();
        self.read(response).await
    }

    /// Everything must come again: the next connection asks for it.
    pub(super) fn start_over(&mut self) {
        self.position = None;
        self.freshness.start_over();
    }

    async fn open(&mut self) -> Result<Response, End> {
        let request = self.authority.feed().await.map_err(|error| match error {
            NoToken::Away(why) => End::Broken(why),
            NoToken::Refused(why) => End::Forbidden(why),
        })?;
        let mut request = request.header(ACCEPT, "text/event-stream").timeout(NO_LIMIT);
        if let Some(position) = self.position {
            request = request.header("last-event-id", position.to_string());
        }
        let response = match timeout(self.settings.timing.answer, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(End::Broken(cause(&error))),
            Err(_) => return Err(End::Broken("the feed did not answer in time".to_owned())),
        };
        match response.status() {
            StatusCode::OK if is_event_stream(&response) => Ok(response),
            StatusCode::OK => Err(End::Broken("the feed answered something that is no feed".to_owned())),
            StatusCode::UNAUTHORIZED => Err(End::Unauthorized),
            StatusCode::FORBIDDEN => {
                Err(End::Forbidden("the client may not read the feed: it lacks the scope reseal:feed"))
            }
            status @ (StatusCode::BAD_REQUEST | StatusCode::GONE) if self.position.is_some() => {
                Err(End::StartOver(format!("the feed answered {status} to the position")))
            }
            status => Err(End::Broken(format!("the feed answered {status}"))),
        }
    }

    async fn read(&mut self, mut response: Response) -> End {
        let Timing { silence, .. } = self.settings.timing;
        let (mut parser, mut messages) = (Parser::default(), Vec::new());
        let mut last_word = Instant::now();
        loop {
            // Only whole messages are words, of a name that is known: a line that never ends, comments, or what
            // somebody on the way puts in keep nothing alive.
            let chunk = match timeout_at(last_word + silence, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return End::Orderly,
                Ok(Err(error)) => return End::Broken(cause(&error)),
                Err(_) => return End::Broken("nothing was heard for too long".to_owned()),
            };
            let bounds = parser.push(&chunk, &mut messages);
            for message in messages.drain(..) {
                match self.take_in(&message) {
                    Ok(true) => last_word = Instant::now(),
                    Ok(false) => {}
                    Err(end) => return end,
                }
            }
            if let Err(too_long) = bounds {
                return End::StartOver(too_long.to_string());
            }
        }
    }

    /// Whatever is wrong with a message, it may be one that must not be missed. Whether it is one of ours.
    fn take_in(&mut self, message: &Message) -> Result<bool, End> {
        let decoded = FeedMessage::decode(&message.name, &message.data);
        let Some(known) = decoded.map_err(|error| End::StartOver(error.to_string()))? else {
            return self.pass_by(message).map(|()| false);
        };
        self.take_in_known(known, message.id.as_deref()).map(|()| true)
    }

    fn take_in_known(&mut self, message: FeedMessage, id: Option<&str>) -> Result<(), End> {
        match message {
            FeedMessage::Event(logged) => self.event(&logged, id),
            FeedMessage::CaughtUp { seq } => {
                self.not_behind(seq)?;
                self.freshness.caught_up();
                self.status.caught_up();
                Ok(())
            }
            FeedMessage::Heartbeat { seq, now } => {
                self.not_behind(seq)?;
                self.freshness.heard();
                self.status.clock_difference(now.saturating_sub(self.settings.clock.now()));
                Ok(())
            }
            FeedMessage::StartOver => {
                self.status.started_over();
                self.start_over();
                Ok(())
            }
        }
    }

    fn event(&mut self, logged: &LoggedEvent, id: Option<&str>) -> Result<(), End> {
        // First of all: whatever else is wrong, it makes things stricter.
        self.freshness.apply(logged);
        self.freshness.heard();
        self.status.event(&logged.event.kind);
        let at = id.and_then(|id| id.parse::<Position>().ok()).filter(|at| at.seq == logged.seq);
        let at = at.ok_or_else(|| End::StartOver("an event has no position, or a wrong one".to_owned()))?;
        self.advance(at)
    }

    /// A message of a later version says nothing to this one, but its place counts.
    fn pass_by(&mut self, message: &Message) -> Result<(), End> {
        match message.id.as_deref().and_then(|id| id.parse().ok()) {
            Some(at) => self.advance(at),
            None => Ok(()),
        }
    }

    /// Numbers grow, with gaps where events are dead; and another epoch is another log.
    fn advance(&mut self, at: Position) -> Result<(), End> {
        if let Some(last) = self.position {
            if at.epoch != last.epoch {
                return Err(End::StartOver("the feed is of another epoch".to_owned()));
            }
            if at.seq < last.seq {
                return Err(End::StartOver("the feed went backwards".to_owned()));
            }
        }
        self.position = Some(at);
        Ok(())
    }

    /// A node that has read less of the log than was told before has lost some of it.
    fn not_behind(&self, seq: u64) -> Result<(), End> {
        match self.position {
            Some(last) if seq < last.seq => Err(End::StartOver("the log went backwards".to_owned())),
            _ => Ok(()),
        }
    }
}

fn is_event_stream(response: &Response) -> bool {
    let essence = |value: &str| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| essence(value) == "text/event-stream")
}
