//! Redis: a single server, or a cluster.

mod cluster;
mod node;

use crate::port::Port;
pub use cluster::RedisCluster;
pub use node::Answer;
use node::Node;
use rustix::process::Signal;
use std::sync::Mutex;

/// How a server is set up.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    /// Whether writes go to the disk (`appendfsync everysec`), so that a killed server has them again.
    pub appendonly: bool,
    /// The password of the user `default`. None: everybody on this machine is let in.
    pub password: Option<String>,
    /// Further settings, as `redis.conf` names them.
    pub settings: Vec<(String, String)>,
}

/// A single server, ended and removed when dropped.
#[derive(Debug)]
pub struct Redis {
    node: Mutex<Node>,
    port: u16,
    password: Option<String>,
}

impl Redis {
    /// Starts one.
    ///
    /// # Panics
    /// When Redis is not installed or does not start.
    pub fn start(options: &RedisOptions) -> Self {
        let port = Port::free();
        let number = port.number();
        let mut node = Node::new(port, None, options);
        node.run();
        Self { node: Mutex::new(node), port: number, password: options.password.clone() }
    }

    /// Its URL, with the password if it has one.
    pub fn url(&self) -> String {
        let password = self.password.as_ref().map(|word| format!(":{word}@")).unwrap_or_default();
        format!("redis://{password}127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it answers to a command.
    ///
    /// # Panics
    /// When it answers with an error, or not at all.
    pub fn ask(&self, command: &[&str]) -> Answer {
        let node = self.node.lock().unwrap();
        node.ask(command).unwrap_or_else(|e| panic!("{command:?}: {e}"))
    }

    /// Kills it.
    pub fn kill(&self) {
        self.node.lock().unwrap().kill();
    }

    /// Starts a killed one again, on what it had written; a running one ends orderly first.
    pub fn restart(&self) {
        let mut node = self.node.lock().unwrap();
        node.end(Signal::TERM);
        node.run();
    }

    /// Holds it still: connections stay, nothing is answered.
    pub fn pause(&self) {
        self.node.lock().unwrap().pause();
    }

    /// Lets a paused one go on.
    pub fn resume(&self) {
        self.node.lock().unwrap().resume();
    }
}
