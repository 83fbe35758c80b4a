use std::time::Duration;

use serde_json::json;

use super::{check::Verdict, service::Service};
use crate::client::{Error, print, print_json};

/// Rules that cannot be seen from outside, or not without harm to the target.
const NOT_SHOWN: [(&str, &str); 10] = [
    ("O3", "a stopped server, a replaced model, a dead service behind: the kit stops nothing"),
    ("D1", "that a deadline goes along to services behind"),
    ("D3", "the end of a connection"),
    ("N2", "one version from a call's beginning to its end: the kit replaces no model"),
    ("D2", "what a cancellation frees, but for streams of text; L5 likewise"),
    ("H2", "that nothing is loaded after readiness"),
    ("S1", "that what was answered before a failure stays true"),
    ("S6", "how much is held for a client that does not read"),
    ("T1", "SIGTERM"),
    ("T2", "a service behind that goes and comes back"),
];

/// What a service was held to.
#[derive(Debug)]
pub(super) struct Suite {
    pub(super) service: Service,
    pub(super) cases: Vec<Case>,
}

/// A check that was made.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) rule: &'static str,
    pub(super) says: &'static str,
    /// Why it did not pass, if it did not.
    pub(super) verdict: Option<Verdict>,
    pub(super) took: Duration,
}

/// How many checks ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

impl Suite {
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for case in &self.cases {
            match case.verdict {
                None => counts.passed += 1,
                Some(Verdict::Failed(_)) => counts.failed += 1,
                Some(Verdict::Skipped(_)) => counts.skipped += 1,
            }
        }
        counts
    }

    pub(super) fn seconds(&self) -> f64 {
        self.cases.iter().map(|case| case.took.as_secs_f64()).sum()
    }
}

impl Counts {
    pub(super) fn of(suites: &[Suite]) -> Self {
        suites.iter().map(Suite::counts).fold(Self::default(), |sum, counts| Self {
            passed: sum.passed + counts.passed,
            failed: sum.failed + counts.failed,
            skipped: sum.skipped + counts.skipped,
        })
    }
}

/// Prints the beginning of a suite.
pub(super) fn begin(service: Service, address: &str, json: bool) -> Result<(), Error> {
    if json { Ok(()) } else { print(&format!("{} at {address}\n", service.full_name())) }
}

/// Prints a check as soon as it has been made.
pub(super) fn line(service: Service, case: &Case, json: bool) -> Result<(), Error> {
    let Case { rule, says, verdict, took } = case;
    let (outcome, detail) = match verdict {
        None => ("passed", ""),
        Some(Verdict::Failed(seen)) => ("failed", seen.as_str()),
        Some(Verdict::Skipped(reason)) => ("skipped", reason.as_str()),
    };
    if json {
        return print_json(&json!({
            "service": service.name(), "rule": rule, "says": says, "outcome": outcome, "detail": detail, "seconds": took.as_secs_f64(),
        }));
    }
    match verdict {
        None => print(&format!("  passed   {rule:<4} {says}\n")),
        Some(Verdict::Failed(_)) => print(&format!("  FAILED   {rule:<4} the contract says: {says}\n                seen: {detail}\n")),
        Some(Verdict::Skipped(_)) => print(&format!("  skipped  {rule:<4} {says}\n                {detail}\n")),
    }
}

/// Prints what the kit cannot show, and the sums.
pub(super) fn end(suites: &[Suite], json: bool) -> Result<(), Error> {
    if json {
        return Ok(());
    }
    print("not shown by this kit\n")?;
    for (rule, what) in NOT_SHOWN {
        print(&format!("           {rule:<4} {what}\n"))?;
    }
    let Counts { passed, failed, skipped } = Counts::of(suites);
    print(&format!("{passed} passed, {failed} failed, {skipped} skipped\n"))
}
