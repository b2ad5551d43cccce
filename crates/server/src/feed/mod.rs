//! `GET /v1/feed`: what verifiers must know, as server-sent events (design §7).
//!
//! [`log`] reads the event log, once per node; `hub` keeps the newest events encoded; each `reader` has a
//! cursor into them, and reads the store when it is behind. So no committed event is skipped, and nobody
//! waits for a slow reader.

mod chunk;
mod hub;
pub mod log;
mod reader;

pub use hub::Hub;

use crate::authority::App;
use crate::connection::Leash;
use crate::http::client_token::{ClientToken, Needed};
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use reader::{Begin, FeedBody, Place, Reader};
use reseal_core::feed::Position;
use reseal_store::{FEED_EPOCH, Store, StoreError};
use std::time::Duration;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The token that the feed takes.
pub(crate) type FeedToken = ClientToken<Feed>;

/// What reading the feed needs.
#[derive(Clone, Copy, Debug)]
pub struct Feed;

impl Needed for Feed {
    const SCOPE: &'static str = "reseal:feed";
}

/// When to come again if all places are taken.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The route.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show))
}

/// What verifiers must know: ended sessions, changed claims and clients, withdrawn keys.
///
/// An endless stream of server-sent events. It begins with all live events, or with those after
/// `Last-Event-ID`, then `caught-up`; from then on events come as they happen, and a `heartbeat` every five
/// seconds. `start-over` tells a reader to forget what it knows: all live events follow. The stream ends
/// when the token does: come again with a new one and the last `id`.
#[utoipa::path(
    get, path = "/v1/feed", tag = "feed", security(("bearer" = [])),
    params(("Last-Event-ID" = Option<String>, Header, description = "The last `id` that was received: `epoch.seq`")),
    responses(
        (status = 200, description = "The stream", body = String, content_type = "text/event-stream"),
        (status = 400, description = "`Last-Event-ID` or `Authorization` is malformed", body = ErrorBody),
        (status = 401, description = "No token, or not a valid one", body = ErrorBody),
        (status = 403, description = "Not a client's own token, or without the scope `reseal:feed`", body = ErrorBody),
        (status = 503, description = "As many readers as `feed.max_readers` allows, or shutting down", body = ErrorBody),
    )
)]
async fn show(
    State(app): State<App>,
    token: FeedToken,
    headers: HeaderMap,
    leash: Option<Extension<Leash>>,
) -> ApiResult<Response> {
    let position = last_event_id(&headers)?;
    let full = || ApiError::unavailable(RETRY_AFTER).reason("too_many_readers");
    if *app.feed.stopping().borrow() {
        return Err(ApiError::unavailable(Duration::from_secs(1)));
    }
    let permit = app.feed.place().ok_or_else(full)?;
    // Whoever comes after a commit has not caught up without it, though this node has yet to read it.
    let newest = app.store.last_event().await?;
    let begin = match position {
        None => Begin::Whole,
        // Nobody is too far behind: what has left the log concerns no token that lives.
        Some(at) if at.epoch == app.feed.epoch && at.seq <= newest => Begin::After(at.seq),
        Some(_) => Begin::Over,
    };
    let place = Place::new(&app, token.client.id.to_string(), permit, leash.map(|Extension(leash)| leash));
    let body = FeedBody::new(Reader::new(app, token, (begin, newest), place));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // nginx would hold events back until it has a buffer full of them.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::new(body)).into_response())
}

fn last_event_id(headers: &HeaderMap) -> ApiResult<Option<Position>> {
    let mut values = headers.get_all("last-event-id").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let position = value.to_str().ok().and_then(|text| text.parse().ok());
    match (position, values.next()) {
        (Some(position), None) => Ok(Some(position)),
        _ => Err(ApiError::invalid_request(
            "Last-Event-ID must be the id of an event: 32 lower-case hexadecimal digits, a dot and a number.",
        )),
    }
}

/// The epoch of the store's log.
pub async fn epoch(store: &dyn Store) -> Result<[u8; 16], StoreError> {
    let stored = store.meta(FEED_EPOCH).await?;
    let epoch = stored.and_then(|bytes| bytes.try_into().ok());
    epoch
        .ok_or_else(|| StoreError::Corrupt("the epoch of the feed is missing or has not 16 bytes".to_owned()))
}
