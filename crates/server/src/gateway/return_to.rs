//! Where the hosted pages may send the browser: an allow-list, checked on what a URL parser makes of the
//! text, and answered with what was checked (ASVS 3.7.2, CWE-601).

use crate::http::origin::{any_port, is_loopback, is_origin};
use std::fmt;
use url::{Position, Url};

/// Longest text looked at, in bytes.
const MAX: usize = 2048;
/// Stands for whatever host the page is on, where only a path was given.
const HERE: &str = "https://here.invalid";

/// A place to send the browser to: a path on the page's own host, or a URL of the allow-list. Only
/// [`ReturnTargets::find`] makes one, so whatever is in it has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnTo {
    location: String,
    /// Scheme, host and port; `None` for a path.
    origin: Option<String>,
}

impl ReturnTo {
    /// The start of the page's own host.
    pub fn home() -> Self {
        Self { location: "/".to_owned(), origin: None }
    }

    /// For `Location`, a link or a form: visible ASCII.
    pub fn as_str(&self) -> &str {
        &self.location
    }

    /// Scheme, host and port, where it is another host than the page's.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }
}

impl fmt::Display for ReturnTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.location)
    }
}

/// A text that leads nowhere the pages may send anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a place that `gateway.return_to` lists, nor a path on this host")]
pub struct Refused;

/// An entry that is no origin and no URL to lie under.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is neither an origin like \"https://app.example.org\" nor a URL like \"https://app.example.org/app/\": \
     https (http on loopback only), no user, query or fragment; on loopback the port may be `*`"
)]
pub struct InvalidTarget(String);

/// The allow-list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReturnTargets(Vec<Target>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// Any port of one name of this machine.
    AnyPort(String),
    /// Everything of this origin below the path.
    Under { origin: String, path: String },
}

impl ReturnTargets {
    /// And every page of this machine, on any port: for development.
    #[must_use]
    pub fn and_loopback(mut self) -> Self {
        let name = |host: &str| Target::AnyPort(format!("http://{host}:*"));
        self.0.extend(["localhost", "127.0.0.1", "[::1]"].map(name));
        self
    }

    /// Reads the list of the configuration.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, InvalidTarget> {
        entries.iter().map(|entry| Target::parse(entry.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// The place that the text names, if the browser may be sent there.
    pub fn find(&self, text: &str) -> Result<ReturnTo, Refused> {
        let text = text.trim_matches(' ');
        // Browsers read a backslash as a slash and leave out tabs and line ends: no honest URL has any.
        if text.len() > MAX || text.contains('\\') || text.chars().any(char::is_control) {
            return Err(Refused);
        }
        if text.starts_with('/') { path_here(text) } else { self.find_url(text) }
    }

    fn find_url(&self, text: &str) -> Result<ReturnTo, Refused> {
        let after = |scheme: &str| {
            let start = text.get(..scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then(|| &text[scheme.len()..])
        };
        let rest = after("https://").or_else(|| after("http://")).ok_or(Refused)?;
        if rest.starts_with('/') {
            return Err(Refused);
        }
        let url = Url::parse(text).map_err(|_| Refused)?;
        if !url.username().is_empty() || url.password().is_some() || has_user(rest) {
            return Err(Refused);
        }
        let origin = url.origin().ascii_serialization();
        if !self.0.iter().any(|target| target.covers(&origin, url.path())) {
            return Err(Refused);
        }
        Ok(ReturnTo { location: url.into(), origin: Some(origin) })
    }
}

/// Whether the authority part has an `@`, even an empty user.
fn has_user(rest: &str) -> bool {
    rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

fn path_here(text: &str) -> Result<ReturnTo, Refused> {
    let leads_away = |path: &str| {
        let second = path.get(1..).unwrap_or_default().to_ascii_lowercase();
        ["/", "%2f", "%5c"].iter().any(|slash| second.starts_with(slash))
    };
    if leads_away(text) {
        return Err(Refused);
    }
    let url = Url::parse(HERE).and_then(|here| here.join(text)).map_err(|_| Refused)?;
    let location = &url[Position::BeforePath..];
    // Taking out dots can bring two slashes together: "/.//evil.example".
    if url.origin().ascii_serialization() != HERE || !location.starts_with('/') || leads_away(location) {
        return Err(Refused);
    }
    Ok(ReturnTo { location: location.to_owned(), origin: None })
}

impl Target {
    fn parse(entry: &str) -> Result<Self, InvalidTarget> {
        let invalid = || InvalidTarget(entry.chars().take(120).collect());
        if entry.trim_end_matches('/').ends_with(":*") && is_origin(entry.trim_end_matches('/')) {
            return Ok(Self::AnyPort(entry.trim_end_matches('/').to_owned()));
        }
        let url = Url::parse(entry).map_err(|_| invalid())?;
        let secure = match url.scheme() {
            "https" => true,
            "http" => url.host_str().is_some_and(is_loopback),
            _ => false,
        };
        let plain = url.username().is_empty() && url.password().is_none() && !entry.contains('@');
        let whole = url.query().is_none() && url.fragment().is_none() && !entry.contains(['\\', '*']);
        if !secure || !plain || !whole || is_encoded(url.path()) || entry.len() > MAX {
            return Err(invalid());
        }
        Ok(Self::Under { origin: url.origin().ascii_serialization(), path: url.path().to_owned() })
    }

    fn covers(&self, origin: &str, path: &str) -> bool {
        match self {
            Self::AnyPort(entry) => any_port(origin) == Some(entry),
            Self::Under { origin: own, path: base } if own == origin => {
                // A server behind may decode a slash before it takes out dots: only a whole host is safe
                // from that.
                base == "/" || (is_under(path, base) && !is_encoded(path))
            }
            Self::Under { .. } => false,
        }
    }
}

/// Whether the path is the base or lies below it, by whole segments.
fn is_under(path: &str, base: &str) -> bool {
    let rest = path.strip_prefix(base.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.starts_with('/') || (rest.is_empty() && !base.ends_with('/')))
}

/// Whether there is a slash or backslash in disguise.
fn is_encoded(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    path.contains("%2f") || path.contains("%5c")
}

#[cfg(test)]
mod tests;
