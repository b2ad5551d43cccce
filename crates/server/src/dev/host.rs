//! Development mode answers on loopback to loopback names only, so that no web page can reach it under a
//! name of its own (DNS rebinding).

use crate::http::error::ApiError;
use crate::http::origin::is_loopback;
use http::{HeaderMap, Request, StatusCode, header};

/// Refuses a request that names a host other than this machine itself, on whatever port.
pub fn check_host<B>(request: &Request<B>) -> Result<(), ApiError> {
    let named = match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => host(request.headers()),
    };
    if named.is_some_and(is_this_machine) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::MISDIRECTED_REQUEST,
        "misdirected_request",
        "Development mode answers to localhost and loopback addresses only. Use the address it printed at its start.",
    ))
}

/// The `Host` header, if it is there exactly once.
fn host(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::HOST).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

fn is_this_machine(host: &str) -> bool {
    host.parse::<http::uri::Authority>().is_ok_and(|a| !host.contains('@') && is_loopback(a.host()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_named() {
        for good in ["localhost", "localhost:4000", "127.0.0.1:1", "127.3.2.1", "[::1]:4000", "LocalHost:80"]
        {
            assert!(is_this_machine(good), "{good}");
        }
        let bad = [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "10.0.0.1",
            "x@localhost",
            "0.0.0.0",
        ];
        for bad in bad {
            assert!(!is_this_machine(bad), "{bad}");
        }
    }

    #[test]
    fn a_request_without_a_host_or_with_two_is_refused() {
        let request = |hosts: &[&str]| {
            let builder = hosts.iter().fold(Request::get("/"), |b, h| b.header("host", *h));
            check_host(&builder.body(()).unwrap())
        };
        assert!(request(&["localhost"]).is_ok());
        assert_eq!(request(&[]).unwrap_err().status(), StatusCode::MISDIRECTED_REQUEST);
        assert!(request(&["localhost", "localhost"]).is_err());
        assert!(request(&["evil.example"]).is_err());
    }
}
