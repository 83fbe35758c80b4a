//! Commands that call the services: one file for each service.

pub(crate) mod anomaly;
mod connection;
pub(crate) mod evaluate;
pub(crate) mod image;
pub(crate) mod key;
pub(crate) mod models;
mod output;
mod picture;
pub(crate) mod text;
pub(crate) mod tokenize;
pub(crate) mod top;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use tonic::Code;
use tonic_types::StatusExt;

pub(crate) use connection::{Channel, Connection, MAX_MESSAGE_BYTES};
pub(crate) use output::{print, print_json};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The service cannot be reached.
    #[error("no service answers at {address}: {reason}; start one with `quintet up`, or name another with --address")]
    Unreachable {
        /// Where.
        address: String,
        /// Why not.
        reason: String,
    },
    /// The service refused or failed.
    #[error("{}", describe(.0))]
    Refused(#[from] Box<tonic::Status>),
    /// A file cannot be read or written.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why not.
        reason: String,
    },
    /// The arguments do not make sense together.
    #[error("{0}")]
    Usage(String),
    /// An implementation does not keep its contract.
    #[error("{0} checks failed: the target does not keep its contract")]
    Nonconforming(usize),
    /// Standard output is closed.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// A status for a person: each field that is wrong on a line of its own.
fn describe(status: &tonic::Status) -> String {
    let fields = status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
    if fields.is_empty() {
        let code = status.code();
        return if code == Code::Unknown {
            status.message().to_owned()
        } else {
            format!("{}: {}", code.description().to_lowercase(), status.message())
        };
    }
    fields.iter().map(|field| format!("{}: {}", field.field, field.description)).collect::<Vec<_>>().join("\n")
}

/// Runs a command to its exit code.
pub(crate) fn run(command: impl Future<Output = Result<(), Error>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string(), 70),
    };
    match runtime.block_on(command) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever closed our output has what they wanted.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error @ Error::Usage(_)) => fail(&error.to_string(), 64),
        Err(error @ Error::Unreachable { .. }) => fail(&error.to_string(), 69),
        Err(error) => fail(&error.to_string(), 1),
    }
}

/// Shows the server's load until it is told to stop.
pub(crate) async fn watch(connection: &Connection, arguments: &top::Arguments) -> Result<(), Error> {
    top::run(arguments, connection.json, connection.address(), async || connection.metrics().await).await
}

fn fail(message: &str, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "quintet: {message}");
    ExitCode::from(code)
}
