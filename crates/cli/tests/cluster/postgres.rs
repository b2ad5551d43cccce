//! Three authorities on PostgreSQL with a synchronous standby.

use crate::alone;
use crate::faults::{calm, round, rounds};
use crate::load::{Load, Losses};
use crate::nodes::{Kind, Nodes, Setup};
use reseal_test_servers::{Link, PgOptions, Postgres};
use std::time::Duration;

/// PostgreSQL, the authorities, and the network between the first of these and both servers.
pub(crate) struct Cluster<'a> {
    pub(crate) nodes: Nodes,
    postgres: &'a Postgres,
    links: [Link; 2],
}

impl<'a> Cluster<'a> {
    pub(crate) fn start(postgres: &'a Postgres, database: &str, proxy: Kind, more: &str) -> Self {
        let links = postgres.hosts().map(Link::to);
        let direct = postgres.multi_host_url(database);
        let [first, second] = postgres.hosts();
        let linked = direct
            .replace(&first.to_string(), &links[0].addr().to_string())
            .replace(&second.to_string(), &links[1].addr().to_string());
        // Longer than HAProxy takes to see that a node is stopping.
        let config = |url: &str| format!("[server]\ndrain_time = \"5s\"\n[store]\nurl = \"{url}\"\n{more}");
        let setup = Setup { config: vec![config(&linked), config(&direct), config(&direct)], proxy };
        Self { nodes: Nodes::start(&setup), postgres, links }
    }

    /// Every node, one after the other, refuses nobody while it is restarted.
    fn rolling_restart(&self, load: &Load) {
        let before = load.errors();
        for node in 0..self.nodes.count() {
            self.nodes.stop(node);
            self.nodes.restart(node);
            calm(&self.nodes, load, "a rolling restart");
        }
        assert_eq!(
            load.errors(),
            before,
            "somebody was refused: {:?}\n{}",
            load.last_error(),
            self.nodes.logs()
        );
        load.check_ledger(&self.nodes);
    }

    fn kill_an_authority(&self, load: &Load, n: usize) {
        let node = n % self.nodes.count();
        round(&self.nodes, load, &format!("kill authority {node}"), || {
            self.nodes.kill(node);
            self.nodes.restart(node);
        });
    }

    fn fail_over(&self, load: &Load) {
        round(&self.nodes, load, "kill the primary, promote the standby", || {
            self.postgres.kill();
            self.postgres.promote_standby();
        });
        self.postgres.add_new_standby();
    }

    fn pause_the_primary(&self, load: &Load, time: Duration) {
        round(&self.nodes, load, "pause the primary", || {
            self.postgres.pause();
            std::thread::sleep(time);
            self.postgres.resume();
        });
    }

    fn cut_a_node_off(&self, load: &Load, silently: bool) {
        let name = if silently { "a node's packets get lost" } else { "a node is cut off" };
        round(&self.nodes, load, name, || {
            for link in &self.links {
                if silently { link.hang() } else { link.cut() }
            }
            std::thread::sleep(Duration::from_secs(3));
            self.links.iter().for_each(Link::mend);
        });
    }
}

#[test]
fn no_fault_of_a_node_or_of_postgresql_logs_anyone_out_or_undoes_anything() {
    let _alone = alone();
    let postgres = Postgres::start(PgOptions { synchronous_standby: true, ..PgOptions::default() });
    let database = postgres.database();
    let cluster = Cluster::start(&postgres, database.name(), Kind::HaProxy, "");
    let load = Load::start(&cluster.nodes, Losses::None);
    for n in 0..rounds(1, 10) {
        cluster.kill_an_authority(&load, n);
        cluster.fail_over(&load);
        cluster.pause_the_primary(&load, Duration::from_secs(if rounds(0, 1) == 1 { 10 } else { 3 }));
        cluster.cut_a_node_off(&load, true);
        cluster.cut_a_node_off(&load, false);
    }
    cluster.rolling_restart(&load);
}

#[test]
fn behind_nginx_too() {
    let _alone = alone();
    let postgres = Postgres::start(PgOptions::default());
    let database = postgres.database();
    let cluster = Cluster::start(&postgres, database.name(), Kind::Nginx, "");
    let load = Load::start(&cluster.nodes, Losses::None);
    for n in 0..rounds(1, 3) {
        cluster.kill_an_authority(&load, n);
        cluster.cut_a_node_off(&load, false);
    }
    cluster.rolling_restart(&load);
}
