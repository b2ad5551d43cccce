//! `reseal migrate`.

mod ends;
mod progress;

use crate::exit::misused;
use crate::folder::StoreUrlParser;
use crate::input::confirm;
use crate::output::{Out, note};
use crate::words;
use anyhow::{Context as _, bail};
use clap::builder::RangedU64ValueParser;
use ends::{End, Place};
use progress::Display;
use reseal_server::random::Random;
use reseal_store::StoreUrl;
use reseal_store::transfer::{Ended, Migration, Options, Report, SourceMark, SourceState, TransferError};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Move everything to another store, while the authority runs.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Moves everything from one store to another, while the authority runs on the first one: users, \
        clients, keys, sessions with their timelines, the event log. Every token and cookie stays good, and \
        readers of the feed go on where they were.\n\n\
        First everything is copied, and what changes meanwhile once more, as often as needed. Then the first store \
        takes no more writes (the authority answers them with 503 and Retry-After, and reads go on), the last changes are \
        copied, counts and a sample are compared, and the second store is complete. Start the authorities on it \
        then, with the same master key.\n\n\
        It may be interrupted at any moment: the same command goes on where it was. A store that is not complete is \
        not served, nor is one that was moved away. With --stay-live nothing is refused: the copy follows the \
        original until the command is stopped, and the same command without --stay-live ends the move.\n\n\
        Addresses with a password belong into the environment (RESEAL_MIGRATE_FROM, RESEAL_MIGRATE_TO), or the \
        password into the configuration's `store.password_file`.",
    after_help = "\
Examples:
  reseal migrate --from sqlite:/var/lib/reseal --to postgres://reseal@db.example.org/reseal
  reseal migrate --to postgres://reseal@db.example.org/reseal --stay-live
  reseal migrate --to sqlite:/srv/reseal --yes --then 'systemctl restart reseal'
  reseal migrate --from sqlite:/var/lib/reseal --abort
  reseal migrate --write-back"
)]
pub(crate) struct MigrateArgs {
    /// Where everything is (sqlite:DIR, postgres://USER@HOST/DATABASE); without it the configuration's store
    #[arg(long, value_name = "URL", value_parser = StoreUrlParser, env = "RESEAL_MIGRATE_FROM", hide_env_values = true)]
    from: Option<StoreUrl>,
    /// Where everything goes; must be empty, or what an earlier run left
    #[arg(long, value_name = "URL", value_parser = StoreUrlParser, env = "RESEAL_MIGRATE_TO", hide_env_values = true)]
    to: Option<StoreUrl>,
    /// Configuration file; without it reseal.toml in the working folder, if there is one
    #[arg(long, value_name = "FILE", env = "RESEAL_CONFIG")]
    config: Option<PathBuf>,
    /// Data folder; beats the configuration file's `store.data`
    #[arg(long, value_name = "DIR", env = "RESEAL_DATA")]
    data: Option<PathBuf>,
    /// Address of the store that is in use, as for other commands; beats `store.url`
    #[arg(long, value_name = "URL", value_parser = StoreUrlParser, env = "RESEAL_STORE_URL", hide_env_values = true)]
    store: Option<StoreUrl>,
    /// Records in one transaction
    #[arg(long, value_name = "N", default_value = "2000", value_parser = RangedU64ValueParser::<usize>::new().range(1..=20_000))]
    batch: usize,
    /// Most records a second, to spare a busy server; at the end, once writes are refused, there is no limit
    #[arg(long, value_name = "N", default_value = "0")]
    rate_limit: u64,
    /// Copy and follow until stopped, and leave the first store in use
    #[arg(long)]
    stay_live: bool,
    /// End the move: the first store takes writes again and goes on as before
    #[arg(long, conflicts_with_all = ["stay_live", "then"])]
    abort: bool,
    /// With [store.redis], and while no authority runs: write hot sessions back from Redis first; without --to that is
    /// all, and the store may be served without Redis
    #[arg(long, conflicts_with = "abort")]
    write_back: bool,
    /// A command for the shell, run when the second store is complete: to start the authorities on it
    #[arg(long, value_name = "COMMAND", conflicts_with = "stay_live")]
    then: Option<String>,
    /// Do not ask before writes are refused
    #[arg(long)]
    yes: bool,
    /// The report as JSON
    #[arg(long)]
    json: bool,
}

/// Records of each kind that are compared one by one.
const SAMPLE: usize = 2000;

pub(crate) async fn run(args: MigrateArgs) -> anyhow::Result<()> {
    let random = Random::new();
    let from = Place::source(&args)?;
    if args.abort {
        return abort(&from, &random, args.yes).await;
    }
    let Some(to) = &args.to else {
        if args.write_back {
            return give_redis_up(&from, &random).await;
        }
        return Err(misused("name the store that everything goes to: --to URL"));
    };
    let to = Place::target(&args, to)?;
    if from.is_same_as(&to) {
        return Err(misused("--from and --to name the same store"));
    }
    if !args.stay_live {
        let what = format!(
            "{from} will take no more writes when all is copied, until authorities run on {to}.",
            from = from.shown(),
            to = to.shown()
        );
        confirm(&what, args.yes)?;
    }
    let source = if args.ends_here() {
        from.open_whole_source(&random).await.with_context(|| from.shown())?
    } else {
        from.open_source(&random).await.with_context(|| from.shown())?
    };
    let target = to.open_target(&random).await.with_context(|| to.shown())?;
    let key = to.key_advice(&source, &from).await;
    if let Some(advice) = &key {
        note(format_args!("note: {advice}"));
    }
    let stop = stop_on_signal();
    let options = Options {
        batch: args.batch,
        rate: args.rate_limit,
        stay_live: args.stay_live,
        sample: SAMPLE,
        from: from.shown(),
        to: to.shown(),
        random: [u64::from_ne_bytes(random.bytes()), u64::from_ne_bytes(random.bytes())],
    };
    let mut display = Display::new(stop);
    let ended = Migration::run(source.end()?.as_ref(), target.end()?.as_ref(), options, &mut display).await;
    display.done();
    match ended {
        Ok(Ended::Following) => {
            note(format_args!(
                "{} is in use as before, and notes what changes. Run the same command again to go on, without \
                 --stay-live to end the move, or with --abort to give it up",
                from.shown()
            ));
            Ok(())
        }
        Ok(Ended::Complete(report)) => {
            // Closed before somebody serves it.
            source.close().await;
            target.close().await;
            tell(&report, (&from, &to), key.as_deref(), args.json)?;
            args.then.as_deref().map_or(Ok(()), run_then)
        }
        Err(TransferError::Stopped) => bail!(
            "stopped. {} goes on as before, and notes what changes: run the same command again to go on where this \
             was, or with --abort to give it up",
            from.shown()
        ),
        Err(error @ (TransferError::Store(_) | TransferError::Differs(_))) => Err(anyhow::Error::new(error)
            .context(
                "the move is not complete (the same command goes on where it was; --abort gives it up)",
            )),
        Err(error) => Err(error.into()),
    }
}

impl MigrateArgs {
    /// Whether the first store goes out of use by this run.
    pub(crate) const fn ends_here(&self) -> bool {
        !self.stay_live && !self.abort
    }
}

/// Afterwards the store holds everything by itself.
async fn give_redis_up(from: &Place, random: &Random) -> anyhow::Result<()> {
    from.open_whole_source(random).await.with_context(|| from.shown())?.close().await;
    note(format_args!(
        "{} needs no Redis any more: take [store.redis] out of the configuration of all authorities, then start them",
        from.shown()
    ));
    Ok(())
}

/// Everything that makes the move go away, except for what the target holds.
async fn abort(from: &Place, random: &Random, yes: bool) -> anyhow::Result<()> {
    let source = from.open_source(random).await.with_context(|| from.shown())?;
    let end = source.end()?;
    let Some(SourceMark { run, state, to, .. }) = end.source_mark().await? else {
        note(format_args!("{} is not being moved; nothing to do", from.shown()));
        return Ok(());
    };
    if state == SourceState::Moved {
        let what = format!(
            "{to} is complete and may have been in use: whatever happened there since is not in {from}. Sessions that \
             were renewed or ended there come back as they were, and {to} must not be served any more.",
            from = from.shown()
        );
        confirm(&what, yes)?;
    }
    end.put(Some(run), None).await?;
    note(format_args!(
        "{} is in use as before. What was copied to {to} is not served, and may be removed",
        from.shown()
    ));
    Ok(())
}

fn tell(report: &Report, (from, to): (&Place, &Place), key: Option<&str>, json: bool) -> anyhow::Result<()> {
    let (from, to) = (from.shown(), to.shown());
    let counts = &report.counts;
    let mut out = Out::new();
    if json {
        out.json(&json!({
            "from": from,
            "to": to,
            "users": counts.users,
            "clients": counts.clients,
            "keys": counts.keys,
            "sessions": counts.sessions,
            "timeline_lines": counts.timeline,
            "challenges": counts.challenges,
            "events": counts.events,
            "last_event": counts.last_event,
            "changes": report.taken,
            "compared": report.compared,
            "refused_writes_ms": u64::try_from(report.frozen.as_millis()).unwrap_or(u64::MAX),
            "done_before": report.done_before,
        }))?;
        return out.finish();
    }
    if report.done_before {
        out.line(format_args!("{to} was complete before"))?;
    } else {
        out.line(format_args!(
            "{to} is complete: {}, {}, {}, {}",
            words::count(counts.sessions, "session"),
            words::count(counts.users, "user"),
            words::count(counts.clients, "client"),
            words::count(counts.events, "event"),
        ))?;
        out.line(format_args!(
            "the counts agree, and so do {} that were compared one by one; until now writes were refused for {:.1} s",
            words::count(report.compared as u64, "record"),
            report.frozen.as_secs_f64()
        ))?;
    }
    out.line(format_args!("{from} takes no more writes: start the authorities on {to} now"))?;
    match key {
        Some(advice) => out.line(format_args!("before that, the master key: {advice}"))?,
        None => out.line("the master key there is the right one")?,
    }
    out.finish()
}

fn run_then(command: &str) -> anyhow::Result<()> {
    let status = std::process::Command::new("/bin/sh").arg("-c").arg(command).status();
    let status = status.context("the move is complete, but /bin/sh does not start")?;
    if !status.success() {
        bail!("the move is complete, but {command:?} failed: {status}");
    }
    Ok(())
}

/// Set by Ctrl-C or a request to end; the next one ends the process as ever, which does no harm either.
fn stop_on_signal() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if asked.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        }
    });
    stop
}

/// The source's end, with what only `--abort` asks for.
impl End {
    async fn source_mark(&self) -> Result<Option<SourceMark>, TransferError> {
        reseal_store::transfer::Source::mark(self.as_ref()).await
    }

    async fn put(&self, expected: Option<u64>, mark: Option<SourceMark>) -> Result<(), TransferError> {
        reseal_store::transfer::Source::put(self.as_ref(), expected, mark).await
    }
}
