//! `reseal users import`.

mod lines;
mod record;
mod run;
mod source;

use crate::exit::Told;
use crate::folder::FolderArgs;
use crate::output::{Out, note};
use crate::words;
use run::{Counts, Import};
use serde_json::json;
use source::Source;
use std::path::PathBuf;

/// Import users with their password hashes.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Imports users with their password hashes.\n\n\
        NDJSON: one object a line, with username and any of sub (the id to keep, a UUID), name, email, \
        phone_number, phone_number_verified, roles, attributes, password_hash, disabled.\n\
        CSV: the first line names the columns, which are the same; roles are separated by `;`, \
        attributes are columns like attributes.plan.\n\n\
        password_hash is argon2id ($argon2id$...), bcrypt ($2b$...) or Django's pbkdf2_sha256$...; at \
        the first login it is replaced by argon2id. Without it the user cannot log in with a password.\n\n\
        A line that cannot be imported is reported with its number and skipped. A user who is there \
        already with the same record is skipped and counted; one with another record is left as it is, \
        and reported. An import of a file that was interrupted goes on after the last line that was \
        committed when the same command is given again; one from standard input starts over and skips \
        whom it finds.\n\n\
        Exit code 1 if any line was bad.",
    after_help = "\
Examples:
  reseal users import users.ndjson
  reseal users import users.csv --dry-run
  psql -At -c 'select row_to_json(u) from export u' | reseal users import -"
)]
pub(crate) struct ImportArgs {
    /// File to read, or - for standard input
    file: PathBuf,
    /// Format; without it from the file's name (.csv, or else NDJSON)
    #[arg(long)]
    format: Option<Format>,
    /// Check every line, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    folder: FolderArgs,
    /// Bad lines and the summary as one JSON object a line
    #[arg(long)]
    json: bool,
}

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One JSON object a line
    Ndjson,
    /// Comma-separated values with a header
    Csv,
}

impl Format {
    fn of(args: &ImportArgs) -> Self {
        let csv = args.file.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
        args.format.unwrap_or(if csv { Self::Csv } else { Self::Ndjson })
    }
}

pub(super) async fn run(args: ImportArgs) -> anyhow::Result<()> {
    let format = Format::of(&args);
    // The file first: a wrong name should not make a data folder.
    let source = Source::open(&args.file)?;
    let folder = if !args.dry_run {
        Some(args.folder.open_or_create().await?)
    } else if args.folder.load()?.store.data.exists() {
        Some(args.folder.open_read_only().await?)
    } else {
        None
    };
    let mut import = Import::new(folder.as_ref(), format, (args.dry_run, args.json));
    let stopped = import.run(source).await?;
    let counts = import.counts();
    tell(&args, counts, stopped)?;
    if stopped || counts.bad > 0 { Err(Told.into()) } else { Ok(()) }
}

fn tell(args: &ImportArgs, counts: &Counts, stopped: bool) -> anyhow::Result<()> {
    if args.json {
        let mut out = Out::new();
        out.json(&json!({
            "lines": counts.lines,
            "imported": counts.imported,
            "already_there": counts.already_there,
            "bad": counts.bad,
            "dry_run": args.dry_run,
            "interrupted": stopped,
        }))?;
        out.finish()?;
    } else {
        let done = if args.dry_run { "can be imported" } else { "imported" };
        let mut out = Out::new();
        out.line(format_args!(
            "{} {done}, {} already there, {}",
            words::count(counts.imported, "user"),
            words::grouped(counts.already_there),
            words::count(counts.bad, "bad line"),
        ))?;
        out.finish()?;
    }
    if stopped {
        note(format_args!(
            "interrupted after line {}; what was imported stays. Give the same command again to go on",
            words::grouped(counts.lines)
        ));
    }
    Ok(())
}
