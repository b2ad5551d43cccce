//! What wraps every request: limits, CORS, errors in one form, headers of every answer, metrics, access log.
//!
//! One function instead of ten layers: each layer boxes and clones, and the whole of this costs less than
//! two of them.

use super::{access, errors, trace};
use crate::authority::App;
use crate::dev;
use crate::http::caller::{Peer, ShownIp};
use crate::http::error::{ApiError, Refusal};
use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

/// Bodies larger than this are refused by axum's extractors unless told otherwise.
const AXUM_BODY_MAX: usize = 2 * 1024 * 1024;

/// Wraps the routes, and answers for paths and methods that are not there.
pub fn layers(routes: Router<App>, app: &App) -> Router {
    let server = &app.config.server;
    let outer = Outer(Arc::new(Facts {
        app: Arc::clone(app),
        https: app.issuer.starts_with("https://"),
        exports_traces: app.config.telemetry.otlp_endpoint.is_some(),
        access_log: server.access_log,
        max_body_bytes: server.max_body_bytes,
        max_header_bytes: server.max_header_bytes,
        request_timeout: server.request_timeout.0,
    }));
    let mut routes =
        routes.fallback(errors::not_found).method_not_allowed_fallback(errors::method_not_allowed);
    if server.max_body_bytes > AXUM_BODY_MAX {
        routes = routes.layer(DefaultBodyLimit::disable());
    }
    routes.layer(from_fn_with_state(outer, around)).with_state(Arc::clone(app))
}

/// What every request needs to know.
#[derive(Clone)]
struct Outer(Arc<Facts>);

struct Facts {
    app: App,
    https: bool,
    exports_traces: bool,
    access_log: bool,
    max_body_bytes: usize,
    max_header_bytes: usize,
    request_timeout: Duration,
}

async fn around(State(Outer(facts)): State<Outer>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let route = path.as_ref().map_or("-", MatchedPath::as_str);
    let ip = request.extensions().get::<Peer>().map(|p| p.0);
    let span = trace::request_span(request.headers(), (&method, route), facts.exports_traces);

    let work = facts.answer(request, next, begun);
    let mut client = None;
    let mut response = if span.is_none() && !facts.access_log {
        work.await
    } else {
        let span = span.as_ref().map_or_else(tracing::Span::none, |s| s.span.clone());
        let (response, noted) = Box::pin(access::with_client(work).instrument(span)).await;
        client = noted;
        response
    };
    facts.add_headers(&mut response);

    let (status, took) = (response.status(), begun.elapsed());
    log_refusal(&response, (&method, route), ip);
    facts.app.metrics.request(route, &method, status, took);
    if let Some(span) = &span {
        trace::ended(&span.span, status);
    }
    if facts.access_log {
        let trace_id = span.and_then(|s| s.trace_id);
        access::Line { method: &method, route, status, took, client, ip, trace_id }.write();
    }
    response
}

/// Every refused authentication and authorization is logged (ASVS 16.3.1, 16.3.2), whoever refused it. A
/// request without any credential is a question, not an attempt.
fn log_refusal(response: &Response, (method, route): (&Method, &str), ip: Option<IpAddr>) {
    let Some(Refusal { code, reason }) = response.extensions().get().copied() else { return };
    let (ip, reason) = (ShownIp(ip), reason.unwrap_or("-"));
    match response.status() {
        StatusCode::FORBIDDEN => tracing::warn!(%method, route, code, reason, %ip, "refused"),
        StatusCode::UNAUTHORIZED if code != "unauthorized" => {
            tracing::info!(%method, route, code, reason, %ip, "not authenticated");
        }
        _ => {}
    }
}

impl Facts {
    async fn answer(&self, request: Request, next: Next, begun: Instant) -> Response {
        if let Err(error) = self.check(&request) {
            return error.into_response();
        }
        let Some(origin) = request.headers().get(header::ORIGIN).cloned() else {
            return self.run(request, next, begun).await;
        };
        let preflight = request.method() == Method::OPTIONS
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let allowed = self.app.cors_headers(&origin, preflight);
        let mut response = match (preflight, &allowed) {
            (false, _) => self.run(request, next, begun).await,
            (true, Some(_)) => StatusCode::NO_CONTENT.into_response(),
            (true, None) => origin_not_allowed().into_response(),
        };
        if let Some(allowed) = allowed {
            let headers = response.headers_mut();
            headers.extend(allowed);
            headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
        }
        response
    }

    /// What is refused before anything is done.
    fn check(&self, request: &Request) -> Result<(), ApiError> {
        if header_bytes(request) > self.max_header_bytes {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Err(ApiError::new(status, "headers_too_large", "The headers are too large."));
        }
        if self.app.dev.is_some() { dev::check_host(request) } else { Ok(()) }
    }

    /// Reads the body, then runs the handler; both together have `request_timeout`.
    async fn run(&self, request: Request, next: Next, begun: Instant) -> Response {
        let deadline = begun + self.request_timeout;
        let request = match timeout_at(deadline, with_body(request, self.max_body_bytes)).await {
            Ok(Ok(request)) => request,
            Ok(Err(error)) => return error.into_response(),
            Err(_) => return errors::body_too_slow().into_response(),
        };
        match timeout_at(deadline, errors::catch_panic(next.run(request))).await {
            Ok(Some(response)) => errors::in_our_form(response),
            Ok(None) => {
                self.app.metrics.panic();
                errors::panicked().into_response()
            }
            Err(_) => {
                tracing::warn!("no answer within server.request_timeout");
                errors::answer_too_slow().into_response()
            }
        }
    }

    fn add_headers(&self, response: &mut Response) {
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            // Whoever made the answer mostly knows better; none goes without.
            response.headers_mut().entry(header::RETRY_AFTER).or_insert(HeaderValue::from_static("5"));
        }
        let headers = response.headers_mut();
        let html = headers.get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"text/html"));
        if html {
            headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
        }
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // Clients go by it, and a machine's clock may be another than the one that this node goes by.
        let differs = self.app.clock.machine_behind().is_some_and(|ms| ms.unsigned_abs() >= 500);
        if (self.app.dev.is_some() || differs)
            && let Some(date) = self.app.clock.http_date()
        {
            headers.insert(header::DATE, date);
        }
        if self.app.draining.load(Ordering::Relaxed) {
            // A proxy that kept the connection would send its next request just as it is closed.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if self.https {
            let year = HeaderValue::from_static("max-age=31536000; includeSubDomains");
            headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
        }
        // Answers that say otherwise know better: the page its scripts, public documents how long they keep.
        let defaults = [
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(NOTHING_LOADS)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (
                http::HeaderName::from_static("cross-origin-resource-policy"),
                HeaderValue::from_static("same-origin"),
            ),
        ];
        for (name, value) in defaults {
            headers.entry(name).or_insert(value);
        }
    }
}

/// The policy of answers that are no pages: should a browser show one, nothing of it runs or loads.
const NOTHING_LOADS: &str = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

fn origin_not_allowed() -> ApiError {
    ApiError::forbidden(
        "origin_not_allowed",
        "No client lists this origin. Add the page's origin to the client's `origins`.",
    )
}

/// Bytes of the request line and the headers, about as they came.
fn header_bytes(request: &Request) -> usize {
    let uri = request.uri();
    let target = uri.path().len() + uri.query().map_or(0, |q| q.len() + 1);
    let fields =
        |headers: &HeaderMap| headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 4).sum::<usize>();
    target + fields(request.headers())
}

/// The request with its body read, `max` bytes at most, whatever its handler does with it.
///
/// What is too large is read on and dropped for a while: a connection that is closed while its peer still
/// sends can lose the answer on the way.
async fn with_body(request: Request, max: usize) -> Result<Request, ApiError> {
    let size = request.body().size_hint();
    if request.body().is_end_stream() || size.exact() == Some(0) {
        return Ok(request);
    }
    let (parts, mut body) = request.into_parts();
    let (mut read, mut seen) = (BytesMut::new(), 0);
    while seen <= max + DROPPED_MAX && size.lower() <= bytes(max + DROPPED_MAX) {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|_| ApiError::invalid_request("The body could not be read."))?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len();
        if seen <= max {
            read.extend_from_slice(&data);
        }
    }
    if seen > max || size.lower() > bytes(max) {
        let error =
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "The body is too large.");
        return Err(error.header(header::CONNECTION, "close"));
    }
    Ok(Request::from_parts(parts, Body::from(read.freeze())))
}

/// Bytes of a body that are read although it is too large.
const DROPPED_MAX: usize = 1024 * 1024;

fn bytes(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
