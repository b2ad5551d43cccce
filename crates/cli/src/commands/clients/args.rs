//! What `reseal clients add` and `set` take.

use crate::folder::FolderArgs;
use clap::ArgAction;
use reseal_core::claims::Projection;
use reseal_core::{ClientId, PolicyName, Scope};
use reseal_jose::Algorithm;
use reseal_server::manage::clients::{ClientPatch, NewClient};

/// Registers a client.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  reseal clients add shop --policy browser --origin https://shop.example --claims name,roles
  reseal clients add phone-app --policy app --audience https://api.example --scope 'orders profile'
  reseal clients add backend --confidential --scope reseal:admin --json | jq -r .client_secret")]
pub(crate) struct AddArgs {
    /// The client's id; without it a random one
    client: Option<ClientId>,
    /// A name for people; without it the id
    #[arg(long)]
    name: Option<String>,
    /// The policy of its sessions; `reseal policies check` lists them
    #[arg(long, default_value = "app")]
    policy: PolicyName,
    /// Give it a secret, which is printed once
    #[arg(long)]
    confidential: bool,
    /// A resource server its tokens are for, besides the authority; may be repeated
    #[arg(long = "audience", value_name = "AUDIENCE")]
    audiences: Vec<String>,
    /// What its sessions and its own tokens may be granted: words with spaces between
    #[arg(long, default_value = "", hide_default_value = true)]
    scope: Scope,
    /// What its tokens show of the user: preferred_username, name, email, phone_number,
    /// phone_number_verified, roles or attributes.NAME, with commas between
    #[arg(long, value_name = "CLAIM,...", value_delimiter = ',')]
    claims: Vec<String>,
    /// An origin from which browsers may call for it, for example `https://shop.example`; may be repeated
    #[arg(long = "origin", value_name = "ORIGIN")]
    origins: Vec<String>,
    /// Signing algorithm of its tokens: ES256, EdDSA or RS256
    #[arg(long, default_value = "ES256")]
    algorithm: Algorithm,
    /// Let it ask about tokens (RFC 7662)
    #[arg(long)]
    introspect: bool,
    #[command(flatten)]
    folder: FolderArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl AddArgs {
    pub(super) fn into_parts(self) -> anyhow::Result<(FolderArgs, bool, NewClient)> {
        let name = self.name.or_else(|| self.client.as_ref().map(ToString::to_string));
        let new = NewClient {
            id: self.client,
            name: name.unwrap_or_else(|| "unnamed".to_owned()),
            confidential: self.confidential,
            policy: self.policy,
            audience: self.audiences,
            scope: self.scope,
            claims: projection(&self.claims)?,
            origins: self.origins,
            algorithm: self.algorithm,
            introspect: self.introspect,
        };
        Ok((self.folder, self.json, new))
    }
}

/// Changes a client; what is not named stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Lists are replaced whole. What is taken away is granted no more, from the next use of each session on;
access tokens that are out keep it until they expire.

Examples:
  reseal clients set shop --policy nist-aal2
  reseal clients set shop --claims name,roles,attributes.plan
  reseal clients set shop --no-origins
  reseal clients set old-app --disable")]
pub(crate) struct SetArgs {
    /// The client's id
    pub(super) client: ClientId,
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// The policy of the sessions that start from now on
    #[arg(long)]
    policy: Option<PolicyName>,
    /// A resource server its tokens are for, in place of all that there were; may be repeated
    #[arg(long = "audience", value_name = "AUDIENCE")]
    audiences: Vec<String>,
    /// No resource servers but the authority
    #[arg(long, conflicts_with = "audiences")]
    no_audiences: bool,
    /// What its sessions and its own tokens may be granted: words with spaces between; '' for nothing
    #[arg(long)]
    scope: Option<Scope>,
    /// What its tokens show of the user, in place of all that it was, with commas between
    #[arg(long, value_name = "CLAIM,...", value_delimiter = ',')]
    claims: Vec<String>,
    /// No claims
    #[arg(long, conflicts_with = "claims")]
    no_claims: bool,
    /// An origin from which browsers may call for it, in place of all that there were; may be repeated
    #[arg(long = "origin", value_name = "ORIGIN")]
    origins: Vec<String>,
    /// No origins
    #[arg(long, conflicts_with = "origins")]
    no_origins: bool,
    /// Signing algorithm of its tokens: ES256, EdDSA or RS256
    #[arg(long)]
    algorithm: Option<Algorithm>,
    /// Whether it may ask about tokens (RFC 7662)
    #[arg(long, value_name = "BOOL")]
    introspect: Option<bool>,
    /// Disable it: it gets nothing any more
    #[arg(long, action = ArgAction::SetTrue, conflicts_with = "enable")]
    disable: bool,
    /// Enable it again
    #[arg(long, action = ArgAction::SetTrue)]
    enable: bool,
    #[command(flatten)]
    pub(super) folder: FolderArgs,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl SetArgs {
    pub(super) fn patch(&self) -> anyhow::Result<ClientPatch> {
        let list = |items: &[String], none: bool| (none || !items.is_empty()).then(|| items.to_vec());
        let claims = list(&self.claims, self.no_claims).map(|c| projection(&c)).transpose()?;
        Ok(ClientPatch {
            name: self.name.clone(),
            policy: self.policy.clone(),
            audience: list(&self.audiences, self.no_audiences),
            scope: self.scope.clone(),
            claims,
            origins: list(&self.origins, self.no_origins),
            algorithm: self.algorithm,
            introspect: self.introspect,
            disabled: (self.disable || self.enable).then_some(self.disable),
        })
    }
}

fn projection(names: &[String]) -> anyhow::Result<Projection> {
    Projection::parse(names).map_err(|e| crate::exit::misused(format!("--claims: {e}")))
}
