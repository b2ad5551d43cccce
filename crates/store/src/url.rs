//! The address of a store, which may hold a password, and secrets by themselves.

use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use zeroize::Zeroizing;

/// A secret of a store: it is not shown and leaves memory when it is dropped.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Which engine an address names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineKind {
    /// `sqlite:FOLDER`
    Sqlite,
    /// `postgres://…` or `postgresql://…`
    Postgres,
    /// `redis://…` or `rediss://…`
    Redis,
}

/// The address of a store, as it was written: `sqlite:FOLDER`, `postgres://USER@HOST,HOST/DATABASE?…` or
/// `redis://HOST`. Shown without passwords.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct StoreUrl {
    text: Zeroizing<String>,
    shown: String,
    kind: EngineKind,
    has_password: bool,
}

/// Why a text is no address of a store. It is not quoted: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUrl {
    /// Another scheme, or none.
    #[error("the address of a store begins with `sqlite:`, `postgres://`, `redis://` or `rediss://`")]
    Scheme,
    /// Longer than any that is meant.
    #[error("longer than {MAX_LEN} bytes")]
    TooLong,
    /// Spaces or control characters.
    #[error("there are spaces or control characters in it; write them as %20 and so on")]
    Characters,
    /// Nothing behind the scheme.
    #[error("nothing stands behind the scheme: `sqlite:FOLDER`, `postgres://USER@HOST/DATABASE`")]
    Empty,
    /// Something where it has no place.
    #[error("a `/`, `?` or `@` in a user name, password or parameter must be written as %2F, %3F or %40")]
    UserInfo,
}

/// No address is longer.
const MAX_LEN: usize = 4096;

impl FromStr for StoreUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        if text.len() > MAX_LEN {
            return Err(InvalidUrl::TooLong);
        }
        let (kind, shown, has_password) = if let Some(folder) = text.strip_prefix("sqlite:") {
            // A folder may have spaces in its name.
            if folder.chars().any(char::is_control) {
                return Err(InvalidUrl::Characters);
            }
            if folder.is_empty() {
                return Err(InvalidUrl::Empty);
            }
            (EngineKind::Sqlite, text.to_owned(), false)
        } else {
            let (scheme, rest) = text.split_once("://").ok_or(InvalidUrl::Scheme)?;
            let kind = match scheme {
                "postgres" | "postgresql" => EngineKind::Postgres,
                "redis" | "rediss" => EngineKind::Redis,
                _ => return Err(InvalidUrl::Scheme),
            };
            if rest.chars().any(|c| c.is_control() || c.is_whitespace()) {
                return Err(InvalidUrl::Characters);
            }
            if rest.is_empty() {
                return Err(InvalidUrl::Empty);
            }
            let (shown, has_password) = shown(scheme, rest)?;
            (kind, shown, has_password)
        };
        Ok(Self { text: Zeroizing::new(text.to_owned()), shown, kind, has_password })
    }
}

/// The address without its passwords, and whether there were any: one before the `@`, or a parameter.
fn shown(scheme: &str, rest: &str) -> Result<(String, bool), InvalidUrl> {
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    // What follows an `@` in the path or in a parameter belongs to a password with a `/` or `?` in it, of which
    // nothing must be shown.
    let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    if path.contains('@') || query.is_some_and(|q| q.contains('@')) {
        return Err(InvalidUrl::UserInfo);
    }
    let mut has_password = false;
    let mut shown = format!("{scheme}://");
    match authority.rsplit_once('@') {
        Some((login, hosts)) => {
            match login.split_once(':') {
                Some((user, password)) => {
                    has_password = !password.is_empty();
                    shown += user;
                    shown += if has_password { ":***" } else { ":" };
                }
                None => shown += login,
            }
            shown += "@";
            shown += hosts;
        }
        None => shown += authority,
    }
    shown += path;
    for (i, parameter) in query.into_iter().flat_map(|q| q.split('&')).enumerate() {
        shown.push(if i == 0 { '?' } else { '&' });
        match parameter.split_once('=') {
            Some((name, _)) if !is_harmless(name) => {
                has_password = true;
                shown += name;
                shown += "=***";
            }
            _ => shown += parameter,
        }
    }
    Ok((shown, has_password))
}

/// Parameters whose values may be shown; any other might be a password, in whatever spelling.
fn is_harmless(name: &str) -> bool {
    const NAMES: [&str; 26] = [
        "application_name",
        "channel_binding",
        "client_encoding",
        "connect_timeout",
        "dbname",
        "fallback_application_name",
        "gssencmode",
        "host",
        "hostaddr",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_retries",
        "load_balance_hosts",
        "options",
        "port",
        "protocol",
        "sslcert",
        "sslkey",
        "sslmode",
        "sslnegotiation",
        "sslrootcert",
        "target_session_attrs",
        "tcp_user_timeout",
        "user",
    ];
    NAMES.contains(&name)
}

impl StoreUrl {
    /// The engine.
    pub const fn kind(&self) -> EngineKind {
        self.kind
    }

    /// The whole address, passwords included: for the engine alone.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Whether it holds a password, which belongs elsewhere.
    pub const fn has_password(&self) -> bool {
        self.has_password
    }

    /// The data folder of `sqlite:FOLDER`.
    pub fn folder(&self) -> Option<PathBuf> {
        self.text.strip_prefix("sqlite:").map(PathBuf::from)
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = InvalidUrl;

    fn try_from(text: String) -> Result<Self, InvalidUrl> {
        Zeroizing::new(text).parse()
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({})", self.shown)
    }
}

/// As it is shown: a configuration that is written out somewhere must not carry a password there.
impl Serialize for StoreUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> StoreUrl {
        text.parse().unwrap()
    }

    #[test]
    fn the_scheme_names_the_engine() {
        assert_eq!(url("sqlite:a folder/data").kind(), EngineKind::Sqlite);
        assert_eq!(url("sqlite:a folder/data").folder(), Some(PathBuf::from("a folder/data")));
        assert_eq!(url("postgres://h/d").kind(), EngineKind::Postgres);
        assert_eq!(url("postgresql:///d?host=/run/postgresql").kind(), EngineKind::Postgres);
        assert_eq!(url("redis://h:6379").kind(), EngineKind::Redis);
        assert_eq!(url("rediss://h").kind(), EngineKind::Redis);
        assert_eq!(url("rediss://h").folder(), None);
        let wrong = ["", "postgres", "mysql://h/d", "POSTGRES://h", "host=h password=hunter2", "sqlite"];
        for text in wrong {
            assert_eq!(text.parse::<StoreUrl>(), Err(InvalidUrl::Scheme), "{text}");
        }
        assert_eq!("sqlite:".parse::<StoreUrl>(), Err(InvalidUrl::Empty));
        assert_eq!("postgres://".parse::<StoreUrl>(), Err(InvalidUrl::Empty));
        assert_eq!("postgres://h/a b".parse::<StoreUrl>(), Err(InvalidUrl::Characters));
        assert_eq!(format!("redis://{}", "h".repeat(5000)).parse::<StoreUrl>(), Err(InvalidUrl::TooLong));
    }

    #[test]
    fn it_is_shown_without_passwords() {
        for (text, shown) in [
            ("postgres://reseal@db1:5432,db2/reseal?sslmode=require", None),
            ("postgres://h", None),
            ("redis://10.0.0.1:6379", None),
            (
                "postgres://u:hunter2@a,b:5433/d?sslmode=verify-full",
                Some("postgres://u:***@a,b:5433/d?sslmode=verify-full"),
            ),
            ("redis://:hunter2@h:1/0", Some("redis://:***@h:1/0")),
            ("postgres://u:a:hunter2@h/d", Some("postgres://u:***@h/d")),
            ("postgres://u:hunter2@hunter2@h/d", Some("postgres://u:***@h/d")),
            (
                "postgres://u@h/d?password=hunter2&sslmode=require",
                Some("postgres://u@h/d?password=***&sslmode=require"),
            ),
            ("postgres://h/d?sslpassword=hunter2", Some("postgres://h/d?sslpassword=***")),
            ("postgres://h/d?p%61ssword=hunter2", Some("postgres://h/d?p%61ssword=***")),
        ] {
            let parsed = url(text);
            assert_eq!(parsed.to_string(), shown.unwrap_or(text));
            assert_eq!(parsed.reveal(), text);
            assert_eq!(parsed.has_password(), shown.is_some(), "{text}");
            assert!(!format!("{parsed:?}").contains("hunter2"));
            assert!(!serde_json::to_string(&parsed).unwrap().contains("hunter2"));
        }
        for text in ["postgres://u:hun/ter2@h/d", "postgres://u:hun?ter2@h/d", "postgres://u:x@hun?ter2@h/d"]
        {
            assert_eq!(text.parse::<StoreUrl>(), Err(InvalidUrl::UserInfo));
        }
        assert_eq!(format!("{:?}", Secret::from("hunter2".to_owned())), "Secret(…)");
    }

    proptest! {
        #[test]
        fn nothing_of_a_password_is_ever_shown(
            user in "[a-z]{0,8}",
            // Letters that no other part has.
            password in "[A-Z0-9:@%/?&=#]{1,40}",
            rest in "[a-z.,]{1,20}(/[a-z]{0,8})?(\\?sslmode=[a-z]{1,8})?",
        ) {
            let text = format!("postgres://{user}:{password}@{rest}");
            let told = match text.parse::<StoreUrl>() {
                Ok(url) => format!("{url} {url:?}"),
                Err(error) => format!("{error:?}"),
            };
            let secret: String = password.chars().filter(|c| c.is_ascii_uppercase() || c.is_ascii_digit()).collect();
            prop_assume!(secret.len() > 3);
            for window in password.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| part.len() > 3) {
                prop_assert!(!told.contains(window), "{told}");
            }
        }
    }
}
