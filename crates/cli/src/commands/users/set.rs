//! `reseal users set`.

use super::view::UserView;
use crate::exit::misused;
use crate::folder::FolderArgs;
use reseal_core::User;
use reseal_core::user::UserPatch;
use reseal_server::sms::phone::{self, E164};
use serde_json::Value;

/// Changes members of a record; those that are not named stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every other device of the user gets the new claims at its next renewal.

Examples:
  reseal users set ada --name 'Ada King' --email ada@example.com
  reseal users set ada --add-role auditor --remove-role admin
  reseal users set ada --attribute plan=gold --attribute seats=5
  reseal users set ada --remove-attribute plan --no-email")]
pub(crate) struct SetArgs {
    /// Username or id
    user: String,
    /// Full name
    #[arg(long)]
    name: Option<String>,
    /// Remove the name
    #[arg(long, conflicts_with = "name")]
    no_name: bool,
    /// E-mail address
    #[arg(long)]
    email: Option<String>,
    /// Remove the e-mail address
    #[arg(long, conflicts_with = "email")]
    no_email: bool,
    /// Phone number with country code; another number than before is not verified
    #[arg(long, value_name = "NUMBER", value_parser = parse_phone)]
    phone: Option<String>,
    /// Remove the phone number, and with it the second factor
    #[arg(long, conflicts_with = "phone")]
    no_phone: bool,
    /// Whether the number was proved to be the user's; then it is the second factor
    #[arg(long, value_name = "BOOL")]
    phone_verified: Option<bool>,
    /// A role, in place of all that there were; may be repeated
    #[arg(long = "role", value_name = "ROLE", conflicts_with_all = ["add_roles", "remove_roles"])]
    roles: Vec<String>,
    /// Give a role; may be repeated
    #[arg(long = "add-role", value_name = "ROLE")]
    add_roles: Vec<String>,
    /// Take a role away; may be repeated
    #[arg(long = "remove-role", value_name = "ROLE")]
    remove_roles: Vec<String>,
    /// Set an attribute; the value is JSON, or else a text; may be repeated
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = parse_attribute)]
    attributes: Vec<Attribute>,
    /// Remove an attribute; may be repeated
    #[arg(long = "remove-attribute", value_name = "NAME")]
    remove_attributes: Vec<String>,
    #[command(flatten)]
    folder: FolderArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// `NAME=VALUE`.
#[derive(Clone, Debug)]
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) value: Value,
}

/// Reads a phone number as people write it, checked against the numbering plans, into E.164.
pub(super) fn parse_phone(text: &str) -> Result<String, String> {
    phone::parse(text).map(E164::into_string).map_err(|e| e.to_string())
}

/// Reads `plan=gold`, `seats=5` or `tags=["a"]`.
pub(super) fn parse_attribute(text: &str) -> Result<Attribute, String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    if value.is_null() {
        return Err("null is no value; use --remove-attribute".to_owned());
    }
    Ok(Attribute { name: name.to_owned(), value })
}

pub(super) async fn run(args: SetArgs) -> anyhow::Result<()> {
    let folder = args.folder.open_existing().await?;
    let user = folder.user(&args.user).await?;
    let patch = args.patch(&user);
    if patch == UserPatch::default() {
        return Err(misused("nothing to set: name what to change, for example --name; see --help"));
    }
    // The roles are worked out from what was read, so they may only go over exactly that.
    let revision = patch.roles.is_some().then_some(user.revision);
    let user = folder.manage().patch_user(user.id, &patch, revision).await?;
    UserView::new(&user).print(args.json)
}

impl SetArgs {
    fn patch(&self, user: &User) -> UserPatch {
        let member = |value: &Option<String>, clear: bool| match value {
            Some(value) => Some(Some(value.clone())),
            None => clear.then_some(None),
        };
        let edited = !self.add_roles.is_empty() || !self.remove_roles.is_empty();
        let roles = if edited {
            let kept = user.roles.iter().chain(&self.add_roles);
            Some(kept.filter(|r| !self.remove_roles.contains(r)).cloned().collect())
        } else {
            (!self.roles.is_empty()).then(|| self.roles.clone())
        };
        let set = self.attributes.iter().map(|a| (a.name.clone(), a.value.clone()));
        let removed = self.remove_attributes.iter().map(|name| (name.clone(), Value::Null));
        UserPatch {
            name: member(&self.name, self.no_name),
            email: member(&self.email, self.no_email),
            phone_number: member(&self.phone, self.no_phone),
            phone_number_verified: self.phone_verified,
            roles,
            attributes: set.chain(removed).collect(),
            disabled: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_values_are_json_or_else_text() {
        let value = |text: &str| parse_attribute(text).unwrap().value;
        assert_eq!(value("seats=5"), serde_json::json!(5));
        assert_eq!(value("plan=gold"), serde_json::json!("gold"));
        assert_eq!(value("url=a=b"), serde_json::json!("a=b"));
        assert_eq!(value("empty="), serde_json::json!(""));
        assert!(parse_attribute("plan").is_err());
        assert!(parse_attribute("plan=null").is_err());
    }
}
