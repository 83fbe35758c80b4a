//! All services apart, while what can happen to one of them happens: it is killed, restarted, paused, cut off.
//!
//! Clients work on all of them meanwhile. Every call has one outcome, in bounded time; those that do not need the service never
//! fail; all succeed again when it is back, without a restart of others; answers are what they were; and no evaluation that was
//! accepted is lost.

mod calls;
mod crew;
mod jobs;
mod link;
mod sites;

use std::{collections::BTreeMap, sync::Arc};

use crate::harness::soaks;
use calls::Kind;
use crew::Crew;
use jobs::Jobs;
use sites::{Fault, Service, Sites};

/// The settings that bound how long a caller waits for a service that is not there, in seconds.
const BOUNDS: [(&str, u64); 3] = [("peers.connect_seconds", 1), ("peers.keep_alive_interval_seconds", 1), ("peers.keep_alive_timeout_seconds", 2)];

/// The services, what undisturbed calls give, and the evaluations so far.
struct Stage {
    sites: Sites,
    expected: BTreeMap<Kind, String>,
    jobs: Arc<Jobs>,
    _journal: tempfile::TempDir,
}

impl Stage {
    async fn set(kinds: &[Kind]) -> Self {
        let journal = tempfile::tempdir().unwrap();
        let sites = Sites::start(journal.path()).await;
        let jobs = Arc::new(Jobs::default());
        let mut expected = BTreeMap::new();
        for kind in kinds {
            let answer = kind.make(kind.channel(&sites), "", &jobs).await;
            expected.insert(*kind, answer.unwrap_or_else(|failure| panic!("{kind:?}: {failure:?}")));
        }
        Self { sites, expected, jobs, _journal: journal }
    }

    /// Lets a fault happen to a service, and ends it, while clients work.
    async fn play(&mut self, service: Service, fault: Fault) {
        let what = format!("{service:?} {fault:?}");
        let crew = Crew::at_work(&self.sites, &self.expected, &self.jobs);
        crew.until(&what, |_| true, |_, now| now.right > 0).await;
        self.sites.strike(service, fault);
        tokio::join!(
            crew.until(&what, |kind| kind.needs(service), |then, now| now.wrong > then.wrong),
            crew.until_right(&what, |kind| !kind.needs(service))
        );
        self.sites.mend(service, fault);
        crew.until_right(&format!("{what}, mended"), |_| true).await;
        for call in crew.rest().await {
            if let Some(failure) = &call.failure {
                assert!(call.kind.may(failure, service, fault), "{what}: {:?}: {failure:?}", call.kind);
                // How long one takes that goes right is up to the processors.
                assert!(call.took < call.kind.longest(), "{what}: {call:?}");
            }
        }
        self.jobs.check(self.sites.channel(Service::Evaluation)).await;
        self.sites.check_logs();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_goes_and_comes_takes_down_nothing_else() {
    let mut stage = Stage::set(&[Kind::Encode, Kind::Write, Kind::Stream, Kind::Draw, Kind::MeasureAnomaly]).await;
    for service in [Service::Tokenization, Service::Evaluation] {
        for fault in Fault::ALL {
            stage.play(service, fault).await;
        }
    }
}

/// Every service, every fault, every kind of call.
#[tokio::test(flavor = "multi_thread")]
async fn services_that_go_and_come_for_long_take_down_nothing_else() {
    if !soaks() {
        return;
    }
    let mut stage = Stage::set(&Kind::ALL).await;
    for service in Service::ALL {
        for fault in Fault::ALL {
            stage.play(service, fault).await;
        }
    }
}
