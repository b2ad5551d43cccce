//! What the tests and lints need beyond a Rust toolchain and a C compiler.

use crate::sh::{cargo, root, sh};
use anyhow::{Result, bail};

const CARGO_DENY: &str = "0.20.2";
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// Chromium, Node and npm from Debian's packages.
pub(crate) fn browser() -> Result<()> {
    debian(&[("chromium", "chromium"), ("node", "nodejs"), ("npm", "npm")])?;
    if !root().join("tests/browser/node_modules/.package-lock.json").exists() {
        sh("npm", &["ci", "--no-audit", "--no-fund"]).dir("tests/browser").run()?;
    }
    Ok(())
}

/// Another issuer: the packages of `tests/issuers`.
pub(crate) fn issuers() -> Result<()> {
    debian(&[("node", "nodejs"), ("npm", "npm")])?;
    if root().join("tests/issuers/node_modules/.package-lock.json").exists() {
        return Ok(());
    }
    sh("npm", &["ci", "--no-audit", "--no-fund"]).dir("tests/issuers").run()
}

/// `schemathesis` in a Python environment of its own; returns the program's path.
pub(crate) fn schemathesis() -> Result<String> {
    let folder = root().join("target/python");
    let program = folder.join("bin/schemathesis");
    let installed = folder.join(SCHEMATHESIS);
    if !installed.exists() {
        if !sh("python3", &["-c", "import venv, ensurepip"]).succeeds() {
            debian_packages(&["python3", "python3-venv"])?;
        }
        let folder = folder.to_string_lossy();
        sh("python3", &["-m", "venv", "--clear", &folder]).run()?;
        let pip = format!("{folder}/bin/pip");
        sh(&pip, &["install", "--quiet", "--disable-pip-version-check", SCHEMATHESIS]).run()?;
        std::fs::write(installed, "")?;
    }
    Ok(program.to_string_lossy().into_owned())
}

/// `cargo deny` of the pinned version.
pub(crate) fn cargo_deny() -> Result<()> {
    let have = cargo(&["deny", "--version"]).read().unwrap_or_default();
    if String::from_utf8_lossy(&have).trim() == format!("cargo-deny {CARGO_DENY}") {
        return Ok(());
    }
    // A debug build does the same work and takes a third of the time to make.
    cargo(&["install", "cargo-deny", "--locked", "--debug", "--version", CARGO_DENY]).run()
}

/// Programs with the Debian package that brings each.
fn debian(wanted: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(program, _)| !sh("sh", &["-c", &format!("command -v {program}")]).succeeds())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() { Ok(()) } else { debian_packages(&missing) }
}

fn debian_packages(packages: &[&str]) -> Result<()> {
    if !sh("sh", &["-c", "command -v apt-get"]).succeeds() {
        bail!("please install: {}", packages.join(" "));
    }
    let sudo = if sh("sh", &["-c", "test \"$(id -u)\" = 0"]).succeeds() { "" } else { "sudo " };
    let line = format!(
        "{sudo}apt-get update -qq && {sudo}env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y {}",
        packages.join(" ")
    );
    sh("sh", &["-c", &line]).run()
}
