//! `cargo xtask lint`.

use crate::sh::{cargo, sh};
use crate::{generate, install};
use anyhow::Result;

/// Everything that is checked without running a test.
pub(crate) fn run() -> Result<()> {
    cargo(&["fmt", "--all", "--check"]).run()?;
    cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--locked", "--", "-D", "warnings"])
        .run()?;
    cargo(&["doc", "--workspace", "--no-deps", "--locked", "--quiet"])
        .env("RUSTDOCFLAGS", "-D warnings")
        .run()?;
    generate::check()?;
    typescript()?;
    install::cargo_deny()?;
    cargo(&["deny", "--locked", "check", "licenses", "bans", "sources"]).run()?;
    advisories();
    println!("lint: all good");
    Ok(())
}

/// The packages (formatting, types, sizes, what publishing would get wrong), and the scripts of pages and examples,
/// checked as TypeScript checks JavaScript.
fn typescript() -> Result<()> {
    install::browser()?;
    install::gateway_app()?;
    install::packages()?;
    sh("npm", &["run", "--silent", "lint"]).run()?;
    install::angular()?;
    sh("npm", &["run", "--silent", "lint"]).dir("packages/angular").run()?;
    for folder in ["tests/browser", "examples/gateway/app", "examples/koa-angularjs"] {
        sh("npx", &["--no-install", "tsc", "--project", "."]).dir(folder).run()?;
    }
    Ok(())
}

/// Known vulnerabilities, where the database can be reached; else one line says that they were skipped.
fn advisories() {
    let fetched = sh("timeout", &["60", "cargo", "deny", "--locked", "fetch", "db"]).succeeds();
    if !fetched {
        println!("advisories: skipped, the advisory database cannot be reached from here");
    } else if let Err(error) = cargo(&["deny", "--locked", "check", "advisories"]).run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
