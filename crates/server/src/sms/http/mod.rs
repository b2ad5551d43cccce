//! A provider's HTTP interface: one request per message, tried again where that can help.
//!
//! A try that found nobody, timed out, or was answered with 429 or 5xx is repeated after a pause that
//! doubles and is spread by chance, or after the time the provider asks for (`Retry-After`), as long as
//! the user would wait that long. Any other answer is final. All tries of a message carry the same
//! `Idempotency-Key`, for a provider that accepted one whose answer was lost.

use super::config::{HttpMethod, HttpSms};
use super::template::BodyTemplate;
use super::{SmsError, TextMessages, mask};
use crate::random::Random;
use async_trait::async_trait;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    TRANSFER_ENCODING,
};
use http::{Method, StatusCode};
use reqwest::Url;
use reqwest::redirect::Policy;
use std::fmt;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// The end of all tries of one message: within the time in which a request must be answered.
const LONGEST: Duration = Duration::from_secs(15);
/// Most messages on their way at once.
const MAX_ON_THEIR_WAY: usize = 64;
/// Pause before the first repetition, before chance.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause, and the longest `Retry-After` that is waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Most bytes of an answer that are read. Its content is not used; reading it keeps the connection.
const MAX_ANSWER: usize = 64 * 1024;
/// Time in which they are.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Sends text messages through a provider's HTTP interface.
pub struct HttpTextMessages {
    client: reqwest::Client,
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: BodyTemplate,
    timeout: Duration,
    retries: u32,
    first_pause: Duration,
    random: Random,
    on_their_way: Semaphore,
}

impl fmt::Debug for HttpTextMessages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A path may be a secret, as with web hooks.
        f.debug_struct("HttpTextMessages").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

impl HttpTextMessages {
    /// Checks the whole setting; `env` reads environment variables.
    pub fn open(config: &HttpSms, env: impl Fn(&str) -> Option<String>) -> Result<Self, SmsError> {
        let url = check_url(&config.url).map_err(|reason| SmsError::Config { key: "url", reason })?;
        let body = BodyTemplate::parse(&config.body, &config.content_type)
            .map_err(|reason| SmsError::Config { key: "body", reason })?;
        let headers = headers(config, env)?;
        let client = reqwest::Client::builder()
            // A redirect would carry the code to a place that nobody configured.
            .redirect(Policy::none())
            .https_only(url.scheme() == "https")
            .http1_only()
            .connect_timeout(config.timeout)
            .pool_max_idle_per_host(4)
            .user_agent(concat!("reseal/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| SmsError::Config { key: "url", reason: root_cause(e) })?;
        Ok(Self {
            client,
            method: match config.method {
                HttpMethod::Post => Method::POST,
                HttpMethod::Put => Method::PUT,
            },
            url,
            headers,
            body,
            timeout: config.timeout,
            retries: config.retries,
            first_pause: FIRST_PAUSE,
            random: Random::new(),
            on_their_way: Semaphore::new(MAX_ON_THEIR_WAY),
        })
    }

    async fn send_with_retries(&self, body: String) -> Result<(), SmsError> {
        let mut headers = self.headers.clone();
        if !headers.contains_key(IDEMPOTENCY_KEY)
            && let Ok(key) = HeaderValue::from_str(&self.random.secret_text(""))
        {
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        let mut tries = 0;
        loop {
            let fault = match self.try_once(&headers, body.clone()).await {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            tries += 1;
            if tries > self.retries || !fault.may_pass() {
                return Err(fault.into_error(tries));
            }
            let chance = u16::from_be_bytes(self.random.bytes());
            let pause = pause(self.first_pause, tries, chance).max(fault.retry_after().unwrap_or_default());
            if pause > LONGEST_PAUSE {
                return Err(SmsError::Overloaded(pause));
            }
            tracing::info!(%fault, tries, "a text message is tried again");
            sleep(pause).await;
        }
    }

    async fn try_once(&self, headers: &HeaderMap, body: String) -> Result<(), Fault> {
        let request = self
            .client
            .request(self.method.clone(), self.url.clone())
            .headers(headers.clone())
            .timeout(self.timeout)
            .body(body);
        let mut response = request.send().await.map_err(|error| {
            if error.is_timeout() { Fault::TimedOut } else { Fault::Unreachable(root_cause(error)) }
        })?;
        let status = response.status();
        let retry_after = retry_after(response.headers());
        // The status has decided; the rest only frees the connection for the next message.
        let _ = timeout(ANSWER_TIMEOUT, drain(&mut response)).await;
        if status.is_success() { Ok(()) } else { Err(Fault::Status { status, retry_after }) }
    }
}

#[async_trait]
impl TextMessages for HttpTextMessages {
    async fn send(&self, to: &str, text: &str) -> Result<(), SmsError> {
        let _on_its_way = self.on_their_way.try_acquire().map_err(|_| SmsError::Busy)?;
        let body = self.body.render(to, text);
        let sent = timeout(LONGEST, self.send_with_retries(body)).await.unwrap_or(Err(SmsError::TimedOut));
        match &sent {
            Ok(()) => tracing::info!(to = %mask(to), "text message sent"),
            Err(error) => tracing::warn!(to = %mask(to), %error, "text message not sent"),
        }
        sent
    }
}

/// Why one try failed.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("status {status}")]
    Status { status: StatusCode, retry_after: Option<Duration> },
    #[error("no answer in time")]
    TimedOut,
    #[error("{0}")]
    Unreachable(String),
}

impl Fault {
    /// Whether another try may succeed.
    fn may_pass(&self) -> bool {
        match self {
            Self::Status { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::TimedOut | Self::Unreachable(_) => true,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::TimedOut | Self::Unreachable(_) => None,
        }
    }

    fn into_error(self, tries: u32) -> SmsError {
        match self {
            Self::Status { status, .. } if self.may_pass() => {
                SmsError::Failed { status: status.as_u16(), tries }
            }
            Self::Status { status, .. } => SmsError::Refused(status.as_u16()),
            Self::TimedOut => SmsError::TimedOut,
            Self::Unreachable(reason) => SmsError::Unreachable { reason, tries },
        }
    }
}

/// The pause after so many failed tries: doubled each time, and spread by chance between its half and its
/// whole, so that messages that failed together do not come back together.
fn pause(first: Duration, tries: u32, chance: u16) -> Duration {
    let whole = first.saturating_mul(1 << (tries.saturating_sub(1)).min(8)).min(LONGEST_PAUSE);
    whole / 2 + (whole / 2).mul_f64(f64::from(chance) / f64::from(u16::MAX))
}

/// `Retry-After` in seconds. Its form as a date is rare with interfaces and treated as absent.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

async fn drain(response: &mut reqwest::Response) {
    let mut left = MAX_ANSWER;
    while let Ok(Some(chunk)) = response.chunk().await {
        match left.checked_sub(chunk.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// The last cause, without the URL.
fn root_cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn check_url(text: &str) -> Result<Url, String> {
    if text.contains("{{") {
        return Err(
            "holds a placeholder; number and text belong into the body, since URLs are logged".to_owned()
        );
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("holds a space or a control character".to_owned());
    }
    let url = Url::parse(text).map_err(|e| format!("is not a URL: {e}"))?;
    let host = url.host_str().unwrap_or_default();
    let loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        "http" => return Err("must be https; plain http is for loopback only".to_owned()),
        _ => return Err("must start with https://".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "holds a user or password; send it in [sms.headers], for example Authorization".to_owned()
        );
    }
    if url.fragment().is_some() {
        return Err("has a fragment (#), which is never sent".to_owned());
    }
    Ok(url)
}

fn headers(config: &HttpSms, env: impl Fn(&str) -> Option<String>) -> Result<HeaderMap, SmsError> {
    let fail = |reason| SmsError::Config { key: "headers", reason };
    let mut headers = HeaderMap::new();
    let content_type = HeaderValue::from_str(&config.content_type).map_err(|_| SmsError::Config {
        key: "content_type",
        reason: "holds a control character".to_owned(),
    })?;
    headers.insert(CONTENT_TYPE, content_type);
    for (name, template) in &config.headers {
        let header: HeaderName = name.parse().map_err(|_| fail(format!("{name:?} is no header name")))?;
        if header == CONTENT_TYPE {
            return Err(fail(format!("{name}: use the key content_type")));
        }
        if [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(&header) {
            return Err(fail(format!("{name} is set by the HTTP client; remove it")));
        }
        let value = template.resolve(&env).map_err(|reason| fail(format!("{name}: {reason}")))?;
        let mut value = HeaderValue::from_str(&value).map_err(|_| {
            fail(format!("{name}: the value holds a line break or another control character"))
        })?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
