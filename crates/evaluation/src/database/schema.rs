//! The tables, made by whichever process comes first.

use tokio_postgres::{Client, Transaction};

/// The version of the tables that this program reads and writes.
const VERSION: i32 = 1;

/// The key of the lock that is held while tables are made ("quintet" in ASCII).
const LOCK: i64 = 0x0071_7569_6e74_6574;

/// Whether the tables are there at all. Who may not make tables can be given them so.
const IS_THERE: &str = "SELECT to_regclass('quintet_evaluation_schema') IS NOT NULL";

const READ_VERSION: &str = "SELECT max(version) FROM quintet_evaluation_schema";

/// Version 1. `record` is the message that clients get of an evaluation (quintet.evaluation.v1.Evaluation), and `state` is that of the
/// record. `owner` is who ran it last, `attempt` counts the times that it was claimed, `lost` those of them whose process was lost.
const MAKE: &str = "
CREATE TABLE IF NOT EXISTS quintet_evaluation_schema (version integer PRIMARY KEY);
CREATE TABLE IF NOT EXISTS quintet_evaluations (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text NOT NULL UNIQUE,
    state text NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    record bytea NOT NULL,
    owner text,
    attempt integer NOT NULL DEFAULT 0,
    lost integer NOT NULL DEFAULT 0,
    lease timestamptz,
    is_unwanted boolean NOT NULL DEFAULT false
);
CREATE INDEX IF NOT EXISTS quintet_evaluations_unfinished ON quintet_evaluations (number) WHERE state IN ('queued', 'running');
INSERT INTO quintet_evaluation_schema (version) VALUES (1) ON CONFLICT DO NOTHING;
";

/// Why there are no tables to work with.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The database refused.
    #[error(transparent)]
    Database(#[from] tokio_postgres::Error),
    /// They are of another version.
    #[error("its tables have version {0}: this program knows {VERSION}")]
    Version(i32),
}

/// Makes the tables where they are not there, and sees that they are those that this program knows.
pub(super) async fn ensure(client: &mut Client) -> Result<(), Fault> {
    if !client.query_one(IS_THERE, &[]).await?.try_get::<_, bool>(0)? {
        let change = client.transaction().await?;
        // Two processes that make the same table at once would fail each other.
        lock(&change).await?;
        change.batch_execute(MAKE).await?;
        change.commit().await?;
    }
    match client.query_one(READ_VERSION, &[]).await?.try_get::<_, Option<i32>>(0)? {
        Some(VERSION) => Ok(()),
        other => Err(Fault::Version(other.unwrap_or_default())),
    }
}

/// Waits until nobody else holds the lock, and holds it to the transaction's end.
pub(super) async fn lock(change: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
    change.query_one("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await.map(drop)
}
