//! `reseal backup`.

use crate::folder::FolderArgs;
use crate::output::{Out, Progress, note};
use crate::words;
use anyhow::{Context as _, bail};
use reseal_store::sqlite::quick_check_file;
use serde_json::json;
use std::path::PathBuf;

/// Copy the database to a file, while the authority runs.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Copies the database to a new file, while the authority runs.\n\n\
        The copy is the state of one moment, on disk and checked when the command ends. The master key is \
        not in it: keep master.key (or what RESEAL_MASTER_KEY holds) in another safe place. Without it the \
        copy's keys cannot be opened.\n\n\
        To restore, stop the authority, remove reseal.db-wal and reseal.db-shm from the data folder, put the \
        copy into it as reseal.db, and start. Sessions that ended since the backup live again then: \
        `reseal sessions end --all`, before the start, ends everybody's.",
    after_help = "\
Examples:
  reseal backup /backups/reseal-$(date +%F).db
  reseal backup --data /var/lib/reseal snapshot.db --json"
)]
pub(crate) struct BackupArgs {
    /// The file to write; it must not exist
    file: PathBuf,
    #[command(flatten)]
    folder: FolderArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: BackupArgs) -> anyhow::Result<()> {
    let folder = args.folder.open_read_only().await?;
    {
        let progress = Progress::new();
        folder.store.backup(&args.file, &mut |at| {
            let percent = at.copied.saturating_mul(100).checked_div(at.pages).unwrap_or(100);
            progress.show(format_args!("{percent} % of {} pages", words::grouped(at.pages)));
        })?;
        progress.show("checking the copy");
        let found = quick_check_file(&args.file)?;
        if let Some(first) = found.first() {
            bail!(
                "{}: the copy is damaged ({first}); check the database with `reseal doctor`",
                args.file.display()
            );
        }
    }
    let size = std::fs::metadata(&args.file).map(|m| m.len()).context("the copy cannot be read")?;
    let mut out = Out::new();
    if args.json {
        out.json(&json!({ "file": args.file, "bytes": size }))?;
    } else {
        out.line(format_args!("{}: {}, checked", args.file.display(), words::bytes(size)))?;
    }
    out.finish()?;
    note("the master key is not in it; keep it in another safe place");
    Ok(())
}
