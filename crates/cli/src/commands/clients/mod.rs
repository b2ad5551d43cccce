//! `reseal clients`.

mod args;
mod view;

use crate::exit::misused;
use crate::folder::{Folder, FolderArgs};
use crate::input::confirm;
use crate::output::{Out, Progress, note};
use anyhow::Context as _;
use args::{AddArgs, SetArgs};
use clap::Subcommand;
use reseal_core::{Client, ClientId};
use reseal_server::manage::ManageError;
use reseal_server::manage::clients::{ClientDeletion, ClientPatch};
use reseal_store::Store as _;
use view::ClientView;

/// What to do with clients.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientsCommand {
    /// Register a client
    Add(AddArgs),
    /// List clients
    List(ListArgs),
    /// Show a client
    Show(OneClientArgs),
    /// Change a client
    Set(SetArgs),
    /// Give a confidential client a new secret; the old one is void at once
    RotateSecret(OneClientArgs),
    /// Delete a client and end its sessions
    Delete(DeleteArgs),
}

/// Which client.
#[derive(Debug, clap::Args)]
pub(crate) struct OneClientArgs {
    /// The client's id
    client: ClientId,
    #[command(flatten)]
    folder: FolderArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Lists clients.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Deletes a client.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
To keep it, use `reseal clients set CLIENT --disable`.

Example:
  reseal clients delete old-app --yes")]
pub(crate) struct DeleteArgs {
    /// The client's id
    client: ClientId,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

pub(crate) async fn run(command: ClientsCommand) -> anyhow::Result<()> {
    match command {
        ClientsCommand::Add(args) => add(args).await,
        ClientsCommand::List(args) => list(args).await,
        ClientsCommand::Show(args) => {
            let folder = args.folder.open_read_only().await?;
            ClientView::new(&find(&folder, &args.client).await?, None).print(args.json)
        }
        ClientsCommand::Set(args) => set(args).await,
        ClientsCommand::RotateSecret(args) => {
            let folder = args.folder.open_existing().await?;
            find(&folder, &args.client).await?;
            let (client, secret) = folder.manage().rotate_client_secret(&args.client).await?;
            ClientView::new(&client, Some(&secret)).print(args.json)
        }
        ClientsCommand::Delete(args) => delete(args).await,
    }
}

async fn add(args: AddArgs) -> anyhow::Result<()> {
    let (folder, json, new) = args.into_parts()?;
    let folder = folder.open_or_create().await?;
    let (client, secret) = folder.manage().create_client(new).await?;
    ClientView::new(&client, secret.as_ref()).print(json)
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let folder = args.folder.open_read_only().await?;
    let mut out = Out::new();
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = folder.store.clients(after.as_ref(), 200).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        for client in &page {
            let view = ClientView::new(client, None);
            if args.json {
                out.json(&view)?;
            } else {
                rows.push(view.row());
            }
        }
    }
    if !args.json {
        out.table(&ClientView::HEADER, &rows)?;
    }
    out.finish()
}

async fn set(args: SetArgs) -> anyhow::Result<()> {
    let patch = args.patch()?;
    if patch == ClientPatch::default() {
        return Err(misused("nothing to set: name what to change, for example --policy; see --help"));
    }
    let folder = args.folder.open_existing().await?;
    find(&folder, &args.client).await?;
    let client = folder.manage().patch_client(&args.client, &patch).await?;
    ClientView::new(&client, None).print(args.json)
}

async fn delete(args: DeleteArgs) -> anyhow::Result<()> {
    let folder = args.folder.open_existing().await?;
    find(&folder, &args.client).await?;
    confirm(&format!("This deletes the client {} and ends all its sessions.", args.client), args.yes)?;
    let progress = Progress::new();
    loop {
        progress.show(format_args!("ending the sessions of {}", args.client));
        // A few batches at a time, each with the time of its own.
        match folder.manage().delete_client(&args.client, 4).await {
            Ok(ClientDeletion::Done) | Err(ManageError::NotFound(_)) => break,
            Ok(ClientDeletion::MoreSessions) => {}
            Err(error) => return Err(error.into()),
        }
    }
    drop(progress);
    note(format_args!("deleted {}", args.client));
    Ok(())
}

async fn find(folder: &Folder, id: &ClientId) -> anyhow::Result<Client> {
    let client = folder.store.client(id).await?;
    client.with_context(|| format!("there is no client {id}; `reseal clients list` shows all"))
}
