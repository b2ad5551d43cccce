//! `cargo xtask test`: every test, in short rounds or (`--long`) with the full counts.

use crate::install;
use crate::sh::{Sh, cargo, root, sh};
use anyhow::{Result, bail};
use std::path::PathBuf;

/// What to run.
pub(crate) struct Options {
    long: bool,
    only: Option<String>,
}

impl Options {
    /// From the words after `test`.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self { long: false, only: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--long" => options.long = true,
                "--only" => options.only = words.next().map(|w| (*w).to_owned()),
                other => bail!("unknown option {other}; see cargo xtask help"),
            }
        }
        match options.only.as_deref() {
            None | Some("rust" | "issuers" | "browser" | "gateway" | "api") => Ok(options),
            Some(other) => bail!("--only takes rust, issuers, browser, gateway or api, not {other}"),
        }
    }

    fn wants(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == part)
    }
}

/// Passed and failed so far.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
}

/// Runs them all, even after a failure, and sums up.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut tally = Tally::default();
    if options.wants("rust") {
        rust(options, &mut tally)?;
    }
    if options.wants("issuers") {
        issuers(&mut tally)?;
    }
    if options.wants("browser") {
        browser(&mut tally)?;
    }
    if options.wants("gateway") {
        gateway(&mut tally)?;
    }
    if options.wants("api") {
        api(options, &mut tally)?;
    }
    println!("\nall tests: {} passed, {} failed", tally.passed, tally.failed);
    if tally.failed == 0 { Ok(()) } else { bail!("{} tests failed", tally.failed) }
}

/// Unit, property, conformance, model and end-to-end tests.
fn rust(options: &Options, tally: &mut Tally) -> Result<()> {
    let args = ["test", "--workspace", "--all-features", "--locked", "--no-fail-fast"];
    let mut command = cargo(&args);
    if options.long {
        command = command.env("RESEAL_LONG", "1");
    }
    cargo_tests(command, tally)
}

/// `reseal-verify` with tokens of another issuer, the npm package `oidc-provider`.
fn issuers(tally: &mut Tally) -> Result<()> {
    install::issuers()?;
    let args = ["test", "--package", "reseal-verify", "--locked", "--test", "issuers", "--", "--ignored"];
    cargo_tests(cargo(&args), tally)
}

/// Runs tests of cargo, and counts them.
fn cargo_tests(command: Sh, tally: &mut Tally) -> Result<()> {
    let (mut passed, mut failed) = (0, 0);
    let good = command.watch(|line| {
        if let Some(rest) = line.strip_prefix("test result: ") {
            passed += count(rest, "passed");
            failed += count(rest, "failed");
        }
    })?;
    tally.passed += passed;
    tally.failed += if good { failed } else { failed.max(1) };
    Ok(())
}

/// The number before `word` in cargo's closing line.
fn count(line: &str, word: &str) -> u32 {
    let words: Vec<&str> = line.split([' ', ';', '.']).filter(|w| !w.is_empty()).collect();
    words.windows(2).find(|pair| pair[1] == word).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

/// The development page and the hosted pages in Chromium, against the real binary.
fn browser(tally: &mut Tally) -> Result<()> {
    install::browser()?;
    node_tests("tests/browser", &["page.test.mjs", "login.test.mjs"], &[], tally)
}

/// The example app behind the real nginx and Caddy, and in Chromium.
fn gateway(tally: &mut Tally) -> Result<()> {
    install::browser()?;
    install::gateway_app()?;
    let proxies = install::proxies()?;
    let env = [
        ("NGINX_BIN", proxies.nginx),
        ("NGINX_MODULES", proxies.nginx_modules),
        ("CADDY_BIN", proxies.caddy),
    ];
    node_tests("tests/gateway", &["gateway.test.mjs", "browser.test.mjs"], &env, tally)
}

/// Runs tests of Node against the real binary, and counts them.
fn node_tests(folder: &str, files: &[&str], env: &[(&str, PathBuf)], tally: &mut Tally) -> Result<()> {
    cargo(&["build", "--package", "reseal", "--locked"]).run()?;
    let args = [&["--test", "--test-reporter=spec"], files].concat();
    let binary = root().join("target/debug/reseal");
    let mut command = sh("node", &args).dir(folder).env("RESEAL_BIN", &binary.to_string_lossy());
    for (name, path) in env {
        command = command.env(name, &path.to_string_lossy());
    }
    let mut counts = (0, 0);
    let good = command.watch(|line| {
        let number = |word: &str| line.split_once(word).and_then(|(_, n)| n.trim().parse().ok());
        counts.0 = number("ℹ pass ").unwrap_or(counts.0);
        counts.1 = number("ℹ fail ").unwrap_or(counts.1);
    })?;
    tally.passed += counts.0;
    tally.failed += if good { counts.1 } else { counts.1.max(1) };
    Ok(())
}

/// Requests made up from the OpenAPI document: no 5xx, no undocumented answer.
fn api(options: &Options, tally: &mut Tally) -> Result<()> {
    let program = install::schemathesis()?;
    cargo(&["build", "--package", "reseal", "--locked"]).run()?;
    let examples = if options.long { "50" } else { "15" };
    let good =
        sh("python3", &["tests/api/run.py", "target/debug/reseal", &program, examples]).watch(|_| {})?;
    if good {
        tally.passed += 1;
    } else {
        tally.failed += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn reads_cargos_closing_line() {
        let line = "ok. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!((count(line, "passed"), count(line, "failed")), (12, 3));
    }
}
