//! The access log: one line of JSON per request, when `server.access_log` is on. No query, no header, no
//! credential is in it.

use super::metrics::method_name;
use http::{Method, StatusCode};
use reseal_core::ClientId;
use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Duration;

/// The target of its lines, for filters.
pub const TARGET: &str = "access";

tokio::task_local! {
    /// The client of the request that the task answers; there only when somebody wants to know.
    static CLIENT: RefCell<Option<ClientId>>;
}

/// Remembers which client the request belongs to. Costs nothing when the access log is off.
pub fn note_client(id: &ClientId) {
    // Outside of a request that is logged there is nobody to tell.
    let _ = CLIENT.try_with(|client| client.replace(Some(id.clone())));
}

/// Runs the work and says which client it noted.
pub(super) async fn with_client<T>(work: impl Future<Output = T>) -> (T, Option<ClientId>) {
    CLIENT
        .scope(RefCell::new(None), async {
            let value = work.await;
            (value, CLIENT.with(RefCell::take))
        })
        .await
}

/// A request that was answered.
pub(super) struct Line<'a> {
    pub(super) method: &'a Method,
    pub(super) route: &'a str,
    pub(super) status: StatusCode,
    pub(super) took: Duration,
    pub(super) client: Option<ClientId>,
    pub(super) ip: Option<IpAddr>,
    pub(super) trace_id: Option<String>,
}

impl Line<'_> {
    /// Writes it.
    pub(super) fn write(self) {
        // Whole microseconds, shown as milliseconds.
        let micros = u32::try_from(self.took.as_micros()).unwrap_or(u32::MAX);
        let ms = f64::from(micros) / 1000.0;
        tracing::info!(
            target: TARGET,
            method = method_name(self.method),
            route = self.route,
            status = self.status.as_u16(),
            ms,
            client_id = self.client.as_ref().map(ClientId::as_str),
            ip = self.ip.map(tracing::field::display),
            trace_id = self.trace_id,
        );
    }
}
