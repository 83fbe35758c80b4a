use std::sync::Arc;

use crate::{Cancel, Error, Full, Owner, Sessions, Ticket};

/// The instances of a model: copies of its sessions, each on a thread of its own. A job goes to the one with the
/// least to do.
#[derive(Debug)]
pub struct Instances<S> {
    owners: Vec<Owner<S>>,
}

impl<S: Sessions + 'static> Instances<S> {
    /// Starts `count` instances one after the other, the first of them with `open(true)`: what has to be checked once
    /// is checked there. Also gives what the first one tells of itself.
    pub fn spawn<T, E>(
        name: &str,
        count: usize,
        capacity: usize,
        open: impl Fn(bool) -> Result<(S, T), E> + Send + Sync + 'static,
    ) -> Result<(Self, T), E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let open = Arc::new(open);
        let shared = Arc::clone(&open);
        let (first, told) = Owner::spawn(name, capacity, move || shared(true))?;
        let mut owners = vec![first];
        for _ in 1..count {
            let shared = Arc::clone(&open);
            owners.push(Owner::spawn(name, capacity, move || shared(false))?.0);
        }
        Ok((Self { owners }, told))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.owners.len()
    }

    /// Hands a job to the instance with the least to do; see [`Owner::submit`].
    pub fn submit(&self, job: impl FnOnce(&mut S) + Send + 'static) -> Result<Ticket, Full> {
        self.least_busy()?.submit(job)
    }

    /// The same for a job that is told how it can be cancelled; see [`Owner::submit_cancellable`].
    pub fn submit_cancellable(&self, job: impl FnOnce(&mut S, &Cancel) + Send + 'static) -> Result<(), Full> {
        self.least_busy()?.submit_cancellable(job)
    }

    fn least_busy(&self) -> Result<&Owner<S>, Full> {
        self.owners.iter().min_by_key(|owner| owner.pending()).ok_or(Full)
    }
}
