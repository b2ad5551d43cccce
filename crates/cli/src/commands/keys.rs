//! `reseal keys`.

use crate::exit::misused;
use crate::folder::{Folder, FolderArgs};
use crate::input::confirm;
use crate::output::{Out, Progress, note};
use crate::words;
use anyhow::bail;
use clap::Subcommand;
use reseal_core::Timestamp;
use reseal_core::keys::{KeyRecord, KeyState, KeyUse};
use reseal_server::admin::keys::KeyView;
use reseal_server::jobs;
use reseal_server::manage::sessions::end_all_sessions;
use reseal_store::Store as _;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// List keys and what becomes of them
    List(ListArgs),
    /// Rotate all keys out of schedule
    Rotate(ListArgs),
    /// Withdraw a signing key that may have leaked
    Withdraw(WithdrawArgs),
    /// Make all keys anew because the master key is lost; signs everybody out
    Reset(ResetArgs),
}

/// Which data folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A new key is published before it signs, for as long as verifiers may cache the key set
(`keys.publish_before`); the old one verifies until the last token it signed is dead. The authority
rotates by itself (`keys.rotate_every`).

Examples:
  reseal keys list
  reseal keys rotate")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Withdraws a key.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
No token signed with it is accepted here any more, and it leaves the published key set at once: services
that verify by themselves refuse its tokens when they fetch the set again. Another key signs from now
on. Sessions stay: clients renew and get tokens of the new key.

Example:
  reseal keys withdraw $(reseal keys list --json | jq -r 'select(.algorithm == \"ES256\" and .state == \"active\").kid')")]
pub(crate) struct WithdrawArgs {
    /// The key's `kid`
    #[arg(allow_hyphen_values = true)]
    kid: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    folder: FolderArgs,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Makes all keys anew.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
For a master key that is lost. The authority must be stopped. All sessions end, all keys are thrown
away, and new ones are made under the master key that RESEAL_MASTER_KEY or the master key file
holds; without either, a new file is made. Users, clients and passwords stay.

Example:
  reseal keys reset --end-all-sessions")]
pub(crate) struct ResetArgs {
    /// Say that everybody is to be signed out
    #[arg(long)]
    end_all_sessions: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

pub(crate) async fn run(command: KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::List(args) => {
            let folder = args.folder.open_read_only().await?;
            list(&folder, args.json).await
        }
        KeysCommand::Rotate(args) => rotate(args).await,
        KeysCommand::Withdraw(args) => withdraw(args).await,
        KeysCommand::Reset(args) => reset(args).await,
    }
}

async fn rotate(args: ListArgs) -> anyhow::Result<()> {
    let folder = args.folder.open_existing().await?;
    let now = folder.now();
    let keys = folder.keys(now).await?;
    let algorithms = jobs::algorithms(&folder.store).await?;
    keys.rotate(&folder.store, &folder.random, &algorithms, (now, true)).await?;
    list(&folder, args.json).await
}

async fn withdraw(args: WithdrawArgs) -> anyhow::Result<()> {
    let folder = args.folder.open_existing().await?;
    let now = folder.now();
    let records = folder.store.keys().await?;
    let named = |k: &KeyRecord| matches!(&k.key_use, KeyUse::Signing { kid, .. } if *kid == args.kid);
    if !records.iter().any(named) {
        bail!("there is no signing key {:?}; `reseal keys list` shows all", args.kid);
    }
    confirm("Every token signed with this key becomes void.", args.yes)?;
    let keys = folder.keys(now).await?;
    let until = folder.manage().event_until;
    if !keys.withdraw(&folder.store, &folder.random, &args.kid, (now, until)).await? {
        bail!("the key {:?} is gone meanwhile", args.kid);
    }
    list(&folder, args.json).await
}

async fn reset(args: ResetArgs) -> anyhow::Result<()> {
    if !args.end_all_sessions {
        return Err(misused(
            "new keys sign everybody out; add --end-all-sessions if that is what you want. To rotate keys \
             without signing anybody out, use `reseal keys rotate`",
        ));
    }
    // Alone on the folder: a server that runs has the old keys in its memory.
    let folder = args.folder.open_alone().await?;
    let now = folder.now();
    let what = if folder.key_set(now).await.is_ok() {
        "The master key is not lost: it opens all keys. This throws them away all the same, and signs everybody out."
    } else {
        "This throws away all keys and signs everybody out."
    };
    confirm(what, args.yes)?;
    let ended = {
        let progress = Progress::new();
        end_all_sessions(|| folder.manage(), |n| progress.show(format_args!("{n} sessions ended"))).await?
    };
    folder.reset_keys().await?;
    let ended = words::count(u64::try_from(ended).unwrap_or(u64::MAX), "session");
    note(format_args!("{ended} ended; all keys are new. Start `reseal serve`"));
    list(&folder, false).await
}

async fn list(folder: &Folder, json: bool) -> anyhow::Result<()> {
    let now = folder.now();
    let mut keys = folder.store.keys().await?;
    keys.sort_by_key(|k| std::cmp::Reverse((k.active_from, k.created_at)));
    let mut out = Out::new();
    let mut rows = Vec::new();
    for key in &keys {
        let view = KeyView::new(key, now);
        if json {
            out.json(&view)?;
        } else {
            let use_ = view.algorithm.as_ref().map_or("ring".to_owned(), |a| format!("signing {a}"));
            rows.push(vec![view.kid, use_, view.state.to_owned(), fate(key, now)]);
        }
    }
    if !json {
        out.table(&["key", "use", "state", "what comes next"], &rows)?;
    }
    out.finish()
}

/// What becomes of a key, in words.
fn fate(key: &KeyRecord, now: Timestamp) -> String {
    let both = |at| words::both(at, now);
    match (key.state(now), key.retired_at, key.unpublished_at) {
        (KeyState::Next, ..) => format!("signs {}", both(key.active_from)),
        (KeyState::Active, Some(at), _) => format!("hands over {}", both(at)),
        (KeyState::Active, None, _) => format!("active since {}", both(key.active_from)),
        (KeyState::Retired, _, Some(at)) => format!("verifies what it signed; unpublished {}", both(at)),
        (KeyState::Withdrawn, ..) => format!("withdrawn {}", both(key.withdrawn_at.unwrap_or(now))),
        _ => "kept for the authority's own old tokens".to_owned(),
    }
}
