//! A client as this command shows it.

use crate::output::{Out, note, shown};
use crate::words;
use reseal_core::{Client, Timestamp};
use reseal_server::manage::clients::ClientSecret;
use serde::Serialize;

/// The client with the names that the HTTP API uses. Times are Unix seconds.
#[derive(Serialize)]
pub(super) struct ClientView<'a> {
    client_id: &'a str,
    /// Shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<&'a str>,
    name: &'a str,
    confidential: bool,
    policy: &'a str,
    audience: &'a [String],
    scope: String,
    claims: Vec<String>,
    origins: &'a [String],
    algorithm: &'a str,
    introspect: bool,
    disabled: bool,
    created_at: i64,
    updated_at: i64,
}

impl<'a> ClientView<'a> {
    /// The columns of a list.
    pub(super) const HEADER: [&'static str; 6] = ["client", "name", "kind", "policy", "scope", "state"];

    /// The view of a client, with its secret if it was just made.
    pub(super) fn new(client: &'a Client, secret: Option<&'a ClientSecret>) -> Self {
        Self {
            client_id: client.id.as_str(),
            client_secret: secret.map(ClientSecret::reveal),
            name: &client.name,
            confidential: client.is_confidential(),
            policy: client.policy.as_str(),
            audience: &client.audience,
            scope: client.scope.to_string(),
            claims: client.claims.names(),
            origins: &client.origins,
            algorithm: &client.algorithm,
            introspect: client.introspect,
            disabled: client.disabled,
            created_at: client.created_at.secs(),
            updated_at: client.updated_at.secs(),
        }
    }

    /// One row of a list.
    pub(super) fn row(&self) -> Vec<String> {
        vec![
            self.client_id.to_owned(),
            shown(self.name),
            self.kind().to_owned(),
            self.policy.to_owned(),
            dash(self.scope.clone()),
            self.state().to_owned(),
        ]
    }

    const fn kind(&self) -> &'static str {
        if self.confidential { "confidential" } else { "public" }
    }

    const fn state(&self) -> &'static str {
        if self.disabled { "disabled" } else { "enabled" }
    }

    /// Prints the whole client.
    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        let mut out = Out::new();
        if json {
            out.json(self)?;
            return out.finish();
        }
        let time = |secs| words::exact(Timestamp::from_secs(secs));
        let lines = [
            ("client", self.client_id.to_owned()),
            ("name", shown(self.name)),
            ("kind", self.kind().to_owned()),
            ("policy", self.policy.to_owned()),
            ("audience", dash(self.audience.join(", "))),
            ("scope", dash(self.scope.clone())),
            ("claims", dash(self.claims.join(", "))),
            ("origins", dash(self.origins.join(", "))),
            ("algorithm", self.algorithm.to_owned()),
            ("introspect", if self.introspect { "yes" } else { "no" }.to_owned()),
            ("state", self.state().to_owned()),
            ("created", time(self.created_at)),
            ("changed", time(self.updated_at)),
        ];
        for (name, value) in lines {
            out.line(format_args!("{name:12}{value}"))?;
        }
        if let Some(secret) = self.client_secret {
            out.line(format_args!("{:12}{secret}", "secret"))?;
            note("the secret is shown this once; only its hash is kept");
        }
        out.finish()
    }
}

fn dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}
