//! `reseal completions SHELL`.

use crate::args::Cli;
use crate::output::Out;
use clap::CommandFactory as _;
use clap_complete::Shell;

/// Prints completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  reseal completions bash > ~/.local/share/bash-completion/completions/reseal
  reseal completions zsh > ~/.zfunc/_reseal
  reseal completions fish > ~/.config/fish/completions/reseal.fish";

pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "reseal", &mut script);
    let mut out = Out::new();
    out.bytes(&script)?;
    out.finish()
}
