//! What the sweep of very many outdated sessions does to those that are renewed meanwhile.

use crate::fill::{self, Age};
use crate::operations::Operation;
use crate::place::Place;
use crate::server::{Server, now};
use crate::soak::Times;
use anyhow::{Result, bail};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longest wait for the sweep.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Fills the place with outdated sessions, renews others on so many connections until all of them are gone, and
/// as long again without.
pub(crate) async fn run(binary: &Path, place: &Place, outdated: u64, connections: usize) -> Result<()> {
    Server::start(binary, place).await?.stop().await?;
    let living = place.sessions().await?;
    fill::fill(place, outdated, Age::Outdated).await?;
    place.settle();
    let server = Server::start(binary, place).await?;
    let (swept, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let begun = now();
    let watch = async {
        while place.sessions().await? > living + 2 * connections as u64 {
            if now().duration_since(begun) > PATIENCE {
                bail!("the sweep is not done after {} s", PATIENCE.as_secs());
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        swept.store(true, Ordering::Relaxed);
        let took = now().duration_since(begun);
        // As long again, within reason.
        tokio::time::sleep(took.clamp(Duration::from_secs(10), Duration::from_secs(60))).await;
        stop.store(true, Ordering::Relaxed);
        Ok(took)
    };
    let renewals = Operation::Refresh.times(&server, connections, (&swept, &stop));
    let (took, times) = tokio::join!(watch, renewals);
    let (took, (during, after)) = (took?, times?);
    println!(
        "sweep: {outdated} outdated sessions gone after {:.0} s, under {connections} connections",
        took.as_secs_f64()
    );
    println!("sweep: meanwhile {during}");
    println!("sweep: without   {after}");
    println!("sweep: p99 {:.2} times", ratio(&during, &after));
    server.stop().await
}

fn ratio(during: &Times, after: &Times) -> f64 {
    during.at(990).as_secs_f64() / after.at(990).as_secs_f64().max(1e-9)
}
