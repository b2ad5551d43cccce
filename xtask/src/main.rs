//! What a contributor runs: `cargo xtask test`, `lint`, `generate`, `bench`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to the person at the terminal")]

mod generate;
mod install;
mod lint;
mod sh;
mod test;

use anyhow::{Result, bail};
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  test [--long]   every test in short rounds; --long: the full counts (about an hour)
       [--only rust|issuers|browser|gateway|packages|clients|api]
  lint            formatting, clippy, generated files, licences; types and more of the TypeScript side
  generate        write the generated files under docs/ again
  bench [ARGS]    CPU time per operation of this build; `cargo xtask bench --help`

Each installs what it needs beyond a Rust toolchain and a C compiler: Debian packages, npm
packages in node_modules folders, Python packages; PostgreSQL, Redis, HAProxy, nginx and Caddy
unpacked under target/ unless they are installed.";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["test", rest @ ..] => test::run(&test::Options::parse(rest)?),
        ["lint"] => lint::run(),
        ["generate"] => generate::write(),
        ["bench", rest @ ..] => {
            let base = ["run", "--release", "--locked", "--quiet", "--package", "reseal-bench", "--"];
            sh::cargo(&[&base[..], rest].concat()).run()
        }
        [] | ["help" | "-h" | "--help"] => {
            println!("{HELP}");
            Ok(())
        }
        _ => bail!("unknown command; {HELP}"),
    }
}
