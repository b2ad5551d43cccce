//! `reseal serve`.

use crate::folder::FolderArgs;
use anyhow::Context as _;
use reseal_server::config::{Config, Listen, ListenOn};
use reseal_server::ops::log::Log;
use reseal_server::serve::{Options, print_start_up_text, serve, stop_signal};

/// Start the authority.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Starts the authority.\n\n\
        The first line on standard output is `listening on` and the URL; logs go to standard error \
        (RESEAL_LOG chooses what, for example RESEAL_LOG=debug). SIGINT or SIGTERM finishes the accepted \
        requests and stops; a second one stops at once. SIGHUP takes over a changed certificate.\n\n\
        With --dev it needs nothing: it makes a data folder with a user and one client per kind of \
        policy, says how to log in, and shows all of it on a page. Its secrets are in dev.json in the \
        data folder. It listens on this machine only, and touches no data folder but its own.",
    after_help = "\
Examples:
  reseal serve --dev                                  try it; then open the URL it prints
  reseal serve --dev --listen 127.0.0.1:0             on a free port
  reseal serve --config /etc/reseal.toml
  reseal serve --config reseal.toml --data /var/lib/reseal --listen 127.0.0.1:4000
  reseal serve --config /etc/reseal.toml --listen unix:/run/reseal/reseal.sock"
)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// Where to listen: ADDRESS:PORT, unix:PATH, or systemd for its sockets; may be repeated; beats the
    /// configuration file
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<ListenOn>,
    /// Development mode: everything is made that is needed, on this machine only
    #[arg(long)]
    dev: bool,
}

pub(crate) fn run(args: ServeArgs) -> anyhow::Result<()> {
    let config = args.config()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime does not start")?;
    runtime.block_on(Box::pin(serve_until_stopped(Options { config, dev: args.dev })))
}

impl ServeArgs {
    /// Flags beat the file. Development mode reads no file that was not named: one that lies about is
    /// most likely the real authority's.
    fn config(&self) -> anyhow::Result<Config> {
        let mut config = match (self.dev, &self.folder.config) {
            (true, None) => Config::default(),
            _ => self.folder.load()?,
        };
        self.folder.apply(&mut config);
        if !self.listen.is_empty() {
            let places = Listen::new(self.listen.clone());
            config.server.listen = places.context("--listen may be given 16 times at most")?;
        }
        Ok(config)
    }
}

async fn serve_until_stopped(options: Options) -> anyhow::Result<()> {
    let log = Log::open(&options.config)?;
    let stop = async {
        if let Err(error) = stop_signal().await {
            tracing::error!(%error, "signals cannot be listened for; stopping");
        }
    };
    let served = serve(options, stop, |started| print_start_up_text(started.text.clone())).await;
    log.close().await;
    Ok(served?)
}
