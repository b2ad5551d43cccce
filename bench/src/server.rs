//! The server under measurement: started in development mode on a free port, ended by its id.

use crate::place::Place;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A running server.
pub(crate) struct Server {
    child: Child,
    id: u32,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What `dev.json` says.
    pub(crate) dev: Value,
    /// From the start of the process until `/health/ready` answered 200.
    pub(crate) ready_after: Duration,
}

/// Builds the binary in release mode.
pub(crate) fn build() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = std::process::Command::new(cargo)
        .args(["build", "--release", "--locked", "--quiet", "--package", "reseal"])
        .current_dir(root)
        .status()?;
    if !status.success() {
        bail!("the build failed");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release/reseal"))
}

impl Server {
    /// Starts it on the place.
    pub(crate) async fn start(binary: &Path, place: &Place) -> Result<Self> {
        let started = now();
        let mut command = Command::new(binary);
        command.args(["serve", "--dev", "--listen", "127.0.0.1:0"]);
        command.arg("--data").arg(&place.data).arg("--config").arg(&place.config);
        if let Some(url) = place.url() {
            command.env("RESEAL_STORE_URL", url);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} does not start", binary.display()))?;
        let id = child.id().context("it ended at once")?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await??;
        let line = line.context("it ended before it listened")?;
        let address = line.rsplit("//").next().context("no address")?.parse()?;
        // Keep reading, so that a full pipe is not what we measure.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let ready_after = wait_until_ready(address, started).await?;
        let dev = serde_json::from_slice(&std::fs::read(place.data.join("dev.json"))?)?;
        Ok(Self { child, id, address, dev, ready_after })
    }

    /// User and system time that the process has used so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id))?;
        // Fields 14 and 15 in clock ticks of 10 ms; the name before them may hold spaces (proc(5)).
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).context("no such field");
        Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
    }

    /// The same of the servers that its store stands on.
    pub(crate) fn cpu_of_store(&self) -> Result<Duration> {
        crate::place::cpu_of_servers(self.id)
    }

    /// Resident memory.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
        line.trim().trim_end_matches(" kB").parse().context("VmRSS is no number")
    }

    /// Ends it and waits.
    pub(crate) async fn stop(mut self) -> Result<()> {
        std::process::Command::new("kill").arg(self.id.to_string()).status()?;
        if tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }
}

async fn wait_until_ready(address: SocketAddr, started: Instant) -> Result<Duration> {
    loop {
        if let Ok(mut client) = crate::client::Client::connect(address).await
            && let Ok(answer) = client.get("/health/ready", &[]).await
            && answer.status == 200
        {
            return Ok(now().duration_since(started));
        }
        if now().duration_since(started) > Duration::from_secs(120) {
            bail!("not ready after two minutes");
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Bytes of all files in the folder.
pub(crate) fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        sum += entry?.metadata()?.len();
    }
    Ok(sum)
}

/// What the figures were taken on.
pub(crate) struct System(String);

impl System {
    /// Reads it from the kernel.
    pub(crate) fn read() -> Self {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or(": unknown");
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self(format!("{} cores,{}", cores, model.trim_start_matches([' ', '\t', ':']).trim()))
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The time, for measuring.
#[expect(clippy::disallowed_methods, reason = "measuring is what this program is for")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
