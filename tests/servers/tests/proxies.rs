//! HAProxy and nginx before real HTTP servers, one of which goes away.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use reseal_test_servers::{HaProxy, Link, Nginx, until};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Answers every request with its name.
fn server(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head = BufReader::new(stream.try_clone().unwrap()).lines();
            if head.map_while(Result::ok).any(|line| line.is_empty()) {
                let length = name.len();
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{name}");
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
    });
    addr
}

/// The body and whether it was 200.
fn ask(url: &str) -> Option<String> {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then(|| answer.rsplit_once("\r\n\r\n").unwrap().1.to_owned())
}

#[test]
fn each_hands_requests_to_whoever_is_there() {
    let link = Link::to(server("first"));
    let backends = [link.addr(), server("second")];
    let (haproxy, nginx) = (HaProxy::start(&backends), Nginx::start(&backends));
    for url in [haproxy.url(), nginx.url()] {
        for name in ["first", "second"] {
            until("both are asked", || (ask(&url)? == name).then_some(()));
        }
        link.cut();
        for _ in 0..10 {
            assert_eq!(ask(&url).unwrap(), "second");
        }
        link.mend();
        until("it is asked again", || (ask(&url)? == "first").then_some(()));
    }
}
