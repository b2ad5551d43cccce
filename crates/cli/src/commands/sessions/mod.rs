//! `reseal sessions`.

mod end;
mod view;

use crate::exit::misused;
use crate::folder::{Folder, FolderArgs};
use crate::output::{Out, note};
use crate::words;
use anyhow::Context as _;
use clap::Subcommand;
use reseal_core::{ClientId, Session, SessionId, User, UserId};
use reseal_store::Store as _;
use std::collections::HashMap;
use view::View;

/// What to do with sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// List sessions
    List(ListArgs),
    /// Show a session with its timeline
    Show(ShowArgs),
    /// End sessions
    End(end::EndArgs),
}

pub(crate) async fn run(command: SessionsCommand) -> anyhow::Result<()> {
    match command {
        SessionsCommand::List(args) => list(args).await,
        SessionsCommand::Show(args) => show(args).await,
        SessionsCommand::End(args) => end::run(args).await,
    }
}

/// Lists sessions.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  reseal sessions list
  reseal sessions list --user ada --ended
  reseal sessions list --json | jq -r .client_id | sort | uniq -c")]
pub(crate) struct ListArgs {
    /// Only this user's: username or id
    #[arg(long)]
    user: Option<String>,
    /// Only those of this client
    #[arg(long)]
    client: Option<ClientId>,
    /// Also those that ended, with the reason; they are kept for `store.keep_ended`. Needs --user
    #[arg(long)]
    ended: bool,
    /// Most sessions shown; 0 is no limit. Without it 200, or with --json all
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    folder: FolderArgs,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Sessions read at once.
const PAGE: usize = 500;

async fn list(args: ListArgs) -> anyhow::Result<()> {
    if args.ended && args.user.is_none() {
        return Err(misused("--ended needs --user: ended sessions are found by their user"));
    }
    let folder = args.folder.open_read_only().await?;
    let user = match &args.user {
        Some(user) => Some(folder.user(user).await?),
        None => None,
    };
    let limit = match args.limit {
        Some(0) => usize::MAX,
        Some(limit) => limit,
        None if args.json => usize::MAX,
        None => 200,
    };
    let (mut names, mut rows, mut out) = (Names::default(), Vec::new(), Out::new());
    let (mut after, mut shown, mut more) = (None, 0, false);
    'pages: loop {
        let page = page(&folder, user.as_ref(), after).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for session in &page {
            let mut view = View::new(&folder, session, folder.now());
            let wanted = args.client.as_ref().is_none_or(|client| *client == session.client_id);
            if !wanted || (!args.ended && !view.is_live()) {
                continue;
            }
            if shown == limit {
                more = true;
                break 'pages;
            }
            shown += 1;
            view.username = names.of(&folder, session.user_id).await?;
            if args.json {
                view.json(&mut out, None)?;
            } else {
                rows.push(view.row());
            }
        }
    }
    if !args.json {
        out.table(&View::HEADER, &rows)?;
    }
    out.finish()?;
    if more {
        let shown = words::grouped(u64::try_from(shown).unwrap_or(u64::MAX));
        note(format_args!("only the first {shown} are shown; --limit 0 shows all"));
    }
    Ok(())
}

async fn page(
    folder: &Folder,
    user: Option<&User>,
    after: Option<SessionId>,
) -> anyhow::Result<Vec<Session>> {
    Ok(match user {
        Some(user) => folder.store.sessions_of_user(user.id, after, PAGE).await?,
        None => folder.store.open_sessions(after, PAGE).await?,
    })
}

/// Usernames that were looked up already.
#[derive(Default)]
struct Names(HashMap<UserId, Option<String>>);

impl Names {
    async fn of(&mut self, folder: &Folder, id: UserId) -> anyhow::Result<Option<String>> {
        if let Some(name) = self.0.get(&id) {
            return Ok(name.clone());
        }
        if self.0.len() >= 10_000 {
            self.0.clear();
        }
        let name = folder.store.user(id).await?.map(|user| user.username);
        self.0.insert(id, name.clone());
        Ok(name)
    }
}

/// Shows a session.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The session's id: `sid` in its tokens
    #[arg(allow_hyphen_values = true)]
    session: SessionId,
    #[command(flatten)]
    folder: FolderArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

async fn show(args: ShowArgs) -> anyhow::Result<()> {
    let folder = args.folder.open_read_only().await?;
    let found = folder.store.session(args.session).await?;
    let snapshot = found.with_context(|| {
        format!("there is no session {}; ended ones are kept for `store.keep_ended`", args.session)
    })?;
    let timeline = folder.store.timeline(args.session).await?;
    let mut view = View::new(&folder, &snapshot.session, folder.now());
    view.username = Some(snapshot.user.username.clone());
    if !args.json {
        return view.print(&timeline);
    }
    let mut out = Out::new();
    view.json(&mut out, Some(&timeline))?;
    out.finish()
}
