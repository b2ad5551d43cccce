//! What a Koa service pays for a request: `@reseal/koa` beside bare Koa and koa-jwt with a renewal by hand, in one run
//! of `bench/peers/koa`.

use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

/// Enough for the slowest machine: the load is bounded by a count.
const TIMEOUT: Duration = Duration::from_secs(900);

/// Builds the packages and runs it with this authority; npm's packages are installed if they are not there yet.
pub(crate) async fn run(authority: &Path) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    if !root.join("node_modules").exists() {
        in_folder(root, "npm", &["ci", "--no-audit", "--no-fund", "--silent"]).await?;
    }
    in_folder(root, "node", &["packages/tools/build.mjs", "--quick", "node", "koa"]).await?;
    let authority = authority.to_str().context("the binary's path is not Unicode")?;
    in_folder(root, "node", &["bench/peers/koa/bench.mjs", "--binary", authority]).await
}

async fn in_folder(folder: &Path, program: &str, args: &[&str]) -> Result<()> {
    let mut child = Command::new(program).args(args).current_dir(folder).kill_on_drop(true).spawn()?;
    let status = tokio::time::timeout(TIMEOUT, child.wait()).await??;
    ensure!(status.success(), "{program} {} failed", args.join(" "));
    Ok(())
}
