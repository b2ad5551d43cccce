//! The `[sms]` table.

use reseal_core::policy::Ttl;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Who sends text messages.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "SmsTable", into = "SmsTable")]
pub enum SmsConfig {
    /// Nobody: the phone cannot be a second factor.
    #[default]
    None,
    /// The outbox of development mode.
    Dev,
    /// A provider's HTTP interface.
    Http(Box<HttpSms>),
}

/// A provider's HTTP interface: each message is one request.
#[derive(Clone, Debug)]
pub struct HttpSms {
    /// Where requests go.
    pub url: String,
    /// How.
    pub method: HttpMethod,
    /// Headers by name.
    pub headers: BTreeMap<String, HeaderTemplate>,
    /// The body with its placeholders.
    pub body: String,
    /// What the body is.
    pub content_type: String,
    /// Time for one try.
    pub timeout: Duration,
    /// How often a failed try is repeated.
    pub retries: u32,
}

/// The method of a provider's interface. A GET would put the code into a URL, hence into logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HttpMethod {
    /// POST.
    #[default]
    #[serde(rename = "POST")]
    Post,
    /// PUT.
    #[serde(rename = "PUT")]
    Put,
}

/// The value of a header: a text in which `${NAME}` stands for an environment variable. It may be a
/// secret, so it hides from Debug, and is written out only where all of its secrets are variables.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct HeaderTemplate(String);

/// The table as it is written: one level, so that an unknown or misplaced key is found at its line.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SmsTable {
    /// "none" (default): the phone cannot be a second factor. "dev": the outbox of development mode.
    /// "http": a provider's HTTP interface, described by the other keys.
    #[serde(default)]
    kind: Kind,
    /// Where requests go; https unless on loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// "POST" (default) or "PUT".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<HttpMethod>,
    /// Headers; `${NAME}` in a value stands for an environment variable.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, HeaderTemplate>,
    /// The body; `{{to}}` and `{{text}}` stand for number and text, escaped as the content type asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// "application/json" (default), "application/x-www-form-urlencoded" or "text/plain".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    /// Time for one try, 1s to 15s. Default "5s". All tries together end after 15 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<Ttl>,
    /// How often a try is repeated that timed out or was answered with 429 or 5xx, 0 to 5. Default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retries: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    None,
    Dev,
    Http,
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_RETRIES: u32 = 2;
const DEFAULT_CONTENT_TYPE: &str = "application/json";

impl TryFrom<SmsTable> for SmsConfig {
    type Error = String;

    fn try_from(table: SmsTable) -> Result<Self, String> {
        let plain = match table.kind {
            Kind::None => Self::None,
            Kind::Dev => Self::Dev,
            Kind::Http => return HttpSms::try_from(table).map(|http| Self::Http(Box::new(http))),
        };
        let unused = [
            ("url", table.url.is_some()),
            ("method", table.method.is_some()),
            ("headers", !table.headers.is_empty()),
            ("body", table.body.is_some()),
            ("content_type", table.content_type.is_some()),
            ("timeout", table.timeout.is_some()),
            ("retries", table.retries.is_some()),
        ];
        match unused.into_iter().find(|(_, present)| *present) {
            Some((key, _)) => {
                Err(format!("sms.{key} has a meaning with kind = \"http\" only; set it, or remove {key}"))
            }
            None => Ok(plain),
        }
    }
}

impl TryFrom<SmsTable> for HttpSms {
    type Error = String;

    fn try_from(table: SmsTable) -> Result<Self, String> {
        let missing = |key: &str| format!("sms.{key} is missing; kind = \"http\" needs it");
        let timeout = table.timeout.map_or(DEFAULT_TIMEOUT, |t| t.0);
        if !(Duration::from_secs(1)..=Duration::from_secs(15)).contains(&timeout) {
            return Err("sms.timeout must lie between 1s and 15s".to_owned());
        }
        let retries = table.retries.unwrap_or(DEFAULT_RETRIES);
        if retries > 5 {
            return Err("sms.retries must lie between 0 and 5".to_owned());
        }
        Ok(Self {
            url: table.url.ok_or_else(|| missing("url"))?,
            method: table.method.unwrap_or_default(),
            headers: table.headers,
            body: table.body.ok_or_else(|| missing("body"))?,
            content_type: table.content_type.unwrap_or_else(|| DEFAULT_CONTENT_TYPE.to_owned()),
            timeout,
            retries,
        })
    }
}

impl From<SmsConfig> for SmsTable {
    fn from(config: SmsConfig) -> Self {
        let empty = |kind| Self {
            kind,
            url: None,
            method: None,
            headers: BTreeMap::new(),
            body: None,
            content_type: None,
            timeout: None,
            retries: None,
        };
        match config {
            SmsConfig::None => empty(Kind::None),
            SmsConfig::Dev => empty(Kind::Dev),
            SmsConfig::Http(http) => Self {
                kind: Kind::Http,
                url: Some(http.url),
                method: Some(http.method),
                headers: http.headers,
                body: Some(http.body),
                content_type: Some(http.content_type),
                timeout: Some(Ttl(http.timeout)),
                retries: Some(http.retries),
            },
        }
    }
}

impl HeaderTemplate {
    /// A value as it is written in the configuration.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The value with its variables filled in. The error says what is wrong without quoting the value.
    pub fn resolve(&self, env: impl Fn(&str) -> Option<String>) -> Result<String, String> {
        let mut value = String::with_capacity(self.0.len());
        let mut rest = self.0.as_str();
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or("a ${ is not closed")?;
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(
                    "between ${ and } stands the name of an environment variable: letters, digits, _"
                        .to_owned(),
                );
            }
            let variable = env(name).ok_or_else(|| format!("the environment variable {name} is not set"))?;
            value.push_str(before);
            value.push_str(&variable);
            rest = after;
        }
        value.push_str(rest);
        Ok(value)
    }

    /// Whether everything but an authentication scheme comes from the environment.
    fn is_free_of_secrets(&self) -> bool {
        ["", "Bearer ", "Basic "].iter().any(|scheme| {
            let rest = self.0.strip_prefix(scheme).and_then(|r| r.strip_prefix("${"));
            rest.and_then(|r| r.strip_suffix('}')).is_some_and(|name| !name.contains('}'))
        })
    }
}

impl fmt::Debug for HeaderTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeaderTemplate(…)")
    }
}

impl Serialize for HeaderTemplate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_free_of_secrets() { &self.0 } else { "(hidden)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct File {
        #[serde(default)]
        sms: SmsConfig,
    }

    fn parse(text: &str) -> Result<SmsConfig, String> {
        toml::from_str::<File>(text).map(|f| f.sms).map_err(|e| e.to_string())
    }

    const HTTP: &str = "[sms]\nkind = 'http'\nurl = 'https://sms.example/send'\nbody = '{}'\n";

    #[test]
    fn the_default_sends_nothing() {
        assert!(matches!(parse(""), Ok(SmsConfig::None)));
        assert!(matches!(parse("[sms]\n"), Ok(SmsConfig::None)));
        assert!(matches!(parse("[sms]\nkind = 'dev'"), Ok(SmsConfig::Dev)));
    }

    #[test]
    fn a_provider_has_defaults() {
        let Ok(SmsConfig::Http(http)) = parse(HTTP) else { panic!("{:?}", parse(HTTP)) };
        assert_eq!((http.method, http.timeout, http.retries), (HttpMethod::Post, Duration::from_secs(5), 2));
        assert_eq!(http.content_type, "application/json");
    }

    #[test]
    fn what_is_missing_unknown_or_without_meaning_is_named() {
        for (text, named) in [
            ("[sms]\nkind = 'http'\nbody = ''", "url"),
            ("[sms]\nkind = 'http'\nurl = 'https://a.example'", "body"),
            ("[sms]\nkind = 'dev'\nurl = 'https://a.example'", "url"),
            ("[sms]\nretries = 1", "retries"),
            ("[sms]\nkind = 'carrier-pigeon'", "carrier-pigeon"),
            (&format!("{HTTP}ur1 = 'x'"), "ur1"),
            (&format!("{HTTP}retries = 6"), "retries"),
            (&format!("{HTTP}timeout = '0s'"), "timeout"),
            (&format!("{HTTP}timeout = '16s'"), "timeout"),
            (&format!("{HTTP}method = 'GET'"), "GET"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn an_unknown_key_is_found_at_its_line() {
        let error = toml::from_str::<File>(&format!("{HTTP}ur1 = 'x'")).unwrap_err();
        let line = HTTP.len();
        assert_eq!(error.span().unwrap().start, line);
    }

    #[test]
    fn variables_are_filled_in() {
        let env = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
        let resolve = |text: &str| HeaderTemplate::new(text).resolve(env);
        assert_eq!(resolve("Bearer ${TOKEN}").unwrap(), "Bearer s3cret");
        assert_eq!(resolve("${TOKEN}:${TOKEN}").unwrap(), "s3cret:s3cret");
        assert_eq!(resolve("costs $5").unwrap(), "costs $5");
        assert!(resolve("${OTHER}").unwrap_err().contains("OTHER"));
        assert!(resolve("${TOKEN").is_err());
        assert!(resolve("${}").is_err());
        assert!(resolve("${a b}").is_err());
    }

    #[test]
    fn a_header_shows_its_secret_nowhere() {
        let text =
            format!("{HTTP}[sms.headers]\nAuthorization = 'Bearer hunter2'\nX-Key = 'Bearer ${{TOKEN}}'\n");
        let config = parse(&text).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        let written = toml::to_string(&config).unwrap();
        assert!(!written.contains("hunter2") && written.contains("Bearer ${TOKEN}"), "{written}");
    }
}
