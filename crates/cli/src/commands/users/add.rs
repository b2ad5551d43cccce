//! `reseal users add`.

use super::set::{Attribute, parse_attribute, parse_phone};
use super::view::UserView;
use crate::folder::FolderArgs;
use crate::input::PasswordArgs;
use crate::output::{Out, note};
use reseal_core::user::is_username;
use reseal_server::manage::users::NewUser;
use serde_json::json;

/// Adds a user.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  reseal users add ada --name 'Ada Lovelace' --role admin --role staff
  reseal users add ada --generate-password --json
  pass show ada | reseal users add ada --password-stdin
  reseal users add robot --no-password")]
pub(crate) struct AddArgs {
    /// The name to log in with
    username: String,
    /// Full name
    #[arg(long)]
    name: Option<String>,
    /// E-mail address
    #[arg(long)]
    email: Option<String>,
    /// Phone number with country code, for example +4915112345678
    #[arg(long, value_name = "NUMBER", value_parser = parse_phone)]
    phone: Option<String>,
    /// The number was proved to be the user's: make it the second factor
    #[arg(long, requires = "phone")]
    phone_verified: bool,
    /// A role; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// An attribute; the value is JSON, or else a text; may be repeated
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = parse_attribute)]
    attributes: Vec<Attribute>,
    /// Make the user disabled
    #[arg(long)]
    disabled: bool,
    #[command(flatten)]
    password: PasswordArgs,
    /// Make a user who cannot log in with a password
    #[arg(long, conflicts_with_all = ["password_stdin", "generate_password"])]
    no_password: bool,
    #[command(flatten)]
    folder: FolderArgs,
    /// As JSON; a generated password is the member `password`
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: AddArgs) -> anyhow::Result<()> {
    anyhow::ensure!(
        is_username(&args.username),
        "a username has 1 to 128 characters, no spaces around it and no control characters"
    );
    let folder = args.folder.open_or_create().await?;
    let password =
        if args.no_password { None } else { Some(args.password.read(&args.username, &folder.random)?) };
    let password_hash = match &password {
        Some(password) => Some(folder.hash_password(&password.text, &args.username).await?),
        None => None,
    };
    let new = NewUser {
        username: args.username,
        name: args.name,
        email: args.email,
        phone_number: args.phone,
        phone_number_verified: args.phone_verified,
        roles: args.roles,
        attributes: args.attributes.into_iter().map(|a| (a.name, a.value)).collect(),
        disabled: args.disabled,
        password_hash,
    };
    let user = folder.manage().create_user(new).await?;
    let generated = password.filter(|p| p.generated);
    if !args.json {
        UserView::new(&user).print(false)?;
        return show_generated(generated);
    }
    let mut view = serde_json::to_value(UserView::new(&user))?;
    if let Some(password) = generated {
        view["password"] = json!(*password.text);
    }
    let mut out = Out::new();
    out.json(&view)?;
    out.finish()
}

/// Prints a password that was made up. The word goes to standard error, so that the password can be
/// piped on alone.
pub(super) fn show_generated(password: Option<crate::input::NewPassword>) -> anyhow::Result<()> {
    let Some(password) = password else { return Ok(()) };
    note("the password, shown this once:");
    let mut out = Out::new();
    out.line(&*password.text)?;
    out.finish()
}
