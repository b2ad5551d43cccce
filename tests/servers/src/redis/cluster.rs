//! A Redis cluster: primaries that share the slots, and their replicas.

use super::RedisOptions;
use super::node::{Answer, Node};
use crate::port::Port;
use crate::wait::until;
use std::sync::{Mutex, MutexGuard};

/// Hash slots of every cluster.
const SLOTS: usize = 16_384;

/// A cluster, ended and removed when dropped.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Mutex<Vec<Node>>,
}

/// A node as the cluster sees it (a line of `CLUSTER NODES`).
struct Seen {
    port: u16,
    primary: bool,
    failed: bool,
    slots: Vec<(u16, u16)>,
}

impl RedisCluster {
    /// Starts so many primaries and replicas, replica `i` of primary `i` modulo their number.
    ///
    /// # Panics
    /// When Redis is not installed, or no cluster comes about.
    pub fn start(primaries: usize, replicas: usize, options: &RedisOptions) -> Self {
        let mut nodes: Vec<Node> =
            (0..primaries + replicas).map(|_| Node::new(Port::free(), Some(Port::free()), options)).collect();
        for node in &mut nodes {
            node.run();
        }
        let ask =
            |node: &Node, command: &[&str]| node.ask(command).unwrap_or_else(|e| panic!("{command:?}: {e}"));
        for (i, node) in nodes.iter().enumerate() {
            ask(node, &["CLUSTER", "SET-CONFIG-EPOCH", &(i + 1).to_string()]);
        }
        for (i, node) in nodes.iter().take(primaries).enumerate() {
            let (first, end) = (SLOTS * i / primaries, SLOTS * (i + 1) / primaries);
            ask(node, &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &(end - 1).to_string()]);
        }
        for node in &nodes[1..] {
            let (port, bus) = (node.port.number().to_string(), node.bus().to_string());
            ask(&nodes[0], &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        until("all nodes know each other", || {
            nodes.iter().all(|node| seen_by(node).is_some_and(|seen| seen.len() == nodes.len())).then_some(())
        });
        for (i, node) in nodes[primaries..].iter().enumerate() {
            let id = ask(&nodes[i % primaries], &["CLUSTER", "MYID"]);
            until("a replica knows its primary", || node.ask(&["CLUSTER", "REPLICATE", id.text()]).ok());
        }
        let cluster = Self { nodes: Mutex::new(nodes) };
        cluster.until_ok();
        cluster.until_replicated();
        cluster
    }

    /// The URLs of all nodes, alive or not.
    pub fn urls(&self) -> Vec<String> {
        self.lock().iter().map(|node| format!("redis://{}", node.port.addr())).collect()
    }

    /// Kills the primary that serves a slot; returns which node it was.
    pub fn kill_primary_of(&self, slot: u16) -> usize {
        let mut nodes = self.lock();
        let port = owner(&nodes, slot).expect("the slot is served");
        let index = nodes.iter().position(|node| node.port.number() == port).expect("it is one of ours");
        nodes[index].kill();
        index
    }

    /// Starts a killed node again. Its cluster may have given its slots to a replica; then it becomes one.
    pub fn restart(&self, node: usize) {
        self.lock()[node].run();
    }

    /// Holds a node still.
    pub fn pause(&self, node: usize) {
        self.lock()[node].pause();
    }

    /// Lets a paused node go on.
    pub fn resume(&self, node: usize) {
        self.lock()[node].resume();
    }

    /// Waits until every living node sees every slot served by a living primary.
    pub fn until_ok(&self) {
        until("the cluster serves every slot", || {
            let nodes = self.lock();
            let alive: Vec<u16> =
                nodes.iter().filter(|node| node.is_running()).map(|node| node.port.number()).collect();
            let good = |node: &Node| {
                let info = node.ask(&["CLUSTER", "INFO"]).ok()?;
                let seen = seen_by(node)?;
                let served: usize = seen
                    .iter()
                    .filter(|other| other.primary && !other.failed && alive.contains(&other.port))
                    .flat_map(|other| &other.slots)
                    .map(|(first, last)| usize::from(last - first) + 1)
                    .sum();
                Some(info.text().contains("cluster_state:ok") && served == SLOTS)
            };
            nodes.iter().filter(|node| node.is_running()).all(|node| good(node) == Some(true)).then_some(())
        });
    }

    /// Waits until every primary that serves slots has a replica with all it has, so that the next one may die.
    pub fn until_replicated(&self) {
        until("every primary has its replica", || {
            let nodes = self.lock();
            let living = nodes.iter().find(|node| node.is_running())?;
            let primaries: Vec<u16> = seen_by(living)?
                .iter()
                .filter(|seen| seen.primary && !seen.failed && !seen.slots.is_empty())
                .map(|seen| seen.port)
                .collect();
            let followed = |node: &Node| {
                let info = node.ask(&["INFO", "replication"]).ok()?;
                Some(info.text().contains("state=online"))
            };
            let mine = nodes.iter().filter(|node| primaries.contains(&node.port.number()));
            let linked = |node: &Node| {
                let info = node.ask(&["INFO", "replication"]).ok()?;
                Some(info.text().contains("role:master") || info.text().contains("master_link_status:up"))
            };
            let all = mine.clone().all(|node| followed(node) == Some(true))
                && nodes.iter().filter(|node| node.is_running()).all(|node| linked(node) == Some(true));
            all.then_some(())
        });
    }

    /// What a node answers to a command.
    ///
    /// # Panics
    /// When it answers with an error, or not at all.
    pub fn ask(&self, node: usize, command: &[&str]) -> Answer {
        self.lock()[node].ask(command).unwrap_or_else(|e| panic!("{command:?}: {e}"))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Node>> {
        self.nodes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The port of the living primary that serves a slot.
fn owner(nodes: &[Node], slot: u16) -> Option<u16> {
    let seen = nodes.iter().filter(|node| node.is_running()).find_map(seen_by)?;
    let serves = |node: &&Seen| node.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot));
    seen.iter().filter(|node| node.primary && !node.failed).find(serves).map(|node| node.port)
}

/// The cluster as a node sees it: those it has shaken hands with.
fn seen_by(node: &Node) -> Option<Vec<Seen>> {
    let text = node.ask(&["CLUSTER", "NODES"]).ok()?;
    Some(text.text().lines().filter_map(parse).collect())
}

/// `<id> <ip:port@bus> <flags> <primary> <ping> <pong> <epoch> <link> <slot>...`
fn parse(line: &str) -> Option<Seen> {
    let words: Vec<&str> = line.split(' ').collect();
    let flags: Vec<&str> = words.get(2)?.split(',').collect();
    if flags.iter().any(|flag| matches!(*flag, "handshake" | "noaddr")) {
        return None;
    }
    let range = |word: &&str| {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    Some(Seen {
        port: words[1].split_once('@')?.0.rsplit_once(':')?.1.parse().ok()?,
        primary: flags.contains(&"master"),
        failed: flags.contains(&"fail"),
        slots: words.get(8..)?.iter().filter_map(range).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_a_line_of_cluster_nodes() {
        let seen = parse("abc 127.0.0.1:30001@40001 myself,master - 0 0 1 connected 0-5460 7000").unwrap();
        assert!(seen.primary && !seen.failed);
        assert_eq!((seen.port, seen.slots), (30001, vec![(0, 5460), (7000, 7000)]));
        let dead = parse("abc 127.0.0.1:30001@40001,host slave,fail def 0 0 1 disconnected").unwrap();
        assert!(!dead.primary && dead.failed && dead.slots.is_empty());
        assert!(parse("abc 127.0.0.1:30001@40001 handshake - 0 0 0 connected").is_none());
    }
}
