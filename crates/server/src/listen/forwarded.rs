//! The client's address behind proxies: what the nearest trusted one says, and so on as far as they are
//! trusted. Pure.
//!
//! Each proxy appends the address that it was connected from, so the list is read from its end, where those
//! stand that are known; whatever the client itself wrote stands before them, and is reached only if every
//! address after it is one of a trusted proxy.

use crate::config::{ForwardedHeader, TrustedProxy};
use http::{HeaderMap, HeaderName, header};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// An address.
    Ip(IpAddr),
    /// A process on this machine.
    Unix,
}

impl From {
    pub(super) const fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(ip),
            Self::Unix => None,
        }
    }
}

/// Whose word counts, and in which header.
#[derive(Clone, Debug)]
pub(super) struct Trusted {
    proxies: Box<[TrustedProxy]>,
    header: ForwardedHeader,
}

/// Most proxies that a request may have come through.
const HOPS_MAX: usize = 32;
static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

impl Trusted {
    /// `None` if nobody is trusted.
    pub(super) fn new(proxies: &[TrustedProxy], header: ForwardedHeader) -> Option<Self> {
        (!proxies.is_empty()).then(|| Self { proxies: proxies.into(), header })
    }

    /// The client's address; `None` if there is none, because it came through a Unix socket and nobody who is
    /// trusted named another.
    ///
    /// What cannot be read ends the walk: then it is the address of the last proxy that is trusted.
    pub(super) fn client(&self, from: From, headers: &HeaderMap) -> Option<IpAddr> {
        let mut client = from.ip();
        if !self.trusts(from) {
            return client;
        }
        let (name, node): (_, fn(&str) -> Option<IpAddr>) = match self.header {
            ForwardedHeader::XForwardedFor => (&X_FORWARDED_FOR, address),
            ForwardedHeader::Forwarded => (&header::FORWARDED, forwarded_for),
        };
        let quoted = self.header == ForwardedHeader::Forwarded;
        // A header given several times is one list, in order (RFC 9110 §5.3).
        let lines = headers.get_all(name).into_iter().rev();
        for element in lines.flat_map(|line| Backwards { rest: Some(line.as_bytes()), quoted }).take(HOPS_MAX)
        {
            let Some(ip) = std::str::from_utf8(element).ok().and_then(node) else { break };
            client = Some(ip);
            if !self.trusts(From::Ip(ip)) {
                break;
            }
        }
        client
    }

    fn trusts(&self, from: From) -> bool {
        self.proxies.iter().any(|proxy| match (proxy, from) {
            (TrustedProxy::Net(net), From::Ip(ip)) => net.contains(&ip),
            (TrustedProxy::Unix, From::Unix) => true,
            _ => false,
        })
    }
}

/// The elements of a list from its end. Read from there, an unclosed quote that a client wrote at the
/// beginning cannot swallow what proxies appended.
struct Backwards<'a> {
    rest: Option<&'a [u8]>,
    quoted: bool,
}

impl<'a> Iterator for Backwards<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let mut in_quotes = false;
        let comma = rest.iter().enumerate().rposition(|(i, byte)| {
            if self.quoted && *byte == b'"' {
                let escapes = rest[..i].iter().rev().take_while(|b| **b == b'\\').count();
                in_quotes ^= escapes % 2 == 0;
            }
            *byte == b',' && !in_quotes
        });
        let (before, element) = match comma {
            Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
            None => (None, rest),
        };
        self.rest = before;
        Some(element.trim_ascii())
    }
}

/// `for=` of a forwarded-element (RFC 7239 §4), if it is there once and is an address.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in element.split(';') {
        let (name, value) = pair.split_once('=')?;
        if name.trim_ascii().eq_ignore_ascii_case("for") {
            if found.is_some() {
                return None;
            }
            found = Some(value.trim_ascii());
        }
    }
    let node = found?;
    // A token holds neither brackets nor colons, so those are to be quoted; not everybody does.
    let bare = node.strip_prefix('"').and_then(|node| node.strip_suffix('"'));
    address(bare.unwrap_or(node))
}

/// An address, with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let plain = || text.parse::<IpAddr>().ok();
    // `%1` means something on one machine only.
    let with_port = || text.parse::<SocketAddr>().ok().filter(|_| !text.contains('%')).map(|a| a.ip());
    let bracketed = || {
        let inside = text.strip_prefix('[')?.strip_suffix(']')?;
        inside.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    };
    plain().or_else(with_port).or_else(bracketed).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const PEER: &str = "10.0.0.1";
    const CLIENT: &str = "203.0.113.9";

    fn trusted(header: ForwardedHeader, proxies: &[&str]) -> Trusted {
        let proxies: Vec<TrustedProxy> = proxies.iter().map(|p| p.parse().unwrap()).collect();
        Trusted::new(&proxies, header).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn of(name: &'static str, lines: &[&str]) -> HeaderMap {
        lines
            .iter()
            .map(|l| (HeaderName::from_static(name), HeaderValue::from_bytes(l.as_bytes()).unwrap()))
            .collect()
    }

    fn x(peer: &str, lines: &[&str]) -> String {
        let all = trusted(ForwardedHeader::XForwardedFor, &["10.0.0.0/8", "fd00::/8"]);
        all.client(From::Ip(ip(peer)), &of("x-forwarded-for", lines)).unwrap().to_string()
    }

    fn f(lines: &[&str]) -> String {
        let all = trusted(ForwardedHeader::Forwarded, &["10.0.0.0/8", "fd00::/8"]);
        all.client(From::Ip(ip(PEER)), &of("forwarded", lines)).unwrap().to_string()
    }

    #[test]
    fn the_list_is_walked_from_its_end_over_trusted_proxies() {
        assert_eq!(x(PEER, &[CLIENT]), CLIENT);
        assert_eq!(x(PEER, &["1.1.1.1, 203.0.113.9, 10.2.3.4"]), CLIENT);
        assert_eq!(x(PEER, &["1.1.1.1,203.0.113.9", "10.2.3.4"]), CLIENT);
        assert_eq!(x(PEER, &["10.9.9.9, 10.2.3.4"]), "10.9.9.9", "only proxies: the farthest");
        assert_eq!(x(PEER, &["203.0.113.9:4711"]), CLIENT);
        assert_eq!(x(PEER, &["::ffff:203.0.113.9"]), CLIENT);
        assert_eq!(x("fd00::1", &["[2001:db8::7]:99, fd00::2"]), "2001:db8::7");
        assert_eq!(x(PEER, &["[2001:db8::7]"]), "2001:db8::7");
        assert_eq!(x(PEER, &[]), PEER);
    }

    #[test]
    fn nobody_else_is_believed() {
        assert_eq!(x("198.51.100.1", &[CLIENT]), "198.51.100.1");
        assert_eq!(x("2001:db8::1", &[CLIENT]), "2001:db8::1");
        let unix = trusted(ForwardedHeader::XForwardedFor, &["unix"]);
        let said = of("x-forwarded-for", &[CLIENT]);
        assert_eq!(unix.client(From::Unix, &said), Some(ip(CLIENT)));
        assert_eq!(unix.client(From::Ip(ip("127.0.0.1")), &said), Some(ip("127.0.0.1")));
        let net = trusted(ForwardedHeader::XForwardedFor, &["127.0.0.1"]);
        assert_eq!(net.client(From::Unix, &said), None);
        assert_eq!(unix.client(From::Unix, &HeaderMap::new()), None);
    }

    #[test]
    fn what_cannot_be_read_ends_the_walk() {
        for bad in [
            "unknown",
            "",
            "203.0.113",
            "203.0.113.9:x",
            "203.0.113.9:99999",
            "fe80::1%eth0",
            "[::1",
            "\u{fc}",
            "203.0.113.9 1.1.1.1",
        ] {
            let line = format!("{CLIENT}, {bad}");
            assert_eq!(x(PEER, &[&line]), PEER, "{bad}");
            let line = format!("{CLIENT}, {bad}, 10.5.5.5");
            assert_eq!(x(PEER, &[&line]), "10.5.5.5", "{bad}");
        }
    }

    #[test]
    fn forwarded_as_rfc_7239_writes_it() {
        for line in [
            "for=203.0.113.9",
            "For=\"203.0.113.9:47011\";proto=http;by=203.0.113.43",
            "proto=https ; for=203.0.113.9",
            "for=192.0.2.43, for=203.0.113.9;host=\"a,b\"",
            "for=\"_gazonk\", for=203.0.113.9, for=10.1.1.1",
        ] {
            assert_eq!(f(&[line]), CLIENT, "{line}");
        }
        assert_eq!(f(&["For=\"[2001:db8:cafe::17]:4711\""]), "2001:db8:cafe::17");
        for line in
            ["for=unknown", "for=\"_secret\"", "by=1.1.1.1", "for=1.1.1.1;for=2.2.2.2", "203.0.113.9", "for"]
        {
            assert_eq!(f(&[line]), PEER, "{line}");
        }
    }

    #[test]
    fn a_quote_left_open_by_the_client_swallows_nothing() {
        assert_eq!(f(&["for=\"1.1.1.1, for=203.0.113.9"]), CLIENT);
        assert_eq!(f(&["for=\"1.1.1.1", "for=203.0.113.9"]), CLIENT);
        assert_eq!(f(&["for=\"1.1.1.1\\, for=\"[2001:db8::7]\""]), "2001:db8::7");
    }

    #[test]
    fn only_the_configured_header_is_read() {
        let mut both = of("x-forwarded-for", &["1.1.1.1"]);
        both.extend(of("forwarded", &["for=2.2.2.2"]));
        let read = |header| trusted(header, &["10.0.0.0/8"]).client(From::Ip(ip(PEER)), &both).unwrap();
        assert_eq!(read(ForwardedHeader::XForwardedFor), ip("1.1.1.1"));
        assert_eq!(read(ForwardedHeader::Forwarded), ip("2.2.2.2"));
    }

    #[test]
    fn the_walk_has_an_end() {
        let line = vec!["10.1.1.1"; 1000].join(",");
        assert_eq!(x(PEER, &[&format!("{CLIENT},{line}")]), "10.1.1.1");
    }

    proptest! {
        /// Whatever a client sends, behind a proxy that appends he has the address that the proxy saw.
        #[test]
        fn a_client_cannot_choose_his_address(
            sent in prop::collection::vec("[ -~]{0,60}", 0..4),
            own_line in any::<bool>(),
            forwarded in any::<bool>(),
        ) {
            let appended = if forwarded { format!("for={CLIENT}") } else { CLIENT.to_owned() };
            let mut lines = sent;
            match lines.last_mut() {
                Some(last) if !own_line => *last = format!("{last}, {appended}"),
                _ => lines.push(appended),
            }
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            prop_assert_eq!(if forwarded { f(&lines) } else { x(PEER, &lines) }, CLIENT);
        }

        /// From elsewhere no header moves anything.
        #[test]
        fn no_header_counts_from_elsewhere(sent in prop::collection::vec("[ -~]{0,60}", 0..4)) {
            let lines: Vec<&str> = sent.iter().map(String::as_str).collect();
            prop_assert_eq!(x("198.51.100.1", &lines), "198.51.100.1");
        }
    }
}
