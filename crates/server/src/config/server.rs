//! `[server]`: where the authority listens, TLS, whose word about addresses counts, and bounds.

use ipnet::{IpNet, Ipv4Net};
use reseal_core::policy::Ttl;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// The HTTP server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Where to listen, one place or a list: "ADDRESS:PORT", "unix:PATH", or "systemd" for the sockets that
    /// systemd passes on.
    pub listen: Listen,
    /// Mode of a Unix socket, in octal.
    pub socket_mode: SocketMode,
    /// TLS on every TCP socket; without it a proxy has to do it.
    pub tls: Option<TlsConfig>,
    /// The proxies whose word about the client's address counts: addresses, networks, or "unix" for whoever
    /// comes through a Unix socket. Nobody's by default.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// The header in which they say it. The other one is never read.
    pub forwarded_header: ForwardedHeader,
    /// Most bytes of a request body.
    pub max_body_bytes: usize,
    /// Most bytes of a request's headers together.
    pub max_header_bytes: usize,
    /// Time to receive the headers of a request.
    pub header_timeout: Ttl,
    /// Time to answer a request, body included.
    pub request_timeout: Ttl,
    /// Most connections at once.
    pub max_connections: usize,
    /// Time between the signal to stop and the end of listening, in which the node says that it is not ready and
    /// answers on, so that a load balancer sends nothing more to it. Without one: 0s.
    pub drain_time: Ttl,
    /// Time that accepted requests get to finish at shutdown.
    pub shutdown_timeout: Ttl,
    /// Whether to log each request (method, route, status, time; no credentials, no query).
    pub access_log: bool,
    /// Whether `/metrics` is served.
    pub metrics: bool,
    /// Allow plain HTTP cookies without `__Host-` and `Secure`, on loopback only.
    pub insecure_cookies: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4000)).into(),
            socket_mode: SocketMode(0o660),
            tls: None,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            max_body_bytes: 64 * 1024,
            max_header_bytes: 32 * 1024,
            header_timeout: super::secs(10),
            request_timeout: super::secs(20),
            max_connections: 10_000,
            drain_time: super::secs(0),
            shutdown_timeout: super::secs(20),
            access_log: false,
            metrics: true,
            insecure_cookies: false,
        }
    }
}

impl ServerConfig {
    /// The key that cannot be used, and why.
    pub(super) fn check(&self, issuer: Option<&str>) -> Result<(), (&'static str, String)> {
        if self.trusted_proxies.len() > PROXIES_MAX {
            return Err(("trusted_proxies", format!("at most {PROXIES_MAX} entries; name networks instead")));
        }
        let Some(tls) = &self.tls else { return Ok(()) };
        if issuer.is_some_and(|issuer| !issuer.starts_with("https://")) {
            return Err(("tls", "with TLS the issuer is https; change `issuer`".to_owned()));
        }
        if self.insecure_cookies {
            return Err(("insecure_cookies", "is for plain HTTP; take it out, or server.tls".to_owned()));
        }
        let every = tls.reload_every.0.as_secs();
        if !(1..=86_400).contains(&every) {
            return Err(("tls", "reload_every must lie between 1s and 1d".to_owned()));
        }
        Ok(())
    }
}

/// Most entries of `trusted_proxies`: each request looks at all of them.
const PROXIES_MAX: usize = 256;

/// TLS in the authority itself.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// File with the certificate and those between it and the root, in PEM, the server's own first.
    pub certificate: PathBuf,
    /// File with its private key in PEM, not encrypted.
    pub key: PathBuf,
    /// How often to see whether the files have changed; SIGHUP looks at once.
    #[serde(default = "reload_every")]
    pub reload_every: Ttl,
}

const fn reload_every() -> Ttl {
    super::secs(10)
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen(Vec<ListenOn>);

impl Listen {
    const MAX: usize = 16;

    /// These places; `None` unless there are between 1 and 16.
    pub fn new(places: Vec<ListenOn>) -> Option<Self> {
        (1..=Self::MAX).contains(&places.len()).then_some(Self(places))
    }

    /// The places, in the order in which they are told.
    pub fn places(&self) -> &[ListenOn] {
        &self.0
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self(vec![ListenOn::Tcp(address)])
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(vec![text.parse()?]))
    }
}

/// One place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenOn {
    /// An address and port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// What systemd passes on.
    Systemd,
}

impl FromStr for ListenOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "systemd" {
            return Ok(Self::Systemd);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return if (1..=UNIX_PATH_MAX).contains(&path.len()) {
                Ok(Self::Unix(path.into()))
            } else {
                Err(format!("the path of a Unix socket has 1 to {UNIX_PATH_MAX} bytes"))
            };
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            format!(
                "{text:?} is no place to listen at: write \"127.0.0.1:4000\", \"[::]:443\", \"unix:PATH\" or \"systemd\""
            )
        })
    }
}

/// What a socket's address holds on Linux, without its zero.
const UNIX_PATH_MAX: usize = 107;

impl fmt::Display for ListenOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd => f.write_str("systemd"),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => serializer.collect_str(one),
            places => serializer.collect_seq(places.iter().map(ToString::to_string)),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Listen;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a place to listen at, or a list of 1 to {} of them", Listen::MAX)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Listen, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Listen, A::Error> {
                let mut places = Vec::new();
                while places.len() <= Listen::MAX
                    && let Some(text) = seq.next_element::<String>()?
                {
                    places.push(text.parse().map_err(de::Error::custom)?);
                }
                Listen::new(places).ok_or_else(|| de::Error::custom("between 1 and 16 places"))
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

impl JsonSchema for Listen {
    fn schema_name() -> Cow<'static, str> {
        "Listen".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "\"ADDRESS:PORT\", \"unix:PATH\" or \"systemd\", or a list of them",
            "anyOf": [
                { "type": "string" },
                { "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": Listen::MAX }
            ]
        })
    }
}

/// The mode of a Unix socket's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(pub u32);

impl FromStr for SocketMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
        mode.map(Self).ok_or_else(|| format!("{text:?} is no mode: write it in octal, \"0660\""))
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// A proxy whose word counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedProxy {
    /// Whoever connects from this network.
    Net(IpNet),
    /// Whoever connects through a Unix socket.
    Unix,
}

impl FromStr for TrustedProxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let no_proxy =
            || format!("{text:?} is no proxy: write \"10.0.0.7\", \"10.0.0.0/8\", \"::1\" or \"unix\"");
        let net = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address.to_canonical()),
            Err(_) => canonical(text.parse().map_err(|_| no_proxy())?),
        };
        if net.prefix_len() == 0 {
            return Err(format!("{text:?} trusts everybody, so that anyone could claim any address"));
        }
        if net.trunc() != net {
            return Err(format!("{text:?} has bits behind its prefix: did you mean \"{}\"?", net.trunc()));
        }
        Ok(Self::Net(net))
    }
}

/// Peers over IPv4 are known by their IPv4 addresses, on whatever socket they come: as a network of mapped addresses
/// (`::ffff:10.0.0.0/104`, RFC 4291 §2.5.5.2) none of them would be met.
fn canonical(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    mapped.and_then(|(v4, prefix)| Ipv4Net::new(v4, prefix).ok()).map_or(net, IpNet::V4)
}

impl fmt::Display for TrustedProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(net) => net.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// The header in which proxies say whom they ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: addresses with commas between them.
    #[default]
    #[serde(rename = "X-Forwarded-For")]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Values that are written as text.
macro_rules! as_text {
    ($type:ty, $name:literal, $description:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $description })
            }
        }
    };
}

as_text!(SocketMode, "SocketMode", "A file mode in octal: \"0660\"");
as_text!(TrustedProxy, "TrustedProxy", "An address, a network (\"10.0.0.0/8\"), or \"unix\"");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("reseal.toml")).map_err(|e| e.to_string())
    }

    #[test]
    fn one_place_or_many() {
        let places = |text: &str| {
            let config = parse(&format!("[server]\nlisten = {text}")).unwrap();
            config.server.listen.places().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(places("'127.0.0.1:0'"), ["127.0.0.1:0"]);
        assert_eq!(
            places("['[::]:443', 'unix:/run/reseal/reseal.sock', 'systemd']"),
            ["[::]:443", "unix:/run/reseal/reseal.sock", "systemd"]
        );
        let long = format!("'unix:/{}'", "x".repeat(107));
        for bad in ["'443'", "'localhost:1'", "'unix:'", "[]", "7", "['systemd', 1]", long.as_str()] {
            let told = parse(&format!("\n[server]\nlisten = {bad}")).unwrap_err();
            assert!(told.starts_with("reseal.toml:3: "), "{told}");
        }
        let many = format!("[{}]", "'systemd',".repeat(17));
        assert!(parse(&format!("[server]\nlisten = {many}")).is_err());
    }

    #[test]
    fn proxies_are_addresses_networks_or_unix() {
        let config =
            parse("[server]\ntrusted_proxies = ['10.0.0.0/8', '::1', 'unix', '::ffff:192.0.2.1', '::ffff:10.0.0.0/104', 'fd00::/8']").unwrap();
        let shown: Vec<String> = config.server.trusted_proxies.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.0/8", "::1/128", "unix", "192.0.2.1/32", "10.0.0.0/8", "fd00::/8"]);
        for (bad, told) in [
            ("0.0.0.0/0", "trusts everybody"),
            ("::/0", "trusts everybody"),
            ("::ffff:0:0/96", "trusts everybody"),
            ("::ffff:10.0.0.1/104", "did you mean \\\"10.0.0.0/8\\\""),
            ("10.0.0.1/8", "did you mean \\\"10.0.0.0/8\\\""),
            ("proxy.example", "is no proxy"),
            ("10.0.0.0/33", "is no proxy"),
        ] {
            let error = parse(&format!("[server]\n\ntrusted_proxies = ['{bad}']")).unwrap_err();
            assert!(error.starts_with("reseal.toml:3: "), "{error}");
            assert!(error.contains(&told.replace('\\', "")), "{error}");
        }
        let header = parse("[server]\nforwarded_header = 'Forwarded'").unwrap().server.forwarded_header;
        assert_eq!(header, ForwardedHeader::Forwarded);
        assert!(parse("[server]\nforwarded_header = 'X-Real-IP'").is_err());
    }

    #[test]
    fn a_mode_is_octal() {
        assert_eq!(parse("[server]\nsocket_mode = '0600'").unwrap().server.socket_mode, SocketMode(0o600));
        for bad in ["'660x'", "'0o660'", "'1660'", "'+77'", "660"] {
            assert!(parse(&format!("[server]\nsocket_mode = {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn tls_wants_https() {
        let tls = "[server.tls]\ncertificate = 'a.pem'\nkey = 'b.pem'\n";
        let config = parse(&format!("issuer = 'https://a.example'\n{tls}")).unwrap();
        assert_eq!(config.server.tls.unwrap().reload_every, reload_every());
        let told = parse(&format!("issuer = 'http://127.0.0.1:1'\n\n{tls}")).unwrap_err();
        assert!(told.starts_with("reseal.toml:3: server.tls: "), "{told}");
        assert!(parse("[server.tls]\ncertificate = 'a.pem'").unwrap_err().contains("key"));
        assert!(parse(&format!("{tls}reload_every = '2d'")).unwrap_err().contains("reload_every"));
        let cookies = parse(&format!("[server]\ninsecure_cookies = true\n{tls}")).unwrap_err();
        assert!(cookies.starts_with("reseal.toml:2: server.insecure_cookies"), "{cookies}");
    }
}
