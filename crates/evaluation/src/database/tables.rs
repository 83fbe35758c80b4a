//! The ledger of evaluations in the database's tables.
//!
//! Time is the database's. What a process notes of a job that it runs counts only while `owner` and `attempt` are its own: both change
//! with each claim.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use prost::Message;
use quintet_proto::evaluation::v1::{CreateEvaluationRequest, Evaluation};
use tokio::time::timeout;
use tokio_postgres::{Client, Row, types::FromSql};
use tokio_util::task::TaskTracker;

use super::{
    address::Tls,
    connection::{Connection, Standing},
    schema,
    tls::Rustls,
};
use crate::{
    Error,
    config::DatabaseConfig,
    engine::{
        job::State,
        journal::Noted,
        ledger::{Added, Claim, Held, Lease, Ledger},
    },
    service::convert,
};

/// How long adding a job may take, all in all.
const PATIENCE: Duration = Duration::from_secs(5);

const WAITING: &str = "SELECT count(*) FROM quintet_evaluations WHERE state = 'queued' AND owner IS NULL";

const ADD: &str = "INSERT INTO quintet_evaluations (id, state, record) VALUES ($1, $2, $3) RETURNING number";

/// The oldest that nobody runs: it waits, was given back, or its lease has run out. Rows that another process claims at this moment are
/// passed over.
const CLAIM: &str = "
UPDATE quintet_evaluations
SET owner = $1, attempt = attempt + 1, lost = lost + (owner IS NOT NULL)::integer, lease = clock_timestamp() + make_interval(secs => $2)
WHERE number = (
    SELECT number FROM quintet_evaluations
    WHERE state IN ('queued', 'running') AND (lease IS NULL OR ($3 AND lease < clock_timestamp())) AND ($4::text IS NULL OR id = $4)
    ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING number, record, attempt, lost, is_unwanted";

const HOLD: &str = "
UPDATE quintet_evaluations SET state = $4, record = $5, lease = clock_timestamp() + make_interval(secs => $6)
WHERE number = $1 AND owner = $2 AND attempt = $3 AND state IN ('queued', 'running')
RETURNING is_unwanted";

/// `owner` and `attempt` stay as they are, so that an answer that was lost can be asked for again.
const END: &str = "
UPDATE quintet_evaluations SET state = $4, record = $5, lease = NULL
WHERE number = $1 AND owner = $2 AND attempt = $3
RETURNING number";

const GIVE_BACK: &str = "
UPDATE quintet_evaluations SET state = $4, record = $5, lease = NULL, owner = NULL
WHERE number = $1 AND owner = $2 AND attempt = $3 AND state IN ('queued', 'running')
RETURNING number";

const FIND: &str = "SELECT number, record FROM quintet_evaluations WHERE id = $1";

const LIST: &str = "SELECT number, record FROM quintet_evaluations WHERE number < $1 ORDER BY number DESC LIMIT $2";

const ASK_TO_CANCEL: &str = "UPDATE quintet_evaluations SET is_unwanted = true WHERE id = $1 AND state IN ('queued', 'running') AND NOT is_unwanted";

const FORGET: &str = "
DELETE FROM quintet_evaluations WHERE state NOT IN ('queued', 'running') AND number <= (
    SELECT number FROM quintet_evaluations WHERE state NOT IN ('queued', 'running') ORDER BY number DESC OFFSET $1 LIMIT 1)";

/// The tables of a database, as one process uses them.
#[derive(Debug)]
pub(crate) struct Tables {
    connection: Connection,
    /// This process: no other has the same.
    owner: String,
    lease: Duration,
}

impl Tables {
    /// The tables of the database that is configured. It need not be reachable yet.
    pub(crate) fn open(config: &DatabaseConfig, tasks: TaskTracker) -> Result<Self, Error> {
        let address = config.url.address().map_err(|reason| Error::Setup(format!("evaluation.database.url: {reason}")))?;
        let tls = match address.tls {
            Tls::Disable => None,
            Tls::Require => Some(Rustls::unverified()),
            Tls::VerifyFull => Some(Rustls::verified_by(&config.ca_certificate)),
        };
        let tls = tls.transpose().map_err(|reason| Error::Setup(format!("evaluation.database.ca_certificate = {reason}")))?;
        if address.tls == Tls::Disable && !address.is_loopback() {
            tracing::warn!(?address, "anybody on the way to the database of the evaluations can listen: see sslmode");
        }
        tracing::info!(?address, "evaluations are kept in a database");
        let connection = Connection::new(address, config.password_file.clone(), tls, tasks);
        Ok(Self { connection, owner: format!("{:016x}", rand::random::<u64>()), lease: Duration::from_secs(config.lease_seconds) })
    }

    /// How the database fares.
    pub(crate) fn standing(&self) -> Arc<Standing> {
        self.connection.standing()
    }
}

#[async_trait]
impl Ledger<CreateEvaluationRequest> for Tables {
    async fn add(&self, job: Noted<CreateEvaluationRequest>, most: usize) -> Result<Added, Error> {
        let mut turn = self.connection.turn().await?;
        let Some(session) = turn.as_mut() else { return Err(Error::Unreachable) };
        let id = job.id.clone();
        let added = timeout(PATIENCE, add(&mut session.client, job, most)).await;
        let added = self.connection.settle(&mut turn, added.map_err(|_| None).and_then(|added| added.map_err(Some)));
        if added.is_err() {
            self.connection.take_back(id);
        }
        added
    }

    async fn claim(&self, id: Option<&str>) -> Result<Option<Claim<CreateEvaluationRequest>>, Error> {
        let may_be_lost = self.connection.has_stood(self.lease).await?;
        let rows = self.connection.query(CLAIM, &[&self.owner, &self.lease.as_secs_f64(), &may_be_lost, &id]).await?;
        let claim = |row: &Row| -> Result<Claim<CreateEvaluationRequest>, Error> {
            let noted = read(row)?;
            let lease = Lease { number: noted.number, attempt: column::<i32>(row, "attempt")? as u32 };
            Ok(Claim { lease, noted, lost: column::<i32>(row, "lost")? as u32, is_unwanted: column(row, "is_unwanted")? })
        };
        rows.first().map(claim).transpose()
    }

    async fn hold(&self, lease: &Lease, job: Noted<CreateEvaluationRequest>) -> Result<Held, Error> {
        let (number, attempt) = key(lease);
        let (state, record) = (word(job.snapshot.state), convert::evaluation(job).encode_to_vec());
        let seconds = self.lease.as_secs_f64();
        let rows = self.connection.query(HOLD, &[&number, &self.owner, &attempt, &state, &record, &seconds]).await?;
        match rows.first() {
            None => Ok(Held::Lost),
            Some(row) if column(row, "is_unwanted")? => Ok(Held::Unwanted),
            Some(_) => Ok(Held::On),
        }
    }

    async fn end(&self, lease: &Lease, job: Noted<CreateEvaluationRequest>) -> Result<bool, Error> {
        let (number, attempt) = key(lease);
        let (state, record) = (word(job.snapshot.state), convert::evaluation(job).encode_to_vec());
        let rows = self.connection.query(END, &[&number, &self.owner, &attempt, &state, &record]).await?;
        Ok(!rows.is_empty())
    }

    async fn give_back(&self, lease: &Lease, job: Noted<CreateEvaluationRequest>) -> Result<(), Error> {
        let (number, attempt) = key(lease);
        let (state, record) = (word(job.snapshot.state), convert::evaluation(job).encode_to_vec());
        self.connection.query(GIVE_BACK, &[&number, &self.owner, &attempt, &state, &record]).await.map(drop)
    }

    async fn find(&self, id: &str) -> Result<Option<Noted<CreateEvaluationRequest>>, Error> {
        self.connection.query(FIND, &[&id]).await?.first().map(read).transpose()
    }

    async fn list(&self, size: usize, before: Option<u64>) -> Result<Vec<Noted<CreateEvaluationRequest>>, Error> {
        let before = before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
        let most = i64::try_from(size).unwrap_or(i64::MAX);
        self.connection.query(LIST, &[&before, &most]).await?.iter().map(read).collect()
    }

    async fn ask_to_cancel(&self, id: &str) -> Result<(), Error> {
        self.connection.query(ASK_TO_CANCEL, &[&id]).await.map(drop)
    }

    async fn forget(&self, keep: usize) -> Result<(), Error> {
        let keep = i64::try_from(keep).unwrap_or(i64::MAX);
        self.connection.query(FORGET, &[&keep]).await.map(drop)
    }
}

/// Adds a job where fewer than `most` wait. The lock makes the count exact, and the numbers those in which jobs come to be seen.
async fn add(client: &mut Client, job: Noted<CreateEvaluationRequest>, most: usize) -> Result<Added, tokio_postgres::Error> {
    let change = client.transaction().await?;
    schema::lock(&change).await?;
    let waiting = change.query_one(WAITING, &[]).await?.try_get::<_, i64>(0)? as usize;
    if waiting >= most {
        return Ok(Added::Full(waiting));
    }
    let (id, state) = (job.id.clone(), word(job.snapshot.state));
    let row = change.query_one(ADD, &[&id, &state, &convert::evaluation(job).encode_to_vec()]).await?;
    let number = row.try_get::<_, i64>(0)?;
    change.commit().await?;
    Ok(Added::As(number as u64))
}

fn key(lease: &Lease) -> (i64, i32) {
    (lease.number as i64, lease.attempt as i32)
}

fn word(state: State) -> &'static str {
    match state {
        State::Queued => "queued",
        State::Running => "running",
        State::Succeeded => "succeeded",
        State::Failed => "failed",
        State::Cancelled => "cancelled",
    }
}

fn read(row: &Row) -> Result<Noted<CreateEvaluationRequest>, Error> {
    let number = column::<i64>(row, "number")?;
    let record = column::<&[u8]>(row, "record")?;
    let broken = |reason: String| Error::Database(format!("the evaluation {number}: {reason}"));
    let evaluation = Evaluation::decode(record).map_err(|error| broken(error.to_string()))?;
    convert::noted(number as u64, evaluation).map_err(broken)
}

fn column<'a, T: FromSql<'a>>(row: &'a Row, name: &str) -> Result<T, Error> {
    row.try_get(name).map_err(|error| Error::Database(error.to_string()))
}
