//! The address of a database, read as libpq reads it, and what we add to it.
//!
//! `tokio-postgres` knows neither `verify-ca` nor `verify-full` nor files with certificates, so these
//! parameters are taken out here.

use super::PostgresOptions;
use crate::{Access, OpenError};
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// Whether the connection is encrypted and what the server must prove (libpq's `sslmode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encryption {
    /// Never.
    Disable,
    /// If the server offers it; nothing is proved.
    Prefer,
    /// Always; nothing is proved.
    Require,
    /// Always, with a certificate of a trusted authority, whatever its name.
    VerifyCa,
    /// Always, with a certificate of a trusted authority for this host.
    VerifyFull,
}

/// An address that has been read.
pub(super) struct Address {
    /// One per host, in order.
    pub(super) hosts: Vec<Config>,
    pub(super) encryption: Encryption,
    pub(super) root_cert: Option<PathBuf>,
    pub(super) client_cert: Option<(PathBuf, PathBuf)>,
    /// Longest wait for a connection to one host, its greeting included.
    pub(super) connect_timeout: Duration,
    /// Hosts and database, for messages.
    pub(super) shown: String,
    pub(super) database: String,
}

/// Longest wait for one of the hosts where the address says nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn read(options: &PostgresOptions) -> Result<Address, OpenError> {
    let text = options.url.reveal();
    let (place, query) = text.split_once('?').unwrap_or((text, ""));
    let (mut mode, mut root_cert, mut cert, mut key) = (None, None, None, None);
    let mut rest = Vec::new();
    let mut named = Vec::new();
    for parameter in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        named.push(name);
        match name {
            "sslmode" => mode = Some(value),
            "sslrootcert" => root_cert = Some(file(value)?).filter(|p| p.as_os_str() != "system"),
            "sslcert" => cert = Some(file(value)?),
            "sslkey" => key = Some(file(value)?),
            "channel_binding" if value == "require" => {
                return Err(refused(
                    "channel_binding=require is not there; sslmode=verify-full proves the server",
                ));
            }
            "channel_binding" | "gssencmode" => {}
            _ => rest.push(parameter),
        }
    }
    let url = zeroize::Zeroizing::new(format!("{place}?{}", rest.join("&")));
    // The error of the parser may quote what it could not read.
    let mut config = Config::from_str(&url).map_err(|_| {
        refused(
            "the address is not one of PostgreSQL: postgres://USER@HOST:PORT/DATABASE?sslmode=verify-full",
        )
    })?;
    if let Some(password) = &options.password {
        config.password(password.reveal());
    }
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(refused("the address names no host"));
    }
    if config.get_hosts().len().max(config.get_hostaddrs().len()) > MAX_HOSTS {
        return Err(refused("the address names more than 16 hosts"));
    }
    let encryption = encryption(mode, root_cert.is_some(), &config)?;
    let client_cert = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err(refused("sslcert and sslkey belong together")),
    };
    config.ssl_mode(match encryption {
        Encryption::Disable => SslMode::Disable,
        Encryption::Prefer => SslMode::Prefer,
        _ => SslMode::Require,
    });
    complete(&mut config, &named, options);
    let connect_timeout =
        config.get_connect_timeout().copied().filter(|t| !t.is_zero()).unwrap_or(CONNECT_TIMEOUT);
    config.connect_timeout(connect_timeout);
    let hosts = one_by_one(&config)?;
    let user = config.get_user().unwrap_or_default();
    let database = config.get_dbname().unwrap_or(user).to_owned();
    let shown = format!("PostgreSQL at {}/{database}", places(&config));
    Ok(Address { hosts, encryption, root_cert, client_cert, connect_timeout, shown, database })
}

/// The name of an authority's connections.
pub(super) const SERVER_NAME: &str = "reseal";

/// More is a mistake.
const MAX_HOSTS: usize = 16;

/// A dead host or a cut network must be found out within seconds, however the kernel is set.
fn complete(config: &mut Config, named: &[&str], options: &PostgresOptions) {
    let says = |name: &str| named.contains(&name);
    if config.get_application_name().is_none() {
        // What serves is told from what only works on the database for a while.
        config.application_name(if options.access == Access::Serve { SERVER_NAME } else { "reseal command" });
    }
    if !says("keepalives_idle") {
        config.keepalives_idle(Duration::from_secs(5));
    }
    if !says("keepalives_interval") {
        config.keepalives_interval(Duration::from_secs(2));
    }
    if !says("keepalives_retries") {
        config.keepalives_retries(3);
    }
    if !says("tcp_user_timeout") {
        config.tcp_user_timeout(options.timeout.max(Duration::from_secs(1)) * 2);
    }
    // After a failover the first host may be a standby: whoever writes must pass it by.
    let several = config.get_hosts().len().max(config.get_hostaddrs().len()) > 1;
    if several && options.access != Access::ReadOnly && !says("target_session_attrs") {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
}

fn encryption(mode: Option<&str>, has_root: bool, config: &Config) -> Result<Encryption, OpenError> {
    Ok(match mode {
        None if is_local(config) => Encryption::Prefer,
        // What goes over a network holds every record: nothing less unless somebody says so.
        None => Encryption::VerifyFull,
        Some("disable") => Encryption::Disable,
        Some("allow" | "prefer") => Encryption::Prefer,
        // As in libpq.
        Some("require") if has_root => Encryption::VerifyCa,
        Some("require") => Encryption::Require,
        Some("verify-ca") => Encryption::VerifyCa,
        Some("verify-full") => Encryption::VerifyFull,
        Some(_) => {
            return Err(refused("sslmode is one of disable, prefer, require, verify-ca and verify-full"));
        }
    })
}

fn is_local(config: &Config) -> bool {
    config.get_hostaddrs().iter().all(IpAddr::is_loopback)
        && config.get_hosts().iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        })
}

/// A configuration for each host, so that each can be tried within its own time.
fn one_by_one(config: &Config) -> Result<Vec<Config>, OpenError> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    let fits = |len: usize| len == 0 || len == count;
    if !fits(hosts.len()) || !fits(addresses.len()) || !(fits(ports.len()) || ports.len() == 1) {
        return Err(refused("the address has as many hosts as hostaddrs, and one port or as many"));
    }
    let one = |i: usize| {
        let mut one = Config::new();
        if let Some(user) = config.get_user() {
            one.user(user);
        }
        if let Some(password) = config.get_password() {
            one.password(password);
        }
        if let Some(database) = config.get_dbname() {
            one.dbname(database);
        }
        if let Some(options) = config.get_options() {
            one.options(options);
        }
        if let Some(name) = config.get_application_name() {
            one.application_name(name);
        }
        match hosts.get(i) {
            Some(Host::Tcp(name)) => drop(one.host(name.as_str())),
            Some(Host::Unix(path)) => drop(one.host_path(path)),
            None => {}
        }
        if let Some(address) = addresses.get(i) {
            one.hostaddr(*address);
            if hosts.is_empty() {
                // What its certificate must be for.
                one.host(address.to_string());
            }
        }
        if let Some(port) = ports.get(i).or(ports.first()) {
            one.port(*port);
        }
        one.ssl_mode(config.get_ssl_mode());
        one.ssl_negotiation(config.get_ssl_negotiation());
        one.connect_timeout(config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT));
        one.target_session_attrs(config.get_target_session_attrs());
        one.load_balance_hosts(config.get_load_balance_hosts());
        one.keepalives(config.get_keepalives());
        one.keepalives_idle(config.get_keepalives_idle());
        if let Some(interval) = config.get_keepalives_interval() {
            one.keepalives_interval(interval);
        }
        if let Some(retries) = config.get_keepalives_retries() {
            one.keepalives_retries(retries);
        }
        if let Some(timeout) = config.get_tcp_user_timeout() {
            one.tcp_user_timeout(*timeout);
        }
        one
    };
    Ok((0..count).map(one).collect())
}

fn places(config: &Config) -> String {
    let port = |i: usize| {
        let port = config.get_ports().get(i).or(config.get_ports().first()).copied().unwrap_or(5432);
        if port == 5432 { String::new() } else { format!(":{port}") }
    };
    let name = |(i, host): (usize, &Host)| match host {
        Host::Tcp(name) => format!("{name}{}", port(i)),
        Host::Unix(path) => format!("{}{}", path.display(), port(i)),
    };
    if config.get_hosts().is_empty() {
        let address = |(i, address): (usize, &IpAddr)| format!("{address}{}", port(i));
        return config.get_hostaddrs().iter().enumerate().map(address).collect::<Vec<_>>().join(",");
    }
    config.get_hosts().iter().enumerate().map(name).collect::<Vec<_>>().join(",")
}

/// A path in a parameter, with its percent signs resolved.
fn file(value: &str) -> Result<PathBuf, OpenError> {
    let decoded = percent_decoded(value).ok_or_else(|| refused("a path in the address is not readable"))?;
    Ok(PathBuf::from(decoded))
}

fn percent_decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
        bytes.push(u8::try_from(16 * high + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

fn refused(why: &str) -> OpenError {
    OpenError::Options(format!("store.url: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Result<Address, OpenError> {
        read(&PostgresOptions::new(url.parse().unwrap()))
    }

    fn encryption_of(url: &str) -> Encryption {
        address(url).unwrap().encryption
    }

    #[test]
    fn what_leaves_the_machine_is_encrypted_and_proved_unless_somebody_says_otherwise() {
        use Encryption::*;
        assert_eq!(encryption_of("postgres://reseal@db.example/reseal"), VerifyFull);
        assert_eq!(encryption_of("postgres://reseal@127.0.0.1,db.example/reseal"), VerifyFull);
        for local in ["127.0.0.1", "localhost", "[::1]", "%2Frun%2Fpostgresql"] {
            assert_eq!(encryption_of(&format!("postgres://u@{local}/d")), Prefer, "{local}");
        }
        for (mode, meant) in [
            ("disable", Disable),
            ("prefer", Prefer),
            ("require", Require),
            ("verify-ca", VerifyCa),
            ("verify-full", VerifyFull),
            ("require&sslrootcert=/ca.pem", VerifyCa),
        ] {
            assert_eq!(encryption_of(&format!("postgres://u@h/d?sslmode={mode}")), meant);
        }
        assert!(address("postgres://u@h/d?sslmode=on").is_err());
        assert!(address("postgres://u@h/d?sslcert=/a").is_err(), "no key");
        assert!(address("postgres://u@h/d?channel_binding=require").is_err());
        assert!(address("postgres://u@h/d?colour=red").is_err(), "an unknown parameter");
    }

    #[test]
    fn every_host_is_tried_by_itself_and_a_standby_is_passed_by() {
        let address =
            address("postgres://u:hunter2@a:1,b:2/d?sslmode=disable&options=-c%20search_path%3Dx").unwrap();
        assert_eq!(address.shown, "PostgreSQL at a:1,b:2/d");
        assert_eq!(address.hosts.len(), 2);
        for (config, (host, port)) in address.hosts.iter().zip([("a", 1), ("b", 2)]) {
            assert_eq!(config.get_hosts(), [Host::Tcp(host.to_owned())]);
            assert_eq!(config.get_ports(), [port]);
            assert_eq!(config.get_options(), Some("-c search_path=x"));
            assert_eq!(config.get_password(), Some(&b"hunter2"[..]));
            assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        }
        let one = self::address("postgres://u@a/d?sslmode=disable").unwrap();
        assert_eq!(one.hosts[0].get_target_session_attrs(), TargetSessionAttrs::Any);
    }

    #[test]
    fn no_error_shows_the_password() {
        for url in ["postgres://u:hunter2@a,b:1,c:x/d", "postgres://u:hunter2@h/d?sslmode=hunter2"] {
            let error = address(url).err().unwrap();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
