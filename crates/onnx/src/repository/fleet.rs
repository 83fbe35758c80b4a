use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use super::{Hosting, Index, Repository};
use crate::Error;

/// How long a change waits for the last requests of what it took out of service before it answers.
const SETTLE: Duration = Duration::from_secs(10);

/// The models of all services of a process: what changes, changes in all of them or in none. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    /// In the order in which they take over: a service after those that it calls.
    services: Arc<Vec<Arc<dyn Hosting>>>,
    repository: Repository,
    /// Held while models change: one change at a time.
    changing: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("services", &self.services.len()).finish_non_exhaustive()
    }
}

impl Fleet {
    /// The services, each after those that it calls.
    pub fn new(repository: &Repository, services: Vec<Arc<dyn Hosting>>) -> Self {
        Self { services: Arc::new(services), repository: repository.clone(), changing: Arc::default() }
    }

    /// The repository that the models come from.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Loads a model, or replaces it by what its folders hold now. The versions that served before go on until the new ones
    /// are ready in every service, and for good where one fails. `false`: no service takes such a model. Where there is none and what
    /// comes from elsewhere could not be fetched, that is the error.
    pub fn load(&self, name: &str) -> Result<bool, Error> {
        let refilled = self.repository.refill();
        let loaded = self.change(name, true)?;
        self.settle();
        if loaded { Ok(true) } else { refilled.map(|()| false) }
    }

    pub(super) fn change(&self, name: &str, insist: bool) -> Result<bool, Error> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut staged = Vec::new();
        for service in self.services.iter() {
            staged.extend(service.stage(name, insist)?);
        }
        let found = !staged.is_empty();
        staged.into_iter().for_each(super::Staged::commit);
        Ok(found)
    }

    /// Takes a model out of service, and waits a while for its last requests. `false`: it was not loaded.
    pub fn unload(&self, name: &str) -> bool {
        let found = {
            let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            // Callers before those that they call.
            let found: Vec<bool> = self.services.iter().rev().map(|service| service.unload(name)).collect();
            found.contains(&true)
        };
        if !self.settle() {
            tracing::info!(model = name, "the model's last requests go on; its memory is given back when they end");
        }
        found
    }

    fn settle(&self) -> bool {
        self.services.iter().all(|service| service.settled(SETTLE))
    }

    /// Loads what is new or changed in the repository, and unloads what has gone. What fails is reported, once.
    pub fn refresh(&self) {
        // Why that failed is in the log by now.
        let _ = self.repository.refill();
        let there = match self.repository.names() {
            Ok(names) => names,
            Err(error) => return tracing::error!(%error, "the repository cannot be looked at; what serves goes on"),
        };
        for name in there.keys() {
            match self.change(name, false) {
                Ok(_) | Err(Error::FailedBefore { .. }) => (),
                Err(error) => tracing::error!(model = name, %error, "a model could not be loaded; what served before goes on"),
            }
        }
        let gone = |name: &String| !there.contains_key(name);
        let mut names: Vec<String> = self.services.iter().flat_map(|service| service.names()).filter(gone).collect();
        names.dedup();
        for name in names {
            self.unload(&name);
        }
    }

    /// Every version of every model, in order: those that are loaded, were loaded or failed, and those that are there.
    pub fn index(&self) -> Vec<Index> {
        let mut index: Vec<Index> = self.services.iter().flat_map(|service| service.index()).collect();
        for name in self.repository.names().unwrap_or_default().into_keys() {
            if !index.iter().any(|known| known.name == name) {
                let versions = self.repository.versions(&name).unwrap_or_default();
                index.extend(versions.into_iter().map(|folder| Index::unavailable(folder.name, folder.version, "not loaded")));
            }
        }
        // A model with a tokenizer is in two services: it is as ready as the less ready of them.
        index.sort_by(|a, b| (&a.name, &a.version, b.state as u8).cmp(&(&b.name, &b.version, a.state as u8)));
        index.dedup_by(|next, first| next.name == first.name && next.version == first.version);
        index
    }

    /// Looks at the repository again and again, on a thread of its own, until the poller is dropped.
    pub fn poll(&self, every: Duration) -> Result<Poller, Error> {
        let over = Arc::new((Mutex::new(false), Condvar::new()));
        let (fleet, told) = (self.clone(), Arc::clone(&over));
        let look = move || {
            let mut is_over = told.0.lock().unwrap_or_else(PoisonError::into_inner);
            while !*is_over {
                let (guard, waited) = told.1.wait_timeout(is_over, every).unwrap_or_else(PoisonError::into_inner);
                is_over = guard;
                if waited.timed_out() {
                    drop(is_over);
                    fleet.refresh();
                    is_over = told.0.lock().unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        let thread = std::thread::Builder::new().name("repository".to_owned()).spawn(look).map_err(|_| Error::Thread("repository".to_owned()))?;
        Ok(Poller { over, thread: Some(thread) })
    }
}

/// Looks at a repository until it is dropped.
#[derive(Debug)]
pub struct Poller {
    over: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Poller {
    fn drop(&mut self) {
        *self.over.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.over.1.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that looks at the repository panicked");
        }
    }
}
