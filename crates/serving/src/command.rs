//! A service's own program: flags, configuration, logs, listener, service, drain, exit code.

use std::{io::Write, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, FromArgMatches};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::{
    component::Component,
    config::{self, Layers, Loaded, Override, ServerConfig, Validate},
    server::{self, Server},
    signals::Signals,
    telemetry,
};

/// How long threads that block may take to end after everything else.
const LAST: Duration = Duration::from_secs(2);

/// Exit codes, as in sysexits.h.
pub mod exit {
    /// The flags or the configuration are wrong.
    pub const USAGE: u8 = 64;
    /// A fault of the program's own.
    pub const SOFTWARE: u8 = 70;
    /// The address cannot be listened on.
    pub const IO: u8 = 74;
    /// A second signal ended the program before its calls had finished.
    pub const INTERRUPTED: u8 = 130;
    /// A library or a model is missing or broken.
    pub const CONFIG: u8 = 78;
}

/// What a program is.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its name.
    pub name: &'static str,
    /// One line about it.
    pub summary: &'static str,
    /// The contracts' encoded descriptors, for reflection.
    pub descriptors: &'static [u8],
}

/// A configuration that has a section `[server]`.
pub trait HasServer {
    /// The section.
    fn server(&self) -> &ServerConfig;
}

/// Why the services could not be built.
#[derive(Debug)]
pub struct BuildError {
    /// What is wrong, for a person.
    pub message: String,
    /// Whether it is for the operator to mend: a missing library, a broken model.
    pub is_setup: bool,
}

/// The flags that every serving program has.
#[derive(Clone, Debug, Default, Args)]
pub struct Flags {
    /// A configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Set a key of the configuration, such as `server.drain_seconds=5`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Serve what works: report broken model folders and leave them out
    #[arg(long)]
    pub keep_going: bool,
    /// Print the configuration with the source of each value, and exit
    #[arg(long)]
    pub print_config: bool,
}

impl Flags {
    /// The configuration that these flags, the environment and the file give together.
    pub fn load<T: DeserializeOwned + Validate>(&self, defaults: &[&str]) -> Result<Loaded<T>, config::ConfigError> {
        let mut overrides = Vec::new();
        let mut faults = Vec::new();
        for setting in &self.set {
            match setting.split_once('=') {
                Some((key, value)) => overrides.push(Override { key: key.trim().to_owned(), value: value.to_owned(), flag: "--set".to_owned() }),
                None => faults.push(format!("flag --set: '{setting}': must be KEY=VALUE")),
            }
        }
        if let Some(listen) = &self.listen {
            overrides.push(Override { key: "server.listen".to_owned(), value: listen.clone(), flag: "--listen".to_owned() });
        }
        if self.keep_going {
            overrides.push(Override { key: "models.keep_going".to_owned(), value: "true".to_owned(), flag: "--keep-going".to_owned() });
        }
        let loaded = config::load(&Layers { defaults, file: self.config.clone(), environment: config::environment(), overrides });
        match loaded {
            Ok(loaded) if faults.is_empty() => Ok(loaded),
            Ok(_) => Err(config::ConfigError(faults)),
            Err(config::ConfigError(others)) => Err(config::ConfigError([faults, others].concat())),
        }
    }
}

/// Runs a service's own program from its flags to its exit code.
pub fn main_with<T, B>(about: About, defaults: &[&str], build: B) -> ExitCode
where
    T: DeserializeOwned + Validate + HasServer,
    B: AsyncFnOnce(&T, &Server) -> Result<Vec<Component>, BuildError>,
{
    let command = Flags::augment_args(clap::Command::new(about.name).about(about.summary).version(env!("CARGO_PKG_VERSION")));
    let flags = match command.try_get_matches().and_then(|matches| Flags::from_arg_matches(&matches)) {
        Ok(flags) => flags,
        Err(error) => return usage(&error),
    };
    run(about, &flags, defaults, build)
}

/// Prints what clap has to say; help and versions are no errors.
pub fn usage(error: &clap::Error) -> ExitCode {
    drop(error.print());
    if error.use_stderr() { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS }
}

/// Runs services with these flags until a signal.
pub fn run<T, B>(about: About, flags: &Flags, defaults: &[&str], build: B) -> ExitCode
where
    T: DeserializeOwned + Validate + HasServer,
    B: AsyncFnOnce(&T, &Server) -> Result<Vec<Component>, BuildError>,
{
    let loaded: Loaded<T> = match flags.load(defaults) {
        Ok(loaded) => loaded,
        Err(error) => return fail(about.name, &error.to_string(), exit::USAGE),
    };
    if flags.print_config {
        return say(&loaded.print());
    }
    telemetry::metrics();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(about.name, &error.to_string(), exit::SOFTWARE),
    };
    let code = runtime.block_on(serve(about, &loaded.value, build));
    // A thread that still blocks must not keep the process.
    runtime.shutdown_timeout(LAST);
    code
}

async fn serve<T, B>(about: About, settings: &T, build: B) -> ExitCode
where
    T: HasServer,
    B: AsyncFnOnce(&T, &Server) -> Result<Vec<Component>, BuildError>,
{
    let config = settings.server();
    if let Err(error) = telemetry::start(about.name, &config.log, &config.traces) {
        return fail(about.name, &error, exit::USAGE);
    }
    // From here on a signal is never lost, however early it comes.
    let signals = match Signals::receive() {
        Ok(signals) => signals,
        Err(error) => return fail(about.name, &format!("signals cannot be received: {error}"), exit::SOFTWARE),
    };
    let server = match Server::bind(config).await {
        Ok(server) => server,
        Err(error @ server::Error::Security(_)) => return fail(about.name, &error.to_string(), exit::CONFIG),
        Err(error) => return fail(about.name, &error.to_string(), exit::IO),
    };
    let components = match build(settings, &server).await {
        Ok(components) => components,
        Err(error) => return fail(about.name, &error.message, if error.is_setup { exit::CONFIG } else { exit::SOFTWARE }),
    };
    say(&format!("{} ready on {}\n", about.name, server.local_addr()));
    let outcome = Box::pin(serve_until_signal(server, components, about.descriptors, signals)).await;
    telemetry::finish();
    match outcome {
        Ok(End::Drained) => ExitCode::SUCCESS,
        Ok(End::Interrupted) => fail(about.name, "a second signal: calls in progress were given up", exit::INTERRUPTED),
        Err(error) => fail(about.name, &error.to_string(), exit::SOFTWARE),
    }
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Everything accepted was answered, or cut at the drain's limit.
    Drained,
    /// A second signal ended it at once.
    Interrupted,
}

/// Serves until SIGTERM or Ctrl-C, then drains; a second signal ends at once.
async fn serve_until_signal(
    server: Server,
    components: Vec<Component>,
    descriptors: &'static [u8],
    mut signals: Signals,
) -> Result<End, server::Error> {
    let shutdown = CancellationToken::new();
    let asked = async {
        signals.next().await;
        tracing::info!("shutting down: calls in progress may finish; a second signal ends them");
        shutdown.cancel();
        signals.next().await;
    };
    tokio::select! {
        outcome = server.serve(components, descriptors, shutdown.clone()) => outcome.map(|()| End::Drained),
        () = asked => Ok(End::Interrupted),
    }
}

fn fail(name: &str, message: &str, code: u8) -> ExitCode {
    // Nothing is left to do where standard error is closed.
    drop(writeln!(std::io::stderr(), "{name}: {message}"));
    ExitCode::from(code)
}

fn say(text: &str) -> ExitCode {
    let mut out = std::io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(exit::IO) }
}
