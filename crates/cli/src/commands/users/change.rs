//! Changes that concern how, and whether, a user logs in.

use super::view::UserView;
use crate::folder::FolderArgs;
use crate::input::{PasswordArgs, confirm};
use crate::output::{Out, note, shown};
use reseal_core::user::UserPatch;
use serde_json::json;

/// Which user.
#[derive(Debug, clap::Args)]
pub(crate) struct OneUserArgs {
    /// Username or id
    user: String,
    #[command(flatten)]
    folder: FolderArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Disables or enables the user.
pub(super) async fn disable(args: OneUserArgs, disabled: bool) -> anyhow::Result<()> {
    let folder = args.folder.open_existing().await?;
    let user = folder.user(&args.user).await?;
    let patch = UserPatch { disabled: Some(disabled), ..UserPatch::default() };
    let user = folder.manage().patch_user(user.id, &patch, None).await?;
    UserView::new(&user).print(args.json)
}

/// Takes the second factor away.
pub(super) async fn reset_factors(args: OneUserArgs) -> anyhow::Result<()> {
    let folder = args.folder.open_existing().await?;
    let user = folder.user(&args.user).await?;
    let user = folder.manage().reset_factors(user.id).await?;
    UserView::new(&user).print(args.json)?;
    note("sessions of the user stay; `reseal sessions end --user` ends them");
    Ok(())
}

/// Sets a password.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  reseal users set-password ada                       asks on the terminal
  reseal users set-password ada --generate-password   makes one and prints it
  pass show ada | reseal users set-password ada --password-stdin")]
pub(crate) struct SetPasswordArgs {
    /// Username or id
    user: String,
    #[command(flatten)]
    password: PasswordArgs,
    #[command(flatten)]
    folder: FolderArgs,
    /// As JSON; a generated password is the member `password`
    #[arg(long)]
    json: bool,
}

pub(super) async fn set_password(args: SetPasswordArgs) -> anyhow::Result<()> {
    let folder = args.folder.open_existing().await?;
    let user = folder.user(&args.user).await?;
    let password = args.password.read(&user.username, &folder.random)?;
    let hash = folder.hash_password(&password.text, &user.username).await?;
    folder.manage().set_password(user.id, &hash).await?;
    let mut out = Out::new();
    if args.json {
        let mut answer = json!({ "id": user.id, "username": user.username });
        if password.generated {
            answer["password"] = json!(*password.text);
        }
        out.json(&answer)?;
        return out.finish();
    }
    note(format_args!("the password of {} is set; all sessions of the user ended", shown(&user.username)));
    super::add::show_generated(password.generated.then_some(password))
}

/// Deletes a user.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The id is never used again. To keep the record, use `reseal users disable`.

Example:
  reseal users delete ada --yes")]
pub(crate) struct DeleteArgs {
    /// Username or id
    user: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

pub(super) async fn delete(args: DeleteArgs) -> anyhow::Result<()> {
    let folder = args.folder.open_existing().await?;
    let user = folder.user(&args.user).await?;
    let name = shown(&user.username);
    confirm(&format!("This deletes the user {name} and ends all sessions of the user."), args.yes)?;
    folder.manage().delete_user(user.id).await?;
    note(format_args!("deleted {name} ({})", user.id));
    Ok(())
}
