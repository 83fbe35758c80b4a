//! A fresh API key: printed once, and its hash for the server's key file.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf};

use clap::Args;
use quintet_serving::security::fresh_key;

use super::{Error, output::print};

/// Make an API key
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The tenant that it is for: its calls share one budget
    name: String,
    /// What it may do: "text" (a service), "text/Generate" (an rpc), "admin", "metrics", or "*" (everything but admin)
    #[arg(long = "scope", value_name = "SCOPE", default_value = "*")]
    scopes: Vec<String>,
    /// The server's key file, to which the key's hash is added; without it, the table is printed
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Error> {
    let Arguments { name, scopes, file } = arguments;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::Usage(format!("{name:?}: a key's name must be visible ASCII")));
    }
    let (key, table) = fresh_key(name, scopes);
    let Some(path) = file else { return print(&format!("# the key, which is shown this once: {key}\n{table}")) };
    let failed = |error: std::io::Error| Error::File { path: path.display().to_string(), reason: error.to_string() };
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(table.as_bytes()).map_err(failed)?;
    print(&format!("{key}\n"))
}
