//! Clients at work: each makes one call after another, and holds every answer against the undisturbed one.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinSet};

use super::{
    calls::{Failure, Kind},
    jobs::Jobs,
    sites::Sites,
};

/// How long anything that is waited for may take at most.
const PATIENCE: Duration = Duration::from_mins(2);

/// What a client waits between two calls, so that those of a millisecond leave the processors to those of a second.
const PAUSE: Duration = Duration::from_millis(20);

/// How many of a client's calls went right and wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) right: u64,
    pub(super) wrong: u64,
}

/// A call that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) kind: Kind,
    pub(super) took: Duration,
    pub(super) failure: Option<Failure>,
}

/// Clients, one for each kind of call.
pub(super) struct Crew {
    stop: watch::Sender<bool>,
    tallies: Vec<(Kind, watch::Receiver<Tally>)>,
    clients: JoinSet<Vec<Ended>>,
}

impl Crew {
    /// Sends clients to work, which expect these answers.
    pub(super) fn at_work(sites: &Sites, expected: &BTreeMap<Kind, String>, jobs: &Arc<Jobs>) -> Self {
        let stop = watch::Sender::new(false);
        let (mut tallies, mut clients) = (Vec::new(), JoinSet::new());
        for (&kind, answer) in expected {
            let (tally, seen) = watch::channel(Tally::default());
            tallies.push((kind, seen));
            let (channel, answer, jobs, stop) = (kind.channel(sites), answer.clone(), Arc::clone(jobs), stop.subscribe());
            clients.spawn(async move {
                let mut calls = Vec::new();
                while !*stop.borrow() {
                    let began = Instant::now();
                    let made = tokio::time::timeout(PATIENCE, kind.make(channel.clone(), &answer, &jobs)).await;
                    let made = made.unwrap_or_else(|_| panic!("{kind:?}: a call has no outcome"));
                    let took = began.elapsed();
                    match made {
                        Ok(given) => {
                            assert_eq!(given, answer, "{kind:?}: another answer than before");
                            calls.push(Ended { kind, took, failure: None });
                            tally.send_modify(|tally| tally.right += 1);
                        }
                        Err(failure) => {
                            calls.push(Ended { kind, took, failure: Some(failure) });
                            tally.send_modify(|tally| tally.wrong += 1);
                        }
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                calls
            });
        }
        Self { stop, tallies, clients }
    }

    /// Waits until each client of these kinds has so many more calls behind it as `enough` asks for, given what it had.
    pub(super) async fn until(&self, what: &str, kinds: impl Fn(Kind) -> bool, enough: impl Fn(Tally, Tally) -> bool) {
        let before: Vec<(Kind, Tally, watch::Receiver<Tally>)> =
            self.tallies.iter().filter(|(kind, _)| kinds(*kind)).map(|(kind, seen)| (*kind, *seen.borrow(), seen.clone())).collect();
        for (kind, then, mut seen) in before {
            let reached = tokio::time::timeout(PATIENCE, seen.wait_for(|now| enough(then, *now))).await;
            let had = reached.is_ok_and(|reached| reached.is_ok());
            assert!(had, "{kind:?}: {what}: had {then:?}, has {:?}", *seen.borrow());
        }
    }

    /// Waits until each client of these kinds had a call, begun after this, that went right.
    pub(super) async fn until_right(&self, what: &str, kinds: impl Fn(Kind) -> bool) {
        // The first may have begun before.
        self.until(what, kinds, |then, now| now.right >= then.right + 2).await;
    }

    /// Lets the calls under way end, and gives all that were made.
    pub(super) async fn rest(self) -> Vec<Ended> {
        self.stop.send_replace(true);
        self.clients.join_all().await.into_iter().flatten().collect()
    }
}
