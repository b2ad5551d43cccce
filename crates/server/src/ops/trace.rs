//! Traces: W3C `traceparent` in, OTLP over HTTP out when `telemetry.otlp_endpoint` is set.
//!
//! Without an endpoint and without `traceparent` a request makes no span and pays nothing.

use crate::config::TelemetryConfig;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_http::{HeaderExtractor, HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use opentelemetry_sdk::{Resource, trace as sdk};
use std::time::Duration;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The target of request spans, for filters.
pub const TARGET: &str = "request";

/// Longest wait for the collector.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of the collector's answer that are read.
const ANSWER_MAX: usize = 64 * 1024;
/// Most spans that wait for export; more are dropped.
const QUEUE: usize = 4096;

/// The span of a request, and the trace it belongs to if the caller named one.
pub(super) struct RequestSpan {
    pub(super) span: Span,
    pub(super) trace_id: Option<String>,
}

/// The span of a request: always when traces are exported, else only for a caller who sent `traceparent`,
/// so that our log lines carry his trace id.
pub(super) fn request_span(
    headers: &HeaderMap,
    (method, route): (&Method, &str),
    exported: bool,
) -> Option<RequestSpan> {
    let named = headers.contains_key("traceparent");
    if !exported && !named {
        return None;
    }
    let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    let context = parent.span().span_context().clone();
    let trace_id = context.is_valid().then(|| context.trace_id().to_string());
    let span = if exported {
        let span = tracing::info_span!(
            target: TARGET,
            "request",
            otel.name = format!("{method} {route}"),
            otel.kind = "server",
            http.request.method = %method,
            http.route = route,
            http.response.status_code = tracing::field::Empty,
            otel.status_code = tracing::field::Empty,
            trace_id = trace_id.as_deref(),
        );
        // Fails only where no layer exports; then there is no parent to name.
        if context.is_valid() && span.set_parent(parent).is_err() {
            tracing::debug!("traceparent was not taken over");
        }
        span
    } else {
        tracing::info_span!(target: TARGET, "request", trace_id = trace_id.as_deref()?)
    };
    Some(RequestSpan { span, trace_id })
}

/// Tells the span how the request ended.
pub(super) fn ended(span: &Span, status: http::StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

/// The pipeline to the collector at `otlp_endpoint`; `None` when there is none. Call it on the runtime that
/// is to send.
pub(super) fn open(config: &TelemetryConfig) -> Result<Option<(SdkTracerProvider, SdkTracer)>, String> {
    let Some(endpoint) = &config.otlp_endpoint else { return Ok(None) };
    let said = |e: &dyn std::fmt::Display| format!("telemetry.otlp_endpoint: {e}");
    let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|e| said(&e))?;
    let sender = Sender { client, runtime: tokio::runtime::Handle::current() };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(sender)
        .with_endpoint(url)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(TIMEOUT)
        .build()
        .map_err(|e| said(&e))?;
    let batches = sdk::BatchConfigBuilder::default().with_max_queue_size(QUEUE).build();
    let processor = sdk::BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    // A caller's decision holds for what it calls; ours is for requests that come without one.
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample.unwrap_or(1.0))));
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_sampler(sampler)
        .with_resource(Resource::builder().with_service_name("reseal").build())
        .build();
    let tracer = provider.tracer("reseal");
    Ok(Some((provider, tracer)))
}

/// Sends batches on our runtime; the thread that batches them has none.
#[derive(Debug)]
struct Sender {
    client: reqwest::Client,
    runtime: tokio::runtime::Handle,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime.spawn(send(client, request)).await?
    }
}

async fn send(
    client: reqwest::Client,
    request: http::Request<Bytes>,
) -> Result<http::Response<Bytes>, HttpError> {
    let mut response = client.execute(request.try_into()?).await?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_MAX {
            return Err("the collector's answer is too large".into());
        }
        body.extend_from_slice(&chunk);
    }
    let mut answer = http::Response::new(Bytes::from(body));
    *answer.status_mut() = status;
    Ok(answer)
}
