//! Reading and checking the file. Every message names the line and says what to do.

use super::Config;
use reseal_core::policy::Ttl;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {error}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is too large to be a configuration.
    #[error("{path}: larger than 1 MiB; this is not a configuration file", path = .0.display())]
    TooLarge(PathBuf),
    /// It is not valid: the place and the reason.
    #[error("{path}:{line}: {reason}", path = path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The reason.
        reason: String,
    },
}

/// Finds the lines of what passes the parser but contradicts itself.
#[derive(Deserialize)]
struct Spans {
    #[serde(default)]
    issuer: Option<Spanned<toml::Value>>,
    #[serde(default)]
    server: BTreeMap<String, Spanned<toml::Value>>,
    #[serde(default)]
    store: BTreeMap<String, Spanned<toml::Value>>,
    #[serde(default)]
    keys: BTreeMap<String, Spanned<toml::Value>>,
    #[serde(default)]
    users: BTreeMap<String, Spanned<toml::Value>>,
    #[serde(default)]
    login: BTreeMap<String, Spanned<toml::Value>>,
    #[serde(default)]
    gateway: BTreeMap<String, Spanned<toml::Value>>,
    #[serde(default)]
    feed: BTreeMap<String, Spanned<toml::Value>>,
    #[serde(default)]
    telemetry: BTreeMap<String, Spanned<toml::Value>>,
    #[serde(default)]
    policies: BTreeMap<String, Spanned<BTreeMap<String, Spanned<toml::Value>>>>,
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |error| ConfigError::Read { path: path.to_owned(), error };
        if std::fs::metadata(path).map_err(read)?.len() > 1024 * 1024 {
            return Err(ConfigError::TooLarge(path.to_owned()));
        }
        Self::parse(&std::fs::read_to_string(path).map_err(read)?, path)
    }

    /// Parses and checks the text of a file; `path` is for the messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let invalid = |offset: usize, reason: String| ConfigError::Invalid {
            path: path.to_owned(),
            line: text[..offset.min(text.len())].matches('\n').count() + 1,
            reason,
        };
        let parse_error =
            |e: toml::de::Error| invalid(e.span().map_or(0, |s| s.start), e.message().to_owned());
        let mut config: Self = toml::from_str(text).map_err(parse_error)?;
        let spans: Spans = toml::from_str(text).map_err(parse_error)?;
        config.check().map_err(|fault| invalid(spans.find(&fault), fault.to_string()))?;
        if let Some(url) = config.store.url.take() {
            config.store.set_url(url);
        }
        Ok(config)
    }

    /// Checks what a type cannot say.
    fn check(&self) -> Result<(), Fault> {
        if let Some(issuer) = &self.issuer {
            check_issuer(issuer).map_err(|reason| Fault::new("", "issuer", reason))?;
        }
        let bounds = [
            ("server", "max_body_bytes", self.server.max_body_bytes, 1024, 16 * 1024 * 1024),
            ("server", "max_header_bytes", self.server.max_header_bytes, 8192, 1024 * 1024),
            ("server", "max_connections", self.server.max_connections, 1, 1_000_000),
            ("store", "queue", self.store.queue, 16, 1_000_000),
            ("feed", "max_readers", self.feed.max_readers, 1, 1_000_000),
            ("users", "hashing_threads", self.users.hashing_threads, 0, 256),
            ("users", "hashing_queue", self.users.hashing_queue, 1, 100_000),
        ];
        for (table, key, value, min, max) in bounds {
            if !(min..=max).contains(&value) {
                return Err(Fault::new(table, key, format!("must lie between {min} and {max}")));
            }
        }
        // Somebody waits for the first ones; the others are remembered, as long as a policy may ask at most.
        let (hour, years) = (Ttl(Duration::from_secs(3600)), Ttl(Duration::from_secs(3650 * 86_400)));
        let times = [
            ("server", "header_timeout", self.server.header_timeout, 1, hour),
            ("server", "request_timeout", self.server.request_timeout, 1, hour),
            ("server", "drain_time", self.server.drain_time, 0, hour),
            ("server", "shutdown_timeout", self.server.shutdown_timeout, 0, hour),
            ("store", "timeout", self.store.timeout, 1, hour),
            ("store", "keep_ended", self.store.keep_ended, 0, years),
            ("keys", "rotate_every", self.keys.rotate_every, 1, years),
            ("keys", "publish_before", self.keys.publish_before, 0, years),
            ("feed", "write_timeout", self.feed.write_timeout, 1, hour),
            ("users", "recent_login", self.users.recent_login, 0, years),
            ("login", "window", self.login.window, 1, years),
            ("login", "remember_address", self.login.remember_address, 0, years),
        ];
        for (table, key, value, min, max) in times {
            if value.0.as_secs() < min {
                return Err(Fault::new(table, key, "must be at least one second"));
            }
            if value.0 > max.0 {
                return Err(Fault::new(table, key, format!("must be at most {max}")));
            }
        }
        if self.keys.publish_before.0 >= self.keys.rotate_every.0 {
            // Blame what was written: the other one has its default.
            let reason = format!(
                "publish_before ({}) must be shorter than rotate_every ({})",
                self.keys.publish_before, self.keys.rotate_every
            );
            let default = super::KeysConfig::default().publish_before;
            let key = if self.keys.publish_before == default { "rotate_every" } else { "publish_before" };
            return Err(Fault::new("keys", key, reason));
        }
        if self.telemetry.sample.is_some_and(|sample| !(0.0..=1.0).contains(&sample)) {
            return Err(Fault::new("telemetry", "sample", "must lie between 0 and 1"));
        }
        self.store.check().map_err(|(key, reason)| Fault::new("store", key, reason))?;
        let server = self.server.check(self.issuer.as_deref());
        server.map_err(|(key, reason)| Fault::new("server", key, reason))?;
        self.gateway.check().map_err(|(key, reason)| Fault::new("gateway", key, reason))?;
        for name in &self.users.user_writable {
            let known = name == "name" || name == "email" || name.starts_with("attributes.");
            if !known {
                let reason = format!("{name:?}: users may write name, email and attributes.NAME only");
                return Err(Fault::new("users", "user_writable", reason));
            }
        }
        for (name, policy) in &self.policies {
            policy.validate(name).map_err(|e| Fault {
                table: "policies",
                policy: Some(e.policy.clone()),
                key: e.key,
                reason: format!("policies.{}: {}: {}", e.policy, e.key, e.reason),
            })?;
        }
        Ok(())
    }
}

/// An issuer is an https URL (http on loopback) without query, fragment or trailing slash (RFC 8414 §2).
pub(crate) fn check_issuer(issuer: &str) -> Result<(), String> {
    let uri: http::Uri = issuer.parse().map_err(|_| "not a URL".to_owned())?;
    let host = uri.host().unwrap_or_default();
    let loopback = crate::http::origin::is_loopback(host);
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if loopback => {}
        Some("http") => return Err("must be https; plain http is for loopback only".to_owned()),
        _ => return Err("must start with https://".to_owned()),
    }
    if host.is_empty() || issuer.ends_with('/') || issuer.contains(['?', '#', '@']) || issuer.len() > 512 {
        return Err("must be a URL without a slash at the end, query, fragment or user".to_owned());
    }
    Ok(())
}

struct Fault {
    table: &'static str,
    policy: Option<String>,
    key: &'static str,
    reason: String,
}

impl Fault {
    fn new(table: &'static str, key: &'static str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        let place = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
        Self { table, policy: None, key, reason: format!("{place}: {reason}") }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Spans {
    /// The byte at which the faulty key (or else its table) stands.
    fn find(&self, fault: &Fault) -> usize {
        let of =
            |table: &BTreeMap<String, Spanned<toml::Value>>| table.get(fault.key).map(|s| s.span().start);
        let found = match (fault.table, &fault.policy) {
            ("policies", Some(name)) => {
                self.policies.get(name).map(|p| of(p.as_ref()).unwrap_or_else(|| p.span().start))
            }
            ("server", _) => of(&self.server),
            ("store", _) => of(&self.store),
            ("keys", _) => of(&self.keys),
            ("login", _) => of(&self.login),
            ("users", _) => of(&self.users),
            ("gateway", _) => of(&self.gateway),
            ("feed", _) => of(&self.feed),
            ("telemetry", _) => of(&self.telemetry),
            _ => self.issuer.as_ref().map(|s| s.span().start),
        };
        found.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Config::parse(text, Path::new("reseal.toml")).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_is_a_configuration() {
        Config::parse("", Path::new("reseal.toml")).unwrap();
    }

    #[test]
    fn every_message_names_the_line() {
        assert!(
            error("issuer = 'https://a.example'\n\n[server]\nlissten = 1\n").starts_with("reseal.toml:4: ")
        );
        let idle = "[policies.web]\nkind = 'sliding'\naccess_ttl = '5m'\nidle_ttl = '2h'\nmax_ttl = '1h'\n";
        assert!(error(idle).starts_with("reseal.toml:4: policies.web: idle_ttl: "), "{}", error(idle));
        let missing = "\n[policies.web]\nkind = 'sliding'\naccess_ttl = '5m'\n";
        assert!(error(missing).contains("max_ttl"), "{}", error(missing));
        assert!(error("issuer = 'http://a.example'").contains("https"));
        assert!(error("[keys]\n\nrotate_every = '30m'").starts_with("reseal.toml:3: "));
        assert!(error("\n[telemetry]\nsample = 2.0").starts_with("reseal.toml:3: "));
        assert!(error("[users]\nuser_writable = ['roles']").starts_with("reseal.toml:2: "));
        assert!(error("[login]\nburst = 3\nwindow = '0s'").starts_with("reseal.toml:3: login.window: "));
        let evil = "[gateway]\nclient_id = 'web'\nreturn_to = ['https://app.example', 'http://app.example']";
        assert!(error(evil).starts_with("reseal.toml:3: gateway.return_to: "), "{}", error(evil));
        assert!(error("[gateway]\ntitle = ' '").starts_with("reseal.toml:2: gateway.title: "));
        assert!(error("[gateway]\ntoken_cache_bytes = 1").starts_with("reseal.toml:2: gateway.token_cache"));
        assert!(error("[gateway]\nclient_id = 'a b'").starts_with("reseal.toml:2: "));
        assert!(error("[login]\nburst = 0").starts_with("reseal.toml:2: "));
        assert!(error("[store]\nconnections = 0").starts_with("reseal.toml:2: store.connections: "));
        assert!(error("[store]\nurl = 'redis://h'").starts_with("reseal.toml:2: store.url: "));
        assert!(error("[store]\nurl = 'mysql://h'").starts_with("reseal.toml:2: "));
        for redis in ["urls = []", "urls = ['postgres://h']", "urls = ['redis://h']\nconnections = 0"] {
            let told = error(&format!("\n[store.redis]\n{redis}"));
            assert!(told.starts_with("reseal.toml:2: store.redis: "), "{told}");
        }
    }

    #[test]
    fn a_password_in_an_address_that_is_refused_is_not_told() {
        for url in ["postgres://u:hunter2@h o/d", "psql://u:hunter2@h/d", "postgres://u:hun/ter2@h/d"] {
            let told = error(&format!("[store]\nurl = '{url}'"));
            assert!(told.starts_with("reseal.toml:2: ") && !told.contains("ter2"), "{told}");
        }
    }

    #[test]
    fn a_folder_may_be_named_as_an_address() {
        let config =
            Config::parse("[store]\nurl = 'sqlite:/var/lib/reseal'", Path::new("reseal.toml")).unwrap();
        assert_eq!((config.store.data, config.store.url), ("/var/lib/reseal".into(), None));
    }

    #[test]
    fn no_length_of_time_is_beyond_what_it_can_be_used_for() {
        for (table, key) in [
            ("server", "header_timeout"),
            ("server", "request_timeout"),
            ("server", "drain_time"),
            ("server", "shutdown_timeout"),
            ("store", "timeout"),
            ("store", "keep_ended"),
            ("keys", "rotate_every"),
            ("keys", "publish_before"),
            ("feed", "write_timeout"),
            ("users", "recent_login"),
            ("login", "window"),
            ("login", "remember_address"),
        ] {
            let told = error(&format!("[{table}]\n\n{key} = '9999999999d'"));
            assert!(told.starts_with(&format!("reseal.toml:3: {table}.{key}: must be at most ")), "{told}");
        }
        Config::parse("[store]\ntimeout = '1h'\nkeep_ended = '0s'", Path::new("reseal.toml")).unwrap();
    }
}
