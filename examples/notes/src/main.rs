//! Serves the notes. Its settings are environment variables; see the README.
#![expect(clippy::print_stdout, reason = "it says where it listens")]

use anyhow::{Context as _, Result, bail};
use reseal_verify::{OnFeedLost, Verifier};
use serde::Deserialize;
use std::env;
use std::time::Duration;

/// The credentials of this service, as `reseal clients add --confidential --json` prints them.
#[derive(Deserialize)]
struct Client {
    client_id: String,
    client_secret: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("NOTES_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    let setting = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let file = setting("NOTES_CLIENT_FILE", "reseal-data/notes-api.json");
    let text = std::fs::read(&file).with_context(|| format!("{file}: run examples/notes/setup.sh first"))?;
    let client: Client = serde_json::from_slice(&text).with_context(|| file.clone())?;

    let verifier = Verifier::builder(setting("NOTES_ISSUER", "http://127.0.0.1:4000"))
        // Its own name. The issuer's would let in every token that the authority ever signs.
        .audience("notes")
        .client(client.client_id, client.client_secret)
        .feed(match &*setting("NOTES_FEED_LOST", "accept") {
            "accept" => OnFeedLost::Accept,
            "introspect" => OnFeedLost::Introspect,
            "refuse" => OnFeedLost::Refuse,
            other => bail!("NOTES_FEED_LOST is accept, introspect or refuse, not {other}"),
        })
        .build()
        .await?;

    let app = notes::app(verifier, Duration::from_secs(2));
    let listener = tokio::net::TcpListener::bind(setting("NOTES_LISTEN", "127.0.0.1:4001")).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).with_graceful_shutdown(stopped()).await?;
    Ok(())
}

async fn stopped() {
    // Without the signal there is nothing to wait for but the end.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
