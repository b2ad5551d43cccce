//! `reseal sessions end`.

use crate::folder::{Folder, FolderArgs};
use crate::input::confirm;
use crate::output::{Out, Progress};
use crate::words;
use anyhow::Context as _;
use reseal_core::{ClientId, EndReason, Session, SessionId};
use reseal_server::manage::sessions::end_all_sessions;
use reseal_store::{EndFilter, Store as _};
use serde_json::json;

/// Ends sessions with the reason `revoked`.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("which").required(true).multiple(false),
    after_help = "\
Their tokens are void at the authority at once. A service that verifies access tokens by itself takes
them until they expire, unless it follows the feed or asks the authority.

Examples:
  reseal sessions end SESSION
  reseal sessions end --user ada
  reseal sessions end --client old-app
  reseal sessions end --all --yes"
)]
pub(crate) struct EndArgs {
    /// That session: `sid` in its tokens
    #[arg(group = "which", allow_hyphen_values = true)]
    session: Option<SessionId>,
    /// All of this user: username or id
    #[arg(long, group = "which")]
    user: Option<String>,
    /// All of this client
    #[arg(long, group = "which")]
    client: Option<ClientId>,
    /// All of everybody
    #[arg(long, group = "which")]
    all: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    folder: FolderArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Sessions ended in one transaction.
const BATCH: usize = 500;

pub(super) async fn run(args: EndArgs) -> anyhow::Result<()> {
    let folder = args.folder.open_existing().await?;
    let ended = if let Some(id) = args.session {
        end_one(&folder, id).await?
    } else if let Some(user) = &args.user {
        end_user(&folder, user).await?
    } else if let Some(client) = &args.client {
        confirm(&format!("This signs everybody out of {client}."), args.yes)?;
        end_client(&folder, client).await?
    } else {
        confirm("This signs everybody out of everything.", args.yes)?;
        let progress = Progress::new();
        end_all_sessions(|| folder.manage(), |n| progress.show(format_args!("{n} sessions ended"))).await?
    };
    let ended = u64::try_from(ended).unwrap_or(u64::MAX);
    let mut out = Out::new();
    if args.json {
        out.json(&json!({ "ended": ended }))?;
    } else {
        out.line(format_args!("{} ended", words::count(ended, "session")))?;
    }
    out.finish()
}

async fn end_one(folder: &Folder, id: SessionId) -> anyhow::Result<usize> {
    let found = folder.store.session(id).await?.with_context(|| format!("there is no session {id}"))?;
    if found.session.ended.is_some() {
        return Ok(0);
    }
    folder.manage().end_sessions(EndFilter::One(id), EndReason::Revoked, None).await?;
    Ok(1)
}

async fn end_user(folder: &Folder, user: &str) -> anyhow::Result<usize> {
    let user = folder.user(user).await?.id;
    let (mut open, mut after) = (0, None);
    loop {
        let page = folder.store.sessions_of_user(user, after, BATCH).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        open += page.iter().filter(|s| s.ended.is_none()).count();
    }
    folder.manage().end_sessions(EndFilter::User { user, except: None }, EndReason::Revoked, None).await?;
    Ok(open)
}

async fn end_client(folder: &Folder, client: &ClientId) -> anyhow::Result<usize> {
    let of_client = |s: &&Session| s.client_id == *client;
    let (mut open, mut after) = (0, None);
    loop {
        let page = folder.store.open_sessions(after, BATCH).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        open += page.iter().filter(of_client).count();
    }
    // As many batches as those need, and no more: sessions that start meanwhile are not chased for ever.
    let progress = Progress::new();
    for batch in 0..open.div_ceil(BATCH) {
        progress.show(format_args!("{} of {open} sessions ended", batch * BATCH));
        let filter = EndFilter::Client { client: client.clone(), limit: BATCH };
        folder.manage().end_sessions(filter, EndReason::Revoked, None).await?;
    }
    Ok(open)
}
