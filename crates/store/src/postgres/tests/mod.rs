//! Tests of the engine against a real server.

mod advance;
mod encrypted;
mod opening;
mod outages;
mod shared;

use super::*;
use crate::conformance::{Engine, Fault};
use reseal_test_servers::{Database, Postgres};

/// A database of its own on the server that the tests of this process share.
pub(super) struct OnPostgres {
    pub(super) database: Database<'static>,
}

impl OnPostgres {
    pub(super) fn options(&self) -> PostgresOptions {
        PostgresOptions {
            epoch: [7; 16],
            timeout: Duration::from_secs(60),
            ..PostgresOptions::new(self.database.url().parse().unwrap())
        }
    }

    /// Executes SQL beside all stores.
    pub(super) fn sql(&self, statement: &str) -> String {
        self.database.sql(statement)
    }
}

impl Engine for OnPostgres {
    type Store = PostgresStore;

    fn create() -> Self {
        Self { database: Postgres::shared().database() }
    }

    async fn open(&self) -> PostgresStore {
        PostgresStore::open(self.options()).await.unwrap()
    }

    async fn inject(&self, store: &PostgresStore, fault: Fault) -> bool {
        const RAISE: &str = "CREATE OR REPLACE FUNCTION test_fail() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = TG_ARGV[0]; END $$;";
        let name = self.database.name();
        let read_only = fault == Fault::ReadOnly;
        let beside = |statement: &str| Postgres::shared().sql("postgres", statement);
        beside(&format!("ALTER DATABASE {name} RESET default_transaction_read_only"));
        let mut statements = String::from(RAISE);
        for table in ["meta", "sessions", "timeline", "events"] {
            statements += &format!("DROP TRIGGER IF EXISTS test_fail ON {table};");
            statements += &match fault {
                Fault::DiskFull => format!(
                    "CREATE TRIGGER test_fail BEFORE INSERT ON {table}
                    FOR EACH ROW EXECUTE FUNCTION test_fail('53100');"
                ),
                Fault::CommitFails => format!(
                    "CREATE CONSTRAINT TRIGGER test_fail AFTER INSERT OR UPDATE ON {table}
                    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION test_fail('XX000');"
                ),
                _ => String::new(),
            };
        }
        self.sql(&statements);
        beside(&format!("ALTER DATABASE {name} SET default_transaction_read_only = {read_only}"));
        // Connections learn of it when they are made.
        store.inner.pool.close_idle();
        true
    }
}

crate::conformance_tests!(OnPostgres);
