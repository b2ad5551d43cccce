//! Where log lines go: standard error, through a bounded queue of its own thread, so that a pipe that is
//! full or closed stalls nothing; lines that do not fit are dropped.

use super::{access, trace};
use crate::config::Config;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};

/// The environment variable that chooses what is logged, for example `info` or `reseal_server=debug`.
pub const VARIABLE: &str = "RESEAL_LOG";
/// Lines that may wait.
const LINES: usize = 8192;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The variable cannot be understood.
    #[error("{VARIABLE}: {0}; write for example `info` or `reseal_server=debug`")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The collector's address cannot be used.
    #[error("{0}")]
    Traces(String),
    /// Something logs already.
    #[error("a log was opened already in this process")]
    Twice,
}

/// The open log. Keep it until the end, then [`close`](Self::close) it.
#[must_use = "dropping it loses the last lines"]
pub struct Log {
    _writer: WorkerGuard,
    traces: Option<SdkTracerProvider>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("traces", &self.traces.is_some()).finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the process's log as the configuration says. Call it once, on the runtime that will serve.
    pub fn open(config: &Config) -> Result<Self, LogError> {
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(LINES)
            .lossy(true)
            .thread_name("reseal-log")
            .finish(std::io::stderr());
        let wanted = std::env::var(VARIABLE).unwrap_or_else(|_| "info".to_owned());
        let wanted: EnvFilter = wanted.parse()?;
        let traces = trace::open(&config.telemetry).map_err(LogError::Traces)?;
        let (provider, tracer) = traces.unzip();
        let spans = tracer.map(|tracer| {
            tracing_opentelemetry::layer()
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                .with_tracer(tracer)
                .with_filter(filter_fn(|meta| meta.target() == trace::TARGET))
        });
        let access_log = config.server.access_log.then(|| access_lines(writer.clone()));
        let subscriber =
            tracing_subscriber::registry().with(text_lines(writer, wanted)).with(access_log).with(spans);
        tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
        log_panics();
        Ok(Self { _writer: guard, traces: provider })
    }

    /// Sends what waits, within bounds, and closes.
    pub async fn close(self) {
        if let Some(traces) = self.traces {
            // It waits for the sender, which runs here: not on a thread that it needs.
            let closed = tokio::task::spawn_blocking(move || traces.shutdown()).await;
            if !matches!(closed, Ok(Ok(()))) {
                tracing::warn!("the last traces were not sent");
            }
        }
    }
}

/// Lines for people.
fn text_lines<S>(writer: NonBlocking, wanted: EnvFilter) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let not_access = filter_fn(|meta| meta.target() != access::TARGET);
    tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(false)
        .with_filter(wanted)
        .with_filter(not_access)
}

/// The access log: one JSON object per line.
fn access_lines<S>(writer: NonBlocking) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(writer)
        .with_filter(filter_fn(|meta| meta.target() == access::TARGET))
        .with_filter(LevelFilter::INFO)
}

/// Panics go to the log as well: the standard hook writes to standard error itself, and may stall there.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let message = info.payload_as_str().unwrap_or("no message");
        tracing::error!(%place, "panic: {message}");
    }));
}
