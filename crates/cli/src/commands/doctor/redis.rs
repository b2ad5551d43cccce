//! What each server of Redis says.

use super::Findings;
use crate::words;
use reseal_store::postgres::PostgresStore;
use reseal_store::redis::{NodeReport, RedisStore};
use std::time::Duration;

/// A renewal waits for it twice at least.
const SLOW: Duration = Duration::from_millis(20);

pub(super) async fn check(store: &RedisStore<PostgresStore>, findings: &mut Findings) {
    match store.report().await {
        Ok(reports) => reports.iter().for_each(|report| node(report, findings)),
        Err(error) => findings.fail("redis", error.to_string()),
    }
}

fn node(report: &NodeReport, findings: &mut Findings) {
    let NodeReport { address, version, latency, replicas, used_memory, advice, .. } = report;
    let text = format!(
        "{address}: version {version}, {}, {} used, answers in {} ms",
        words::count(u64::from(*replicas), "replica"),
        words::bytes(*used_memory),
        super::latency::millis(*latency)
    );
    if *latency > SLOW {
        findings.warn("redis", format!("{text}: renewals wait for it; bring it nearer"));
    } else {
        findings.ok("redis", text);
    }
    for line in advice {
        findings.warn("redis", format!("{address}: {line}"));
    }
}
