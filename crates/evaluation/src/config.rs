use std::{fmt, path::PathBuf};

use quintet_onnx::{ModelsConfig, RuntimeConfig};
use quintet_serving::{
    command::HasServer,
    config::{PeersConfig, ServerConfig, Validate},
};
use serde::Deserialize;

use crate::database::Address;

/// The commented defaults of the section `[evaluation]`.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// Section `[evaluation]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the data sets are.
    pub datasets: PathBuf,
    /// The folder that evaluations are noted in; empty = none.
    pub journal: PathBuf,
    /// The database that evaluations are kept in, where replicas share them.
    pub database: DatabaseConfig,
    /// The text service's URL; empty = the one in this process.
    pub text_endpoint: String,
    /// The image service's URL; empty = the one in this process.
    pub image_endpoint: String,
    /// The anomaly service's URL; empty = the one in this process.
    pub anomaly_endpoint: String,
    /// Evaluations that run at once.
    pub max_running: usize,
    /// Evaluations that may wait.
    pub max_waiting: usize,
    /// Evaluations that have ended and are kept.
    pub keep_ended: usize,
    /// How long one call to another service may take.
    pub call_seconds: u64,
}

impl Config {
    /// Every setting that is out of range, in words.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut within = |key: &str, value: usize, least: usize, most: usize| {
            if !(least..=most).contains(&value) {
                faults.push(format!("evaluation.{key} = {value}: must be {least} to {most}"));
            }
        };
        within("max_running", self.max_running, 1, 64);
        within("max_waiting", self.max_waiting, 0, 4096);
        within("keep_ended", self.keep_ended, 1, 65_536);
        within("call_seconds", self.call_seconds as usize, 1, 86_400);
        if !self.database.url.is_empty() {
            if !self.journal.as_os_str().is_empty() {
                let journal = self.journal.display();
                faults.push(format!("evaluation.journal = '{journal}': evaluation.database.url is set too, and evaluations are noted in one place"));
            }
            faults.extend(self.database.validate());
        }
        faults
    }
}

/// Section `[evaluation.database]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// Where the database is; empty = there is none.
    pub url: DatabaseUrl,
    /// A file with the password, in place of the URL's; empty = none.
    pub password_file: PathBuf,
    /// The authorities that sign the database's certificate (PEM).
    pub ca_certificate: PathBuf,
    /// How long nothing may be heard of a process before others take its evaluations over.
    pub lease_seconds: u64,
}

impl DatabaseConfig {
    fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        match self.url.address() {
            // Its value may hold a password.
            Err(reason) => faults.push(format!("evaluation.database.url = …: {reason}")),
            Ok(address) => {
                if address.needs_authorities() && self.ca_certificate.as_os_str().is_empty() {
                    let way_out = "needs the authorities that signed the database's certificate (PEM), since sslmode=verify-full is the default; \
                                   sslmode=require encrypts without them";
                    faults.push(format!("evaluation.database.ca_certificate = '': {way_out}"));
                }
                if address.password.is_some() && !self.password_file.as_os_str().is_empty() {
                    let file = self.password_file.display();
                    faults.push(format!("evaluation.database.password_file = '{file}': the URL has a password too"));
                }
            }
        }
        if !(3..=3600).contains(&self.lease_seconds) {
            faults.push(format!("evaluation.database.lease_seconds = {}: must be 3 to 3600", self.lease_seconds));
        }
        faults
    }
}

/// The URL of a database, which may hold a password: it is never shown.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn address(&self) -> Result<Address, String> {
        Address::parse(&self.0)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "none" } else { "…" })
    }
}

/// The configuration of the evaluation service's own program.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Section `[server]`.
    pub server: ServerConfig,
    /// Section `[peers]`.
    pub peers: PeersConfig,
    /// Section `[runtime]`.
    pub runtime: RuntimeConfig,
    /// Section `[models]`.
    pub models: ModelsConfig,
    /// Section `[evaluation]`.
    pub evaluation: Config,
}

impl HasServer for Settings {
    fn server(&self) -> &ServerConfig {
        &self.server
    }
}

impl Validate for Settings {
    fn validate(&self) -> Vec<String> {
        [self.server.validate(), self.peers.validate(), self.models.validate(), self.evaluation.validate()].concat()
    }
}
