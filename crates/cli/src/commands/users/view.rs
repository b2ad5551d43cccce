//! A user as this command shows it.

use crate::output::{Out, shown};
use crate::words;
use reseal_core::{Timestamp, User};
use reseal_server::me;
use serde::Serialize;

/// The record with the names that the HTTP API uses. Times are Unix seconds.
#[derive(Serialize)]
pub(super) struct UserView {
    #[serde(flatten)]
    record: me::UserView,
    disabled: bool,
}

impl UserView {
    /// The columns of a list.
    pub(super) const HEADER: [&'static str; 6] =
        ["username", "sub", "name", "roles", "second factor", "state"];

    /// The view of a record.
    pub(super) fn new(user: &User) -> Self {
        Self { record: me::UserView::new(user), disabled: user.disabled }
    }

    /// One row of a list.
    pub(super) fn row(&self) -> Vec<String> {
        vec![
            shown(&self.record.username),
            self.record.sub.clone(),
            shown(self.record.name.as_deref().unwrap_or("-")),
            self.roles(),
            if self.record.phone_number_verified { "phone" } else { "-" }.to_owned(),
            self.state().to_owned(),
        ]
    }

    fn roles(&self) -> String {
        if self.record.roles.is_empty() { "-".to_owned() } else { shown(&self.record.roles.join(", ")) }
    }

    const fn state(&self) -> &'static str {
        if self.disabled { "disabled" } else { "enabled" }
    }

    /// Prints the whole record.
    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        let mut out = Out::new();
        if json {
            out.json(self)?;
            return out.finish();
        }
        let record = &self.record;
        let text = |text: &Option<String>| shown(text.as_deref().unwrap_or("-"));
        let time = |secs| words::exact(Timestamp::from_secs(secs));
        let phone = match &record.phone_number {
            Some(number) if record.phone_number_verified => format!("{number} (verified: the second factor)"),
            Some(number) => format!("{number} (not verified)"),
            None => "-".to_owned(),
        };
        let lines = [
            ("username", shown(&record.username)),
            ("sub", record.sub.clone()),
            ("name", text(&record.name)),
            ("email", text(&record.email)),
            ("phone", phone),
            ("roles", self.roles()),
            ("state", self.state().to_owned()),
            ("revision", record.revision.to_string()),
            ("created", time(record.created_at)),
            ("changed", time(record.updated_at)),
        ];
        for (name, value) in lines {
            out.line(format_args!("{name:10}{value}"))?;
        }
        for (name, value) in &record.attributes {
            out.line(format_args!("{:10}{name} = {}", "attribute", shown(&value.to_string())))?;
        }
        out.finish()
    }
}
