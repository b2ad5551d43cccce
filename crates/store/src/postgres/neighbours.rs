//! Who else uses the server.

use super::PostgresStore;
use super::address::SERVER_NAME;
use super::rows::Columns;
use crate::StoreError;

/// Connections of a server. What other users do may not show; then it counts as nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Neighbours {
    /// Connections of clients, this store's included.
    pub connections: u64,
    /// Connections of authorities to this database.
    pub authorities: u64,
    /// Connections that are kept for superusers.
    pub reserved: u64,
    /// Whether the server runs on this machine.
    pub is_local: bool,
}

impl PostgresStore {
    /// Counts the server's connections.
    pub async fn neighbours(&self) -> Result<Neighbours, StoreError> {
        self.read_with(|c| {
            Box::pin(async move {
                const COUNT: &str = "SELECT
                    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
                    (SELECT count(*) FROM pg_stat_activity
                        WHERE datname = current_database() AND application_name = $1),
                    coalesce(current_setting('superuser_reserved_connections', true)::bigint, 0),
                    coalesce(inet_server_addr() = inet_client_addr(), true)";
                let rows = c.query(COUNT, &[&SERVER_NAME]).await?;
                let Some(row) = rows.first() else { return Ok(Neighbours::default()) };
                let mut columns = Columns::of(row);
                Ok(Neighbours {
                    connections: columns.u64()?,
                    authorities: columns.u64()?,
                    reserved: columns.u64()?,
                    is_local: columns.take()?,
                })
            })
        })
        .await
    }
}
