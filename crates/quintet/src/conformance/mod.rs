//! The conformance kit: holds any implementation of a service to `docs/contract.md`, over the wire.
//!
//! A check is a small function, named after what must hold and registered in a table with its rule's number. It knows the contract
//! and nothing else: models, lengths, labels and vocabularies are what the target says of itself. A check that the target cannot show
//! (it has no model of the kind, no chat template) is skipped, and says why.

mod anomaly;
mod check;
mod evaluation;
mod every;
mod image;
mod junit;
mod report;
mod service;
mod target;
mod text;
mod tokenization;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use futures_util::future::BoxFuture;

use self::{
    check::{Check, Checked, Verdict},
    report::{Case, Counts, Suite},
    service::Service,
    target::Target,
};
use crate::client::{Connection, Error};

const EXAMPLES: &str = "\
Examples:
  quintet conformance --target 127.0.0.1:50051
  quintet conformance --service tokenization --target 127.0.0.1:50061 --junit report.xml
  quintet conformance --service text --model gpt-english --only X --only S

Exit codes: 1 a rule does not hold, 64 a wrong flag, 69 the target cannot be reached.";

/// Hold an implementation of a service to its contract
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// The service: tokenization, text, image, anomaly, evaluation or all; may be given several times. Default: those that the
    /// target has
    #[arg(long = "service", value_name = "SERVICE", value_parser = parse_service)]
    services: Vec<Asked>,
    /// The model to ask, where a check needs no special one. Default: the target's default one
    #[arg(long, default_value = "")]
    model: String,
    /// Only this rule (K4), or all of a letter (K); may be given several times
    #[arg(long, value_name = "RULE")]
    only: Vec<String>,
    /// Seconds that one check may take
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Where the report is written once more, for continuous integration.
    #[arg(long, value_name = "FILE", help = "Write the report as JUnit XML too")]
    junit: Option<PathBuf>,
}

/// What `--service` names.
#[derive(Clone, Copy, Debug)]
enum Asked {
    All,
    One(Service),
}

fn parse_service(name: &str) -> Result<Asked, String> {
    let known = || Service::ALL.map(Service::name).join(", ");
    if name == "all" {
        return Ok(Asked::All);
    }
    Service::ALL.into_iter().find(|service| service.name() == name).map(Asked::One).ok_or_else(|| format!("there are {} and all", known()))
}

/// Runs the checks of the services asked for.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Error> {
    let Arguments { connection, services, model, only, timeout, junit } = arguments;
    let (address, json) = (connection.address().to_owned(), connection.json);
    let channel = connection.open().await?;
    let target = Target::new(connection, channel, model);
    let services = match services.as_slice() {
        [] => every::health::served(&target).await.map_err(|reason| Error::Unreachable { address: address.clone(), reason })?,
        asked if asked.iter().any(|asked| matches!(asked, Asked::All)) => Service::ALL.to_vec(),
        asked => Service::ALL.into_iter().filter(|service| asked.iter().any(|asked| matches!(asked, Asked::One(one) if one == service))).collect(),
    };
    if services.is_empty() {
        return Err(Error::Usage(format!("{address} names none of the services: say which one it is with --service")));
    }
    let mut suites = Vec::new();
    for service in services {
        report::begin(service, &address, json)?;
        let mut course = Course { service, only: &only, limit: Duration::from_secs(timeout), json, cases: Vec::new() };
        hold(service, &target, &mut course).await?;
        suites.push(Suite { service, cases: course.cases });
    }
    report::end(&suites, json)?;
    if let Some(path) = junit {
        let failed = |error: std::io::Error| Error::File { path: path.display().to_string(), reason: error.to_string() };
        std::fs::write(&path, junit::xml(&suites).map_err(failed)?).map_err(failed)?;
    }
    match Counts::of(&suites) {
        Counts { failed: 0, passed: 0, skipped: 0 } => Err(Error::Usage(format!("--only {}: the kit has no such rule", only.join(" --only ")))),
        Counts { failed: 0, .. } => Ok(()),
        Counts { failed, .. } => Err(Error::Nonconforming(failed)),
    }
}

/// Holds a target to a service's contract: first to what its listing must say, on which the other checks build.
async fn hold(service: Service, target: &Target, course: &mut Course<'_>) -> Result<(), Error> {
    macro_rules! hold {
        ($service:ident) => {{
            if let Some(subject) = course.prepare($service::Subject::find(target)).await? {
                course.run(&subject.ground, every::CHECKS).await?;
                course.run(&subject, $service::CHECKS).await?;
            }
        }};
    }
    match service {
        Service::Tokenization => hold!(tokenization),
        Service::Text => hold!(text),
        Service::Image => hold!(image),
        Service::Anomaly => hold!(anomaly),
        Service::Evaluation => hold!(evaluation),
    }
    Ok(())
}

/// The checks of one service, as they are made.
struct Course<'a> {
    service: Service,
    /// Rules or letters of rules; empty = all.
    only: &'a [String],
    limit: Duration,
    json: bool,
    cases: Vec<Case>,
}

impl Course<'_> {
    /// Finds out what the target has. Where that fails, nothing else can be checked.
    async fn prepare<S>(&mut self, find: impl Future<Output = Result<S, Verdict>>) -> Result<Option<S>, Error> {
        let begun = Instant::now();
        let found = tokio::time::timeout(self.limit, find).await.unwrap_or_else(|_| Err(self.hangs()));
        match found {
            Ok(subject) => Ok(Some(subject)),
            Err(verdict) => {
                // A service without its listing is not skipped in silence.
                let seen = match verdict {
                    Verdict::Failed(seen) | Verdict::Skipped(seen) => seen,
                };
                let says = "The listing rpc names what is loaded, and a small request of it is answered.";
                self.note(Case { rule: "N1", says, verdict: Some(Verdict::Failed(seen)), took: begun.elapsed() })?;
                Ok(None)
            }
        }
    }

    async fn run<S>(&mut self, subject: &S, checks: &[Check<S>]) -> Result<(), Error> {
        for Check { rule, says, run } in checks {
            if !self.asks_for(rule) {
                continue;
            }
            let begun = Instant::now();
            let checked = self.within(run(subject)).await;
            self.note(Case { rule, says, verdict: checked.err(), took: begun.elapsed() })?;
        }
        Ok(())
    }

    async fn within(&self, check: BoxFuture<'_, Checked>) -> Checked {
        tokio::time::timeout(self.limit, check).await.unwrap_or_else(|_| Err(self.hangs()))
    }

    fn hangs(&self) -> Verdict {
        Verdict::Failed(format!("no end within {} s", self.limit.as_secs()))
    }

    fn note(&mut self, case: Case) -> Result<(), Error> {
        report::line(self.service, &case, self.json)?;
        self.cases.push(case);
        Ok(())
    }

    /// Whether a rule is to be held: all are, or it is named, or its letter is.
    fn asks_for(&self, rule: &str) -> bool {
        let letter = rule.trim_end_matches(|character: char| character.is_ascii_digit());
        self.only.is_empty() || self.only.iter().any(|only| only == rule || only == letter)
    }
}
