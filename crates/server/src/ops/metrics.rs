//! Metrics in the Prometheus format.
//!
//! `/metrics` shows operating figures to whoever can reach it: keep it from the public at the proxy, or
//! set `server.metrics = false`. No metric has a label that a caller can choose, so their number is bounded.

use super::process;
use crate::authority::{App, Authority};
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use metrics::{Counter, Histogram, Key, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Upper bounds of the buckets of request durations, in seconds.
const BUCKETS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
const METADATA: Metadata<'static> = Metadata::new("reseal", Level::INFO, None);

/// The authority's metrics.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    logins: Family,
    refreshes: Family,
    renewals: Family,
    started: Family,
    ended: Family,
    gateway_tokens: Family,
    feed_events: Counter,
    feed_ends: Family,
    panics: Counter,
    tls_handshakes: Family,
    /// Unix seconds; [`i64::MIN`] without a certificate of our own.
    tls_expires_at: AtomicI64,
    requests: RwLock<HashMap<Box<str>, Arc<Route>>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Metrics of their own, registered nowhere else.
    #[expect(clippy::new_without_default, reason = "there is nothing default about a registry")]
    pub fn new() -> Self {
        let builder = PrometheusBuilder::new().set_buckets(&BUCKETS);
        let recorder = builder.expect("the list of buckets is not empty").build_recorder();
        for (name, text) in DESCRIPTIONS {
            recorder.describe_counter(name.into(), None, text.into());
        }
        let text = "Time from the headers of a request to its answer.";
        recorder.describe_histogram("reseal_http_request_duration_seconds".into(), None, text.into());
        Self {
            handle: recorder.handle(),
            logins: Family::new("reseal_logins_total", "result"),
            refreshes: Family::new("reseal_refreshes_total", "outcome"),
            renewals: Family::new("reseal_renewals_total", "renewed"),
            started: Family::new("reseal_sessions_started_total", "kind"),
            ended: Family::new("reseal_sessions_ended_total", "reason"),
            gateway_tokens: Family::new("reseal_gateway_tokens_total", "result"),
            feed_events: recorder
                .register_counter(&Key::from_name("reseal_feed_events_sent_total"), &METADATA),
            feed_ends: Family::new("reseal_feed_readers_ended_total", "reason"),
            panics: recorder.register_counter(&Key::from_name("reseal_panics_total"), &METADATA),
            tls_handshakes: Family::new("reseal_tls_handshakes_total", "result"),
            tls_expires_at: AtomicI64::new(i64::MIN),
            requests: RwLock::default(),
            recorder,
        }
    }

    /// A login and its result.
    pub fn login(&self, result: &'static str) {
        self.logins.count(&self.recorder, result);
    }

    /// A presented refresh token and what came of it: the rows of the rotation.
    pub fn refresh(&self, outcome: &'static str) {
        self.refreshes.count(&self.recorder, outcome);
    }

    /// A renewal of an access token or cookie; `renewed` is false when it was too early.
    pub fn renewal(&self, renewed: bool) {
        self.renewals.count(&self.recorder, if renewed { "true" } else { "false" });
    }

    /// A token for an app behind a proxy: at hand (`hit`), or signed (`miss`).
    pub fn gateway_token(&self, result: &'static str) {
        self.gateway_tokens.count(&self.recorder, result);
    }

    /// A session started under a policy of this kind.
    pub fn session_started(&self, kind: &'static str) {
        self.started.count(&self.recorder, kind);
    }

    /// A session was ended for this reason. (Those that run out do so by themselves, uncounted.)
    pub fn session_ended(&self, reason: &'static str) {
        self.ended.count(&self.recorder, reason);
    }

    /// So many events were sent to a reader of the feed.
    pub fn feed_sent(&self, events: u64) {
        self.feed_events.increment(events);
    }

    /// A reader of the feed went, for this reason.
    pub fn feed_ended(&self, reason: &'static str) {
        self.feed_ends.count(&self.recorder, reason);
    }

    /// A request that panicked.
    pub fn panic(&self) {
        self.panics.increment(1);
    }

    /// A TLS handshake and its result.
    pub fn tls_handshake(&self, result: &'static str) {
        self.tls_handshakes.count(&self.recorder, result);
    }

    /// When the certificate that is in use expires (Unix seconds).
    pub fn set_tls_expires_at(&self, at: Option<i64>) {
        self.tls_expires_at.store(at.unwrap_or(i64::MIN), Ordering::Relaxed);
    }

    /// A request that was answered, by the template of its route.
    pub fn request(&self, route: &str, method: &Method, status: StatusCode, took: Duration) {
        let route = self.route(route);
        let series = route.series(&self.recorder, method_name(method), status.as_u16());
        series.count.increment(1);
        series.durations.record(took.as_secs_f64());
    }

    /// Drops raw samples into their buckets; call it every few seconds, whether or not anyone scrapes.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    fn route(&self, name: &str) -> Arc<Route> {
        let known = self.requests.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        known.unwrap_or_else(|| {
            let mut routes = self.requests.write().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Route { name: name.to_owned(), series: RwLock::default() });
            Arc::clone(routes.entry(name.into()).or_insert_with(new))
        })
    }
}

const DESCRIPTIONS: [(&str, &str); 11] = [
    ("reseal_logins_total", "Logins by result."),
    ("reseal_refreshes_total", "Presented refresh tokens by outcome."),
    ("reseal_renewals_total", "Renewals of access tokens and cookies, and whether they were due."),
    ("reseal_sessions_started_total", "Sessions started, by kind of policy."),
    ("reseal_sessions_ended_total", "Calls that ended sessions, by reason."),
    ("reseal_gateway_tokens_total", "Tokens for apps behind a proxy: at hand (hit), or signed (miss)."),
    ("reseal_http_requests_total", "Requests by route template, method and status."),
    ("reseal_feed_events_sent_total", "Events sent to readers of the feed, once for each reader."),
    ("reseal_feed_readers_ended_total", "Readers of the feed that went: left, slow (cut), token, shutdown."),
    ("reseal_tls_handshakes_total", "TLS handshakes by result: ok, failed, timeout."),
    ("reseal_panics_total", "Requests that panicked: each is a defect."),
];

/// Counters of one name, by the value of one label. Values are words of the code, never of a caller.
struct Family {
    name: &'static str,
    label: &'static str,
    counters: RwLock<Vec<(&'static str, Counter)>>,
}

impl Family {
    const fn new(name: &'static str, label: &'static str) -> Self {
        Self { name, label, counters: RwLock::new(Vec::new()) }
    }

    fn count(&self, recorder: &PrometheusRecorder, value: &'static str) {
        let find = |all: &[(&'static str, Counter)]| {
            all.iter().find(|(v, _)| *v == value).map(|(_, counter)| counter.increment(1))
        };
        if find(&self.counters.read().unwrap_or_else(PoisonError::into_inner)).is_some() {
            return;
        }
        let mut counters = self.counters.write().unwrap_or_else(PoisonError::into_inner);
        if find(&counters).is_none() {
            let key = Key::from_parts(self.name, vec![Label::new(self.label, value)]);
            let counter = recorder.register_counter(&key, &METADATA);
            counter.increment(1);
            counters.push((value, counter));
        }
    }
}

/// The series of one route.
struct Route {
    name: String,
    series: RwLock<Vec<Series>>,
}

#[derive(Clone)]
struct Series {
    method: &'static str,
    status: u16,
    count: Counter,
    durations: Histogram,
}

impl Route {
    fn series(&self, recorder: &PrometheusRecorder, method: &'static str, status: u16) -> Series {
        let find = |all: &[Series]| all.iter().find(|s| s.method == method && s.status == status).cloned();
        if let Some(found) = find(&self.series.read().unwrap_or_else(PoisonError::into_inner)) {
            return found;
        }
        let mut all = self.series.write().unwrap_or_else(PoisonError::into_inner);
        find(&all).unwrap_or_else(|| {
            let labels = vec![Label::new("route", self.name.clone()), Label::new("method", method)];
            let durations = Key::from_parts("reseal_http_request_duration_seconds", labels.clone());
            let mut labels = labels;
            labels.push(Label::new("status", status.to_string()));
            let count = Key::from_parts("reseal_http_requests_total", labels);
            let series = Series {
                method,
                status,
                count: recorder.register_counter(&count, &METADATA),
                durations: recorder.register_histogram(&durations, &METADATA),
            };
            all.push(series.clone());
            series
        })
    }
}

/// The method's name; made-up methods share one, since a caller chooses them.
pub(super) fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// The route.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show))
}

/// Metrics for Prometheus. Keep them from the public.
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses(
        (status = 200, description = "Prometheus text format", body = String, content_type = "text/plain"),
        (status = 404, description = "Turned off by `server.metrics`", body = ErrorBody),
    )
)]
async fn show(State(app): State<App>) -> ApiResult<Response> {
    if !app.config.server.metrics {
        return Err(ApiError::not_found("page"));
    }
    let mut text = app.metrics.handle.render();
    gauges(&app, &mut text);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// Figures that are read when they are asked for.
fn gauges(app: &Authority, text: &mut String) {
    for reseal_store::Counter { name, help, value } in app.store.counters() {
        // Writing to a String cannot fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n\n");
    }
    let mut line = |kind: &str, name: &str, help: &str, value: f64| {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n");
    };
    let now = app.clock.now();
    line("gauge", "reseal_event_seq", "Newest event of the log that this node has read.", {
        let seq = app.log_seq.load(Ordering::Acquire);
        // An approximation above 2^53, which no log reaches.
        if seq == u64::MAX { 0.0 } else { seq as f64 }
    });
    let age = now.since(app.knowledge.as_of()).as_secs_f64();
    line("gauge", "reseal_event_log_age_seconds", "Time since this node last read the event log.", age);
    if let Some(behind) = app.clock.machine_behind() {
        let seconds = behind as f64 / 1000.0;
        let help =
            "How far this machine's clock is behind the store's, which the node goes by; negative: ahead.";
        line("gauge", "reseal_clock_behind_seconds", help, seconds);
    }
    let draining = if app.draining.load(Ordering::Acquire) { 1.0 } else { 0.0 };
    line("gauge", "reseal_draining", "1 while the node is about to stop and answers on.", draining);
    let queued = u32::try_from(app.store.queued()).map_or(f64::INFINITY, f64::from);
    line("gauge", "reseal_store_queue", "Writes that wait for the store.", queued);
    let kept = u32::try_from(app.gateway.token_bytes()).map_or(f64::INFINITY, f64::from);
    line("gauge", "reseal_gateway_token_bytes", "Signed tokens that are kept for their sessions.", kept);
    let readers = u32::try_from(app.feed.readers()).map_or(f64::INFINITY, f64::from);
    line("gauge", "reseal_feed_readers", "Readers of the feed.", readers);
    let expires_at = app.metrics.tls_expires_at.load(Ordering::Relaxed);
    if expires_at != i64::MIN {
        // Exact up to 2^53, far beyond any certificate.
        let help = "When the TLS certificate in use expires, in Unix seconds.";
        line("gauge", "reseal_tls_certificate_expires_at", help, expires_at as f64);
    }
    if let Some(process) = process::read() {
        line("counter", "process_cpu_seconds_total", "User and system time.", process.cpu_seconds);
        line("gauge", "process_resident_memory_bytes", "Resident memory.", process.resident_bytes);
        line("gauge", "process_open_fds", "Open file descriptors.", process.open_files);
        line("gauge", "process_threads", "Threads.", process.threads);
    }
    let version = env!("CARGO_PKG_VERSION");
    let _ = write!(
        text,
        "# HELP reseal_build_info The version that runs.\n# TYPE reseal_build_info gauge\nreseal_build_info{{version=\"{version}\"}} 1\n"
    );
}
