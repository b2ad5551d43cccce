//! `reseal users`.

mod add;
mod change;
mod import;
mod set;
mod view;

use crate::folder::FolderArgs;
use crate::output::{Out, note};
use crate::words;
use clap::Subcommand;
use reseal_store::Store as _;
use view::UserView;

/// What to do with users.
#[derive(Debug, Subcommand)]
pub(crate) enum UsersCommand {
    /// Add a user
    Add(add::AddArgs),
    /// List users
    List(ListArgs),
    /// Show a user
    Show(ShowArgs),
    /// Change a user's record
    Set(set::SetArgs),
    /// Set a user's password and end all sessions of the user
    SetPassword(change::SetPasswordArgs),
    /// Disable a user and end all sessions of the user
    Disable(change::OneUserArgs),
    /// Enable a disabled user
    Enable(change::OneUserArgs),
    /// Take away a user's second factor: phone number and recovery codes
    ResetFactors(change::OneUserArgs),
    /// Delete a user and end all sessions of the user
    Delete(change::DeleteArgs),
    // Its help is with its arguments: a comment here would hide the long one.
    Import(import::ImportArgs),
}

pub(crate) async fn run(command: UsersCommand) -> anyhow::Result<()> {
    match command {
        UsersCommand::Add(args) => add::run(args).await,
        UsersCommand::List(args) => list(args).await,
        UsersCommand::Show(args) => show(args).await,
        UsersCommand::Set(args) => set::run(args).await,
        UsersCommand::SetPassword(args) => change::set_password(args).await,
        UsersCommand::Disable(args) => change::disable(args, true).await,
        UsersCommand::Enable(args) => change::disable(args, false).await,
        UsersCommand::ResetFactors(args) => change::reset_factors(args).await,
        UsersCommand::Delete(args) => change::delete(args).await,
        UsersCommand::Import(args) => import::run(args).await,
    }
}

/// Lists users.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  reseal users list
  reseal users list --json | jq -r 'select(.disabled) | .username'")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// Most users shown; 0 is no limit. Without it 200, or with --json all
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let folder = args.folder.open_read_only().await?;
    let limit = match args.limit {
        Some(0) => usize::MAX,
        Some(limit) => limit,
        None if args.json => usize::MAX,
        None => 200,
    };
    let mut out = Out::new();
    let (mut after, mut shown) = (None, 0);
    let mut rows = Vec::new();
    let more = loop {
        let page = folder.store.users(after, 200).await?;
        let Some(last) = page.last() else { break false };
        after = Some(last.id);
        let mut page = page.into_iter();
        for user in page.by_ref().take(limit - shown) {
            shown += 1;
            if args.json {
                out.json(&UserView::new(&user))?;
            } else {
                rows.push(UserView::new(&user).row());
            }
        }
        if page.next().is_some() {
            break true;
        }
    };
    if !args.json {
        out.table(&UserView::HEADER, &rows)?;
    }
    out.finish()?;
    if more {
        let shown = words::grouped(u64::try_from(shown).unwrap_or(u64::MAX));
        note(format_args!("only the first {shown} are shown; --limit 0 shows all"));
    }
    Ok(())
}

/// Shows a user.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Username or id
    user: String,
    #[command(flatten)]
    folder: FolderArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

async fn show(args: ShowArgs) -> anyhow::Result<()> {
    let folder = args.folder.open_read_only().await?;
    let user = folder.user(&args.user).await?;
    UserView::new(&user).print(args.json)
}
