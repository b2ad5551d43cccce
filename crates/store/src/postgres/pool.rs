//! Connections: a bounded number of them, each with its prepared statements. One that failed in doubt is
//! closed, never used again.

use super::address::{Address, Encryption};
use super::fail::{Fail, RETRY_AFTER, Result};
use super::known::Known;
use super::tls::Tls;
use crate::StoreError;
use deadpool::managed::{self, Metrics, Object, PoolError, RecycleError, RecycleResult, TimeoutType};
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::tls::NoTls;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, Error, Row, Statement};

/// A parameter of a statement.
pub(super) type Param<'a> = &'a (dyn ToSql + Sync);

/// One connection.
pub(super) struct Client {
    pg: tokio_postgres::Client,
    task: JoinHandle<()>,
    /// By the place of the text, which is in the program.
    prepared: Mutex<HashMap<(usize, usize), Statement>>,
    #[cfg(test)]
    sent: Arc<AtomicUsize>,
}

impl Client {
    async fn prepared(&self, sql: &'static str) -> Result<Statement> {
        let key = (sql.as_ptr().addr(), sql.len());
        let found = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(statement) = found {
            return Ok(statement);
        }
        let statement = self.pg.prepare(sql).await?;
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).insert(key, statement.clone());
        Ok(statement)
    }

    pub(super) async fn query(&self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        #[cfg(test)]
        self.sent.fetch_add(1, Ordering::Relaxed);
        let statement = self.prepared(sql).await?;
        Ok(self.pg.query(&statement, params).await?)
    }

    pub(super) async fn query_opt(&self, sql: &'static str, params: &[Param<'_>]) -> Result<Option<Row>> {
        Ok(self.query(sql, params).await?.pop())
    }

    /// How many rows the statement touched.
    pub(super) async fn execute(&self, sql: &'static str, params: &[Param<'_>]) -> Result<u64> {
        #[cfg(test)]
        self.sent.fetch_add(1, Ordering::Relaxed);
        let statement = self.prepared(sql).await?;
        Ok(self.pg.execute(&statement, params).await?)
    }

    /// Statements without parameters and rows.
    pub(super) async fn batch(&self, sql: &str) -> Result<()> {
        #[cfg(test)]
        self.sent.fetch_add(1, Ordering::Relaxed);
        Ok(self.pg.batch_execute(sql).await?)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // The socket goes at once, whatever the server still owes us.
        self.task.abort();
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum ConnectError {
    Pg(Error),
    Timeout(Duration),
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Timeout(after) => write!(f, "no greeting within {after:?}"),
            Self::Pg(error) => {
                if let Some(db) = error.as_db_error() {
                    return write!(f, "{} ({})", db.message(), db.code().code());
                }
                write!(f, "{error}")?;
                let mut source = std::error::Error::source(error);
                while let Some(inner) = source {
                    write!(f, ": {inner}")?;
                    source = inner.source();
                }
                Ok(())
            }
        }
    }
}

/// Makes connections.
pub(super) struct Manager {
    hosts: Vec<Config>,
    /// `None`: never encrypted.
    tls: Option<Tls>,
    connect_timeout: Duration,
    /// Longest statement, as the server is told.
    timeout: Duration,
    /// The host that let us in last.
    last: AtomicUsize,
    /// What rests on the server being the one it was.
    known: Arc<Known>,
    #[cfg(test)]
    sent: Arc<AtomicUsize>,
}

impl Manager {
    pub(super) fn new(
        address: &Address,
        timeout: Duration,
        known: Arc<Known>,
    ) -> std::result::Result<Self, crate::OpenError> {
        Ok(Self {
            hosts: address.hosts.clone(),
            tls: (address.encryption != Encryption::Disable).then(|| Tls::new(address)).transpose()?,
            connect_timeout: address.connect_timeout,
            timeout,
            last: AtomicUsize::new(0),
            known,
            #[cfg(test)]
            sent: Arc::default(),
        })
    }

    /// Connects to the first host that lets us in, beginning with the one that did last.
    pub(super) async fn connect(&self) -> std::result::Result<Client, ConnectError> {
        let first = self.last.load(Ordering::Relaxed);
        let mut failure = None;
        for i in (0..self.hosts.len()).map(|i| (first + i) % self.hosts.len()) {
            match tokio::time::timeout(self.connect_timeout, self.connect_to(&self.hosts[i])).await {
                Ok(Ok(client)) => {
                    self.last.store(i, Ordering::Relaxed);
                    return Ok(client);
                }
                // What a server says tells more than silence.
                Ok(Err(error)) if error.as_db_error().is_some() || failure.is_none() => {
                    failure = Some(ConnectError::Pg(error));
                }
                Err(_) if failure.is_none() => failure = Some(ConnectError::Timeout(self.connect_timeout)),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        Err(failure.unwrap_or(ConnectError::Timeout(self.connect_timeout)))
    }

    async fn connect_to(&self, host: &Config) -> std::result::Result<Client, Error> {
        let (pg, task) = match &self.tls {
            Some(tls) => {
                let (pg, connection) = host.connect(tls.clone()).await?;
                (pg, tokio::spawn(watch(connection)))
            }
            None => {
                let (pg, connection) = host.connect(NoTls).await?;
                (pg, tokio::spawn(watch(connection)))
            }
        };
        let client = Client {
            pg,
            task,
            prepared: Mutex::default(),
            #[cfg(test)]
            sent: Arc::clone(&self.sent),
        };
        self.prepare_session(&client).await?;
        Ok(client)
    }

    /// Nothing that we rely on: a server or a pooler that knows no such settings may refuse them.
    async fn prepare_session(&self, client: &Client) -> std::result::Result<(), Error> {
        let millis = self.timeout.as_millis().max(1);
        // A statement that nobody waits for any more, and locks of a node that is gone, must not stay.
        let timeouts = format!(
            "SELECT set_config('statement_timeout', '{millis}', false),
            set_config('idle_in_transaction_session_timeout', '{millis}', false)"
        );
        // Batches look rows up by their ids, in order, however small the tables are: so two of them cannot
        // wait for each other, and one plan is good for all.
        const PLANS: &str = "SELECT set_config('enable_hashjoin', 'off', false),
            set_config('enable_mergejoin', 'off', false), set_config('enable_seqscan', 'off', false),
            set_config('jit', 'off', false),
            set_config('plan_cache_mode', 'force_generic_plan', false)";
        // What was answered is on disk, whatever somebody set for everybody else.
        const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', false)
            WHERE current_setting('synchronous_commit') = 'off'";
        for settings in [&*timeouts, PLANS, DURABLE] {
            match client.pg.simple_query(settings).await {
                Ok(_) => {}
                Err(error) if error.as_db_error().is_some() => {
                    tracing::debug!(%error, "the database knows no such settings");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Reads and writes the socket until either side closes it.
async fn watch(connection: impl Future<Output = std::result::Result<(), Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the database broke");
    }
}

impl managed::Manager for Manager {
    type Type = Client;
    type Error = ConnectError;

    async fn create(&self) -> std::result::Result<Client, ConnectError> {
        let client = self.connect().await?;
        // The others broke, perhaps, because another server has taken over.
        self.known.forget_numbers();
        Ok(client)
    }

    async fn recycle(&self, client: &mut Client, _: &Metrics) -> RecycleResult<ConnectError> {
        if client.pg.is_closed() {
            return Err(RecycleError::message("closed"));
        }
        Ok(())
    }
}

/// The connections of a store.
#[derive(Clone)]
pub(super) struct Pool {
    pool: managed::Pool<Manager>,
    timeout: Duration,
}

impl Pool {
    pub(super) fn new(manager: Manager, connections: usize, timeout: Duration) -> Self {
        let pool = managed::Pool::builder(manager)
            .max_size(connections.max(MIN_CONNECTIONS))
            .runtime(deadpool::Runtime::Tokio1)
            .wait_timeout(Some(timeout))
            .queue_mode(managed::QueueMode::Lifo)
            .build()
            .expect("there is a runtime for its timeouts");
        Self { pool, timeout }
    }

    /// A connection, as soon as one is free.
    pub(super) async fn lease(&self) -> Result<Lease> {
        match self.pool.get().await {
            Ok(client) => Ok(Lease { client: Some(client), pool: self.clone(), open: false }),
            Err(PoolError::Timeout(TimeoutType::Wait)) => {
                Err(Fail::Away(StoreError::Busy { retry_after: RETRY_AFTER }))
            }
            Err(PoolError::Backend(error)) => {
                Err(Fail::Away(StoreError::Unavailable(format!("the database is away: {error}"))))
            }
            Err(error) => Err(Fail::Away(StoreError::Unavailable(error.to_string()))),
        }
    }

    /// How many statements were sent.
    #[cfg(test)]
    pub(super) fn statements(&self) -> usize {
        self.pool.manager().sent.load(Ordering::Relaxed)
    }

    /// Whether there is another host to try.
    pub(super) fn has_several_hosts(&self) -> bool {
        self.pool.manager().hosts.len() > 1
    }

    /// Longest wait for anything.
    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Closes all connections that are not in use.
    pub(super) fn close_idle(&self) {
        self.pool.retain(|_, _| false);
    }

    /// Closes all connections as soon as they are free, and makes no more.
    pub(super) fn close(&self) {
        self.pool.close();
    }

    /// Waits for the answer of a statement, within bounds.
    pub(super) async fn within<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(Fail::Lost(format!("no answer of the database within {:?}", self.timeout))),
        }
    }
}

/// Less would let batches, commits and reads wait for each other.
pub(super) const MIN_CONNECTIONS: usize = 3;

/// A connection in use, which goes back when it is dropped.
pub(super) struct Lease {
    client: Option<Object<Manager>>,
    pool: Pool,
    /// Whether a transaction is open on it.
    open: bool,
}

impl std::ops::Deref for Lease {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client.as_ref().expect("it is there until it is dropped")
    }
}

impl Lease {
    /// Begins a transaction. Until [`Lease::commit`] has succeeded the connection is closed when it is dropped.
    pub(super) async fn begin(&mut self) -> Result<()> {
        self.open = true;
        self.batch("BEGIN ISOLATION LEVEL READ COMMITTED").await.map_err(Fail::before_commit)
    }

    pub(super) async fn commit(&mut self) -> Result<()> {
        // A server that had to roll back says so in the tag of its answer only, but then a statement failed.
        self.batch("COMMIT").await.map_err(Fail::at_commit)?;
        self.open = false;
        Ok(())
    }

    /// Undoes the transaction, after a failure that leaves the connection whole.
    pub(super) async fn roll_back(&mut self) -> Result<()> {
        self.batch("ROLLBACK").await?;
        self.open = false;
        Ok(())
    }

    /// Whether the connection was closed: nothing can be done with it any more.
    pub(super) const fn is_spoilt(&self) -> bool {
        self.client.is_none()
    }

    /// Closes the connection if the failure spoils it.
    pub(super) fn settle<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(fail) = &result {
            if fail.spoils_connection() {
                self.discard();
            }
            if fail.spoils_all() {
                self.pool.close_idle();
            }
        }
        result
    }

    fn discard(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Object::take(client));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.open {
            self.discard();
        }
    }
}
