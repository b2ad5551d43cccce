//! A provider of text messages: it keeps what it is asked to send.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

pub(crate) struct Outbox {
    addr: SocketAddr,
    texts: Mutex<Receiver<String>>,
}

impl Outbox {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (sender, texts) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let sender = sender.clone();
                std::thread::spawn(move || serve(stream.unwrap(), &sender));
            }
        });
        Self { addr, texts: Mutex::new(texts) }
    }

    /// What the nodes' configuration says of it.
    pub(crate) fn config(&self) -> String {
        format!(
            "[sms]\nkind = \"http\"\nurl = \"http://{}/messages\"\nbody = '{{\"to\": \"{{{{to}}}}\", \"text\": \"{{{{text}}}}\"}}'\n",
            self.addr
        )
    }

    /// The code of the next message.
    pub(crate) fn next_code(&self) -> String {
        let text = self.texts.lock().unwrap().recv_timeout(Duration::from_secs(120)).expect("a message");
        let codes: Vec<&str> =
            text.split(|c: char| !c.is_ascii_digit()).filter(|run| run.len() == 6).collect();
        assert_eq!(codes.len(), 1, "{text}");
        codes[0].to_owned()
    }
}

/// Requests of one connection, until it ends.
fn serve(stream: std::net::TcpStream, sender: &Sender<String>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        sender.send(String::from_utf8_lossy(&body).into_owned()).ok()?;
        writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
    }
}
