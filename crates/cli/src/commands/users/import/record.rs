//! One user as a line of NDJSON or CSV.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// A user to import.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Record {
    /// The user's id to keep (a UUID); made anew without it.
    pub(super) sub: Option<String>,
    /// The name to log in with; required.
    pub(super) username: String,
    /// Full name.
    pub(super) name: Option<String>,
    /// E-mail address.
    pub(super) email: Option<String>,
    /// Phone number in E.164.
    pub(super) phone_number: Option<String>,
    /// Whether the number was proved; then it is the user's second factor.
    pub(super) phone_number_verified: bool,
    /// Roles.
    pub(super) roles: Vec<String>,
    /// Anything else.
    pub(super) attributes: BTreeMap<String, Value>,
    /// argon2id, bcrypt or Django's pbkdf2_sha256.
    pub(super) password_hash: Option<Zeroizing<String>>,
    /// Whether the user must not log in.
    pub(super) disabled: bool,
}

impl Record {
    /// From a line of NDJSON.
    pub(super) fn from_json(line: &str) -> Result<Self, String> {
        // Serde would take a list for the members in their order.
        if !line.trim_start().starts_with('{') {
            return Err("not a JSON object".to_owned());
        }
        // The position is left out: it is always the one line that is named anyway.
        let record: Self = serde_json::from_str(line).map_err(|e| {
            let text = e.to_string();
            text.split(" at line ").next().unwrap_or(&text).to_owned()
        })?;
        record.with_username()
    }

    fn with_username(self) -> Result<Self, String> {
        if self.username.is_empty() { Err("username is missing".to_owned()) } else { Ok(self) }
    }
}

/// The columns of a CSV file, from its first line.
#[derive(Debug)]
pub(super) struct Columns(Vec<String>);

const COLUMNS: [&str; 9] = [
    "sub",
    "username",
    "name",
    "email",
    "phone_number",
    "phone_number_verified",
    "roles",
    "password_hash",
    "disabled",
];

impl Columns {
    /// Reads the header.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let names = split(line)?;
        for (i, name) in names.iter().enumerate() {
            if !COLUMNS.contains(&name.as_str()) && !name.starts_with("attributes.") {
                return Err(format!(
                    "column {name:?} is not known; use {} or attributes.NAME",
                    COLUMNS.join(", ")
                ));
            }
            if names[..i].contains(name) {
                return Err(format!("column {name:?} is there twice"));
            }
        }
        if !names.iter().any(|n| n == "username") {
            return Err("column \"username\" is missing; the first line must name the columns".to_owned());
        }
        Ok(Self(names))
    }

    /// From a line below the header. An empty cell is a member that is absent.
    pub(super) fn record(&self, line: &str) -> Result<Record, String> {
        let cells = split(line)?;
        if cells.len() != self.0.len() {
            return Err(format!("{} columns, but the first line names {}", cells.len(), self.0.len()));
        }
        let mut record = Record::default();
        for (name, cell) in self.0.iter().zip(cells).filter(|(_, cell)| !cell.is_empty()) {
            match name.as_str() {
                "sub" => record.sub = Some(cell),
                "username" => record.username = cell,
                "name" => record.name = Some(cell),
                "email" => record.email = Some(cell),
                "phone_number" => record.phone_number = Some(cell),
                "phone_number_verified" => record.phone_number_verified = truth(name, &cell)?,
                "roles" => record.roles = cell.split(';').map(|r| r.trim().to_owned()).collect(),
                "password_hash" => record.password_hash = Some(Zeroizing::new(cell)),
                "disabled" => record.disabled = truth(name, &cell)?,
                _ => {
                    let attribute = name.strip_prefix("attributes.").unwrap_or(name).to_owned();
                    record.attributes.insert(attribute, Value::String(cell));
                }
            }
        }
        record.with_username()
    }
}

fn truth(column: &str, cell: &str) -> Result<bool, String> {
    match cell {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{column}: {cell:?} is neither true nor false")),
    }
}

/// The cells of one line of CSV (RFC 4180). Cells do not span lines: no member of a record may hold a
/// line end, and so a lost quote costs one line, not the rest of the file.
fn split(line: &str) -> Result<Vec<String>, String> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let (cell, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_cell(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        if after.is_empty() || after.starts_with(',') {
            cells.push(cell);
        } else {
            return Err("text after a closing quote".to_owned());
        }
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(cells),
        }
    }
}

/// The cell after its opening quote, and what follows its closing one.
fn quoted_cell(mut rest: &str) -> Result<(String, &str), String> {
    let mut cell = String::new();
    loop {
        let Some(quote) = rest.find('"') else { return Err("a quote is not closed".to_owned()) };
        cell.push_str(&rest[..quote]);
        rest = &rest[quote + 1..];
        let Some(more) = rest.strip_prefix('"') else { return Ok((cell, rest)) };
        cell.push('"');
        rest = more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_cells_are_those_of_rfc_4180() {
        assert_eq!(split("a,b,,").unwrap(), ["a", "b", "", ""]);
        assert_eq!(split(r#""a,""b""",c"#).unwrap(), ["a,\"b\"", "c"]);
        assert_eq!(split("").unwrap(), [""]);
        assert_eq!(split(r#""a"#).unwrap_err(), "a quote is not closed");
        assert_eq!(split(r#""a"b,c"#).unwrap_err(), "text after a closing quote");
    }

    #[test]
    fn a_header_names_known_columns_once() {
        let columns = Columns::parse("username,roles,attributes.plan,disabled").unwrap();
        let record = columns.record("ada,admin; staff,gold,true").unwrap();
        assert_eq!(record.roles, ["admin", "staff"]);
        assert_eq!(record.attributes["plan"], "gold");
        assert!(record.disabled);
        assert!(Columns::parse("username,colour").unwrap_err().contains("\"colour\" is not known"));
        assert!(Columns::parse("username,name,name").unwrap_err().contains("twice"));
        assert!(Columns::parse("ada,admin").is_err());
    }

    #[test]
    fn bad_lines_say_why() {
        let columns = Columns::parse("username,disabled").unwrap();
        assert_eq!(columns.record("ada").unwrap_err(), "1 columns, but the first line names 2");
        assert!(columns.record("ada,maybe").unwrap_err().contains("neither true nor false"));
        assert_eq!(columns.record(",true").unwrap_err(), "username is missing");
        assert!(
            Record::from_json(r#"{"username":"a","pasword_hash":"x"}"#).unwrap_err().contains("pasword_hash")
        );
        assert_eq!(Record::from_json("{}").unwrap_err(), "username is missing");
        assert!(!Record::from_json("{").unwrap_err().contains("line"));
    }
}
