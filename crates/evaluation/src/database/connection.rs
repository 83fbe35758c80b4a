//! One connection to the database, made when it is first needed and again whenever it has to be.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as Turn, MutexGuard},
    time::{Instant, timeout},
};
use tokio_postgres::{
    Client, Config, NoTls, Row,
    config::{SslMode, TargetSessionAttrs},
    types::ToSql,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    address::{Address, Tls},
    schema::{self, Fault},
    tls::Rustls,
};
use crate::Error;

/// How long connecting may take, one statement, and waiting for those before it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What every session begins with. A process that is held up in the midst of something must not hold up others.
const BEGIN: &str = "SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '10s'; SET synchronous_commit = on";

/// Classes of `SQLSTATE` that pass by themselves: the connection, a server that may only be read, a transaction that lost against another,
/// resources, a server that starts or stops, its system.
const PASSING: [&str; 6] = ["08", "25", "40", "53", "57", "58"];

/// The most notes that are kept of jobs of which nobody knows whether they were noted.
const MOST_UNSURE: usize = 1024;

/// The way to a database, and how it fares.
#[derive(Debug)]
pub(super) struct Connection {
    address: Address,
    /// A file with the password, in place of the URL's; empty = none. It is read at each connect.
    password_file: PathBuf,
    tls: Option<Rustls>,
    session: Turn<Option<Session>>,
    standing: Arc<Standing>,
    unsure: Mutex<Vec<String>>,
    tasks: TaskTracker,
}

/// A connection that stands.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    /// Since when, where there was another before it.
    renewed: Option<Instant>,
    /// Ends the task that moves its bytes.
    _end: DropGuard,
}

/// Whether the database answered when it was asked last, and why not.
#[derive(Debug, Default)]
pub(crate) struct Standing(Mutex<Option<Result<(), String>>>);

impl Standing {
    /// Whether it answered.
    pub(crate) fn is_reachable(&self) -> bool {
        matches!(*self.0.lock().unwrap_or_else(PoisonError::into_inner), Some(Ok(())))
    }

    /// Notes how it stands, and logs what is new.
    fn set(&self, now: Result<(), String>) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref() == Some(&now) {
            return;
        }
        match &now {
            Ok(()) => tracing::info!("the database of the evaluations answers"),
            Err(reason) => tracing::warn!(reason, "the database of the evaluations cannot be reached"),
        }
        *last = Some(now);
    }
}

impl Connection {
    /// The way to a database. Nothing is connected yet.
    pub(super) fn new(address: Address, password_file: PathBuf, tls: Option<Rustls>, tasks: TaskTracker) -> Self {
        Self { address, password_file, tls, session: Turn::default(), standing: Arc::default(), unsure: Mutex::default(), tasks }
    }

    pub(super) fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing)
    }

    /// What one statement gives.
    pub(super) async fn query(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        let mut turn = self.turn().await?;
        let asked = match &*turn {
            Some(session) => timeout(PATIENCE, session.client.query(sql, values)).await,
            None => return Err(Error::Unreachable),
        };
        self.settle(&mut turn, asked.map_err(|_| None).and_then(|answer| answer.map_err(Some)))
    }

    /// Whether the connection has stood for so long, or is the first. After an outage all processes come back at about the same time, and
    /// who ran a job must have had the time to say so before another takes it for lost.
    pub(super) async fn has_stood(&self, least: Duration) -> Result<bool, Error> {
        let turn = self.turn().await?;
        Ok(turn.as_ref().is_some_and(|session| session.renewed.is_none_or(|since| since.elapsed() >= least)))
    }

    /// The connection, once it is this caller's turn.
    pub(super) async fn turn(&self) -> Result<MutexGuard<'_, Option<Session>>, Error> {
        let mut turn = timeout(PATIENCE, self.session.lock()).await.map_err(|_| Error::Unreachable)?;
        if turn.as_ref().is_none_or(|session| session.client.is_closed()) {
            let was_there = turn.take().is_some() || self.standing.0.lock().unwrap_or_else(PoisonError::into_inner).is_some();
            let connected = timeout(PATIENCE, self.connect(was_there)).await.unwrap_or_else(|_| Err(NO_ANSWER.to_owned()));
            *turn = Some(connected.map_err(|reason| {
                self.standing.set(Err(reason));
                Error::Unreachable
            })?);
            self.standing.set(Ok(()));
        }
        Ok(turn)
    }

    /// What came of something that was asked; no error at all where it took too long. A connection that failed is given up.
    pub(super) fn settle<T>(
        &self,
        turn: &mut MutexGuard<'_, Option<Session>>,
        outcome: Result<T, Option<tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        let error = match outcome {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let reason = error.as_ref().map_or_else(|| NO_ANSWER.to_owned(), chain);
        let code = error.as_ref().and_then(tokio_postgres::Error::code).map(tokio_postgres::error::SqlState::code);
        let is_passing = code.is_none_or(|code| PASSING.iter().any(|class| code.starts_with(class)));
        if !is_passing {
            return Err(Error::Database(reason));
        }
        **turn = None;
        self.standing.set(Err(reason));
        Err(Error::Unreachable)
    }

    /// Remembers a job that was perhaps noted though its client was told otherwise: it is taken back at the next connect.
    pub(super) fn take_back(&self, id: String) {
        let mut unsure = self.unsure.lock().unwrap_or_else(PoisonError::into_inner);
        if unsure.len() < MOST_UNSURE {
            unsure.push(id);
        }
    }

    async fn connect(&self, was_there: bool) -> Result<Session, String> {
        let Address { host, port, database, user, password, tls, .. } = &self.address;
        let mut config = Config::new();
        config.host(host).port(*port).dbname(database).user(user).application_name("quintet-evaluation");
        config.connect_timeout(PATIENCE).tcp_user_timeout(PATIENCE).keepalives_idle(PATIENCE * 6);
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.ssl_mode(if *tls == Tls::Disable { SslMode::Disable } else { SslMode::Require });
        if !self.password_file.as_os_str().is_empty() {
            let read = tokio::fs::read(&self.password_file).await;
            let read = read.map_err(|error| format!("evaluation.database.password_file = {}: {error}", self.password_file.display()))?;
            config.password(read.trim_ascii_end());
        } else if let Some(password) = password {
            config.password(password);
        }
        let end = CancellationToken::new();
        let client = if let Some(tls) = &self.tls {
            let (client, moving) = config.connect(tls.clone()).await.map_err(|error| chain(&error))?;
            let over = end.clone().cancelled_owned();
            self.tasks.spawn(async move {
                tokio::select! { _ = moving => (), () = over => () }
            });
            client
        } else {
            let (client, moving) = config.connect(NoTls).await.map_err(|error| chain(&error))?;
            let over = end.clone().cancelled_owned();
            self.tasks.spawn(async move {
                tokio::select! { _ = moving => (), () = over => () }
            });
            client
        };
        let mut session = Session { client, renewed: was_there.then(Instant::now), _end: end.drop_guard() };
        session.client.batch_execute(BEGIN).await.map_err(|error| chain(&error))?;
        schema::ensure(&mut session.client).await.map_err(|fault| match fault {
            Fault::Database(error) => chain(&error),
            fault @ Fault::Version(_) => fault.to_string(),
        })?;
        let unsure = self.unsure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !unsure.is_empty() {
            take_back(&mut session.client, &unsure).await.map_err(|error| chain(&error))?;
            self.unsure.lock().unwrap_or_else(PoisonError::into_inner).retain(|id| !unsure.contains(id));
        }
        Ok(session)
    }
}

/// Deletes jobs that nobody was told of. A connection that is gone may be noting one still: it holds the lock while it does.
async fn take_back(client: &mut Client, ids: &[String]) -> Result<(), tokio_postgres::Error> {
    let change = client.transaction().await?;
    schema::lock(&change).await?;
    change.execute("DELETE FROM quintet_evaluations WHERE id = ANY($1)", &[&ids]).await?;
    change.commit().await
}

/// What is said of a database that is silent.
const NO_ANSWER: &str = "it does not answer in time";

/// An error with its causes. Neither has a password: this crate never puts one in them.
fn chain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
