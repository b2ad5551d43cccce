//! One server's process, and the few commands that the tests send it.

use super::RedisOptions;
use crate::home;
use crate::port::Port;
use crate::process::Process;
use crate::program::Program;
use rustix::process::Signal;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

/// An answer of the protocol RESP2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A text, simple or in bulk.
    Text(String),
    /// A number.
    Number(i64),
    /// Nothing.
    Nil,
    /// Several.
    Many(Vec<Answer>),
}

impl Answer {
    /// The text of an answer that is one.
    ///
    /// # Panics
    /// When it is another.
    pub fn text(&self) -> &str {
        let Self::Text(text) = self else { panic!("a text, not {self:?}") };
        text
    }
}

#[derive(Debug)]
pub(super) struct Node {
    folder: PathBuf,
    pub(super) port: Port,
    bus: Option<Port>,
    options: RedisOptions,
    process: Option<Process>,
}

impl Node {
    /// A server that does not run yet; one of a cluster if it has a port for its bus.
    pub(super) fn new(port: Port, bus: Option<Port>, options: &RedisOptions) -> Self {
        Self { folder: home::folder("redis"), port, bus, options: options.clone(), process: None }
    }

    /// Starts it and waits until it answers.
    pub(super) fn run(&mut self) {
        let mut command = home::command(&Program::find("redis-server", "redis-server"), &self.folder, None);
        let mut set = |name: &str, value: &str| {
            command.arg(format!("--{name}")).arg(value);
        };
        set("port", &self.port.number().to_string());
        set("bind", "127.0.0.1");
        set("save", "");
        set("appendonly", if self.options.appendonly { "yes" } else { "no" });
        // A replica starts to copy at once.
        set("repl-diskless-sync-delay", "0");
        if let Some(password) = &self.options.password {
            set("requirepass", password);
            set("masterauth", password);
        }
        if let Some(bus) = &self.bus {
            set("cluster-enabled", "yes");
            set("cluster-port", &bus.number().to_string());
            set("cluster-node-timeout", "1000");
            // A replica takes over however long it has not heard of its primary.
            set("cluster-replica-validity-factor", "0");
            set("cluster-allow-replica-migration", "no");
        }
        for (name, value) in &self.options.settings {
            set(name, value);
        }
        let mut process = Process::start(command, &self.folder.join("log"));
        process.until_ready("Redis answers", || self.ask(&["PING"]).is_ok());
        self.process = Some(process);
    }

    /// The port of the cluster's bus.
    pub(super) fn bus(&self) -> u16 {
        self.bus.as_ref().expect("a node of a cluster").number()
    }

    pub(super) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    pub(super) fn end(&mut self, how: Signal) {
        if let Some(mut process) = self.process.take() {
            process.end(how);
        }
    }

    pub(super) fn pause(&mut self) {
        self.process.as_mut().expect("it is running").pause();
    }

    pub(super) fn resume(&mut self) {
        self.process.as_mut().expect("it is running").resume();
    }

    /// What it answers; an error of Redis or of the connection.
    pub(super) fn ask(&self, command: &[&str]) -> Result<Answer, String> {
        let talk = || -> std::io::Result<Result<Answer, String>> {
            let stream = TcpStream::connect_timeout(&self.port.addr(), Duration::from_secs(10))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let mut stream = BufReader::new(stream);
            if let Some(password) = &self.options.password {
                send(stream.get_mut(), &["AUTH", password])?;
                if let Err(refused) = receive(&mut stream)? {
                    return Ok(Err(refused));
                }
            }
            send(stream.get_mut(), command)?;
            receive(&mut stream)
        };
        talk().map_err(|e| e.to_string())?
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn send(stream: &mut TcpStream, words: &[&str]) -> std::io::Result<()> {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(text.as_bytes())
}

fn receive(stream: &mut BufReader<TcpStream>) -> std::io::Result<Result<Answer, String>> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let strange = || std::io::Error::other("not RESP2");
    let (kind, rest) = line.trim_end().split_at_checked(1).ok_or_else(strange)?;
    let number = || rest.parse::<i64>().map_err(|_| strange());
    Ok(Ok(match kind {
        "+" => Answer::Text(rest.to_owned()),
        "-" => return Ok(Err(rest.to_owned())),
        ":" => Answer::Number(number()?),
        "$" | "*" if number()? < 0 => Answer::Nil,
        "$" => {
            let mut bytes = vec![0; usize::try_from(number()?).map_err(|_| strange())? + 2];
            stream.read_exact(&mut bytes)?;
            bytes.truncate(bytes.len() - 2);
            Answer::Text(String::from_utf8_lossy(&bytes).into_owned())
        }
        "*" => {
            let mut items = Vec::new();
            for _ in 0..number()? {
                match receive(stream)? {
                    Ok(item) => items.push(item),
                    Err(error) => return Ok(Err(error)),
                }
            }
            Answer::Many(items)
        }
        _ => return Err(strange()),
    }))
}
