//! `cargo xtask test`: every test, in short rounds or (`--long`) with the full counts.

use crate::install;
use crate::sh::{Sh, cargo, root, sh};
use anyhow::{Context as _, Result, bail};

/// The parts, in the order in which they run.
const PARTS: [&str; 7] = ["rust", "issuers", "browser", "gateway", "packages", "clients", "api"];

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
            None => Ok(options),
            Some(part) if PARTS.contains(&part) => Ok(options),
            Some(other) => bail!("--only takes one of {}, not {other}", PARTS.join(", ")),
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
        browser(options, &mut tally)?;
    }
    if options.wants("gateway") {
        gateway(options, &mut tally)?;
    }
    if options.wants("packages") {
        packages(options, &mut tally)?;
    }
    if options.wants("clients") {
        clients(options, &mut tally)?;
    }
    if options.wants("api") {
        api(options, &mut tally)?;
    }
    println!("\nall tests: {} passed, {} failed", tally.passed, tally.failed);
    if tally.failed == 0 { Ok(()) } else { bail!("{} tests failed", tally.failed) }
}

/// Unit, property, conformance, model and end-to-end tests.
fn rust(options: &Options, tally: &mut Tally) -> Result<()> {
    install::servers()?;
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
fn browser(options: &Options, tally: &mut Tally) -> Result<()> {
    install::browser()?;
    let files = &["page.test.mjs", "login.test.mjs"];
    node(options, node_tests("tests/browser", files), tally)
}

/// The example app behind the real nginx and Caddy, and in Chromium.
fn gateway(options: &Options, tally: &mut Tally) -> Result<()> {
    install::browser()?;
    install::gateway_app()?;
    let proxies = install::proxies()?;
    let files = &["gateway.test.mjs", "browser.test.mjs"];
    let mut command = node_tests("tests/gateway", files);
    for (name, path) in
        [("NGINX_BIN", proxies.nginx), ("NGINX_MODULES", proxies.nginx_modules), ("CADDY_BIN", proxies.caddy)]
    {
        command = command.env(name, &path.to_string_lossy());
    }
    node(options, command, tally)
}

/// The TypeScript packages by themselves.
fn packages(options: &Options, tally: &mut Tally) -> Result<()> {
    install::browser()?;
    install::packages()?;
    node(options, sh("node", &["packages/tools/test.mjs"]), tally)?;
    install::angular()?;
    node(options, sh("npm", &["test", "--silent"]).dir("packages/angular"), tally)
}

/// The clients in Chromium, against the real binary and a real Koa app; then the example that shows them.
fn clients(options: &Options, tally: &mut Tally) -> Result<()> {
    install::browser()?;
    install::packages()?;
    for folder in ["tests/clients", "examples/koa-angularjs/test"] {
        let files = test_files(folder)?;
        // Each file has its own authority and browser, and waits most of the time.
        let mut files: Vec<&str> = files.iter().map(String::as_str).collect();
        files.insert(0, "--test-concurrency=2");
        node(options, node_tests(folder, &files), tally)?;
    }
    Ok(())
}

/// Names of the test files in a folder.
fn test_files(folder: &str) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(root().join(folder)).with_context(|| format!("cannot read {folder}"))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut files = names.collect::<Result<Vec<_>>>()?;
    files.retain(|name| name.ends_with(".test.mjs"));
    files.sort();
    Ok(files)
}

/// Test files of Node's test runner in a folder.
fn node_tests(folder: &str, files: &[&str]) -> Sh {
    sh("node", &[&["--test", "--test-reporter=spec"], files].concat()).dir(folder)
}

/// Runs tests of Node against the real binary, and counts them.
fn node(options: &Options, mut command: Sh, tally: &mut Tally) -> Result<()> {
    cargo(&["build", "--package", "reseal", "--locked"]).run()?;
    command = command.env("RESEAL_BIN", &root().join("target/debug/reseal").to_string_lossy());
    if options.long {
        command = command.env("RESEAL_LONG", "1");
    }
    // One run may close more than once: its counts are added up.
    let mut counts = (0, 0);
    let good = command.watch(|line| {
        let number = |word: &str| line.split_once(word).and_then(|(_, n)| n.trim().parse::<u32>().ok());
        counts.0 += number("ℹ pass ").unwrap_or(0);
        counts.1 += number("ℹ fail ").unwrap_or(0);
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
