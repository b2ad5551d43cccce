//! `reseal init`: a configuration file that explains itself.

use crate::exit::misused;
use crate::output::{Out, note};
use anyhow::Context as _;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

/// Writes a commented configuration file: every key, with its default.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InitArgs {
    /// Where to write it; `-` is standard output
    #[arg(default_value = "reseal.toml")]
    file: PathBuf,
    /// Overwrite the file if it exists
    #[arg(long)]
    force: bool,
}

const EXAMPLES: &str = "\
Examples:
  reseal init                       write reseal.toml here
  reseal init /etc/reseal.toml
  reseal init -                     only show it

Then set `issuer`, check with `reseal policies check`, and start with `reseal serve`.";

/// The file. Keys that have a default are commented out, so that a later version's default holds.
const TEMPLATE: &str = include_str!("../../templates/reseal.toml");

pub(crate) fn run(args: &InitArgs) -> anyhow::Result<()> {
    if args.file.as_os_str() == "-" {
        let mut out = Out::new();
        out.text(TEMPLATE)?;
        return out.finish();
    }
    let shown = args.file.display();
    let mut options = OpenOptions::new();
    options.write(true);
    if args.force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let mut file = options.open(&args.file).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => {
            anyhow::anyhow!("{shown} exists; add --force to overwrite it, or name another file")
        }
        _ => misused(format!("cannot write {shown}: {e}")),
    })?;
    if let Err(error) = file.write_all(TEMPLATE.as_bytes()).and_then(|()| file.sync_all()) {
        if !args.force {
            // Half a file would stand in the way of the next try.
            let _ = std::fs::remove_file(&args.file);
        }
        return Err(error).with_context(|| format!("cannot write {shown}"));
    }
    note(format_args!("wrote {shown}; set `issuer` in it, then start with `reseal serve --config {shown}`"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use reseal_core::policy::built_in;
    use reseal_server::config::{Config, RedisConfig};
    use serde_json::Value;
    use std::path::Path;

    fn parse(text: &str) -> Config {
        Config::parse(text, Path::new("reseal.toml")).unwrap()
    }

    /// The template with every key in force.
    fn uncommented() -> String {
        let is_setting = |line: &str| {
            (line.starts_with('[') && line.ends_with(']'))
                || line
                    .split_once(" = ")
                    .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        };
        let lines = TEMPLATE.lines().map(|line| match line.strip_prefix("# ") {
            Some(setting) if is_setting(setting) => setting,
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn as_it_is_written_it_says_nothing_but_the_defaults() {
        let (written, default) = (parse(TEMPLATE), Config::default());
        assert_eq!(serde_json::to_value(written).unwrap(), serde_json::to_value(default).unwrap());
    }

    #[test]
    fn what_is_commented_out_are_the_defaults() {
        let mut written =
            serde_json::to_value(parse(&uncommented().replace("kind = \"none\"", "kind = \"http\"")))
                .unwrap();
        let default = serde_json::to_value(Config::default()).unwrap();
        for (table, key) in [
            ("keys", "master_key_file"),
            ("users", "breached_passwords_file"),
            ("store", "url"),
            ("store", "password_file"),
        ] {
            assert!(written[table][key].take().is_string(), "{table}.{key} is shown");
        }
        // Examples of what has no default.
        for key in ["tls", "trusted_proxies"] {
            assert_ne!(written["server"][key], default["server"][key], "server.{key} is shown");
            written["server"][key] = default["server"][key].clone();
        }
        let redis = written["store"]["redis"].take();
        let minimal: RedisConfig = toml::from_str("urls = ['redis://a', 'redis://b']").unwrap();
        for (key, default) in serde_json::to_value(minimal).unwrap().as_object().unwrap() {
            assert!(default.is_null() || key == "urls" || redis[key] == *default, "store.redis.{key}");
            assert!(!redis[key].is_null(), "store.redis.{key} is shown");
        }
        for table in ["server", "store", "keys", "users", "login"] {
            assert_eq!(written[table], default[table], "[{table}]");
        }
        let policies = parse(&uncommented().replace("kind = \"none\"", "kind = \"http\"")).policies;
        for (name, config) in built_in() {
            let shown = policies[&name].validate(&name).unwrap();
            assert_eq!(shown, config.validate(&name).unwrap(), "[policies.{name}]");
        }
    }

    #[test]
    fn every_key_of_the_schema_is_shown() {
        let schema = serde_json::to_value(schemars::schema_for!(Config)).unwrap();
        let shown: toml::Table = uncommented().parse().unwrap();
        let tables = schema["properties"].as_object().unwrap();
        for (table, property) in tables {
            assert!(shown.contains_key(table), "{table}");
            let Some(reference) = property["$ref"].as_str() else { continue };
            let definition: &Value = schema.pointer(&reference[1..]).unwrap();
            for key in definition["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
                assert!(shown[table].as_table().unwrap().contains_key(key), "{table}.{key}");
            }
        }
    }
}
