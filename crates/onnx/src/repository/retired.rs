use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often it is looked whether a model's last request has ended.
const LOOK: Duration = Duration::from_millis(2);

/// Models that were taken out of service and are freed when their last request has ended, on a thread of their own:
/// freeing a model waits for its threads, which no request's task should.
#[derive(Debug, Default)]
pub(super) struct Retired {
    /// How many have not been freed.
    left: Arc<(Mutex<usize>, Condvar)>,
}

impl Retired {
    /// Frees a model when nobody else holds it.
    pub(super) fn retire<T: Send + Sync + 'static>(&self, model: Arc<T>) {
        *lock(&self.left.0) += 1;
        let left = Arc::clone(&self.left);
        let free = move || {
            let mut model = model;
            loop {
                match Arc::try_unwrap(model) {
                    Ok(model) => break drop(model),
                    Err(still_held) => model = still_held,
                }
                std::thread::sleep(LOOK);
            }
            crate::native::give_memory_back();
            *lock(&left.0) -= 1;
            left.1.notify_all();
        };
        if let Err(error) = std::thread::Builder::new().name("retired".to_owned()).spawn(free) {
            // The model is freed by whoever held it last.
            *lock(&self.left.0) -= 1;
            tracing::warn!(%error, "no thread to free a model on");
        }
    }

    /// Waits until all have been freed, or the time is over. Whether all have.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut left = lock(&self.left.0);
        while *left > 0 {
            let Some(rest) = deadline.checked_duration_since(Instant::now()) else { return false };
            left = self.left.1.wait_timeout(left, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

fn lock(left: &Mutex<usize>) -> std::sync::MutexGuard<'_, usize> {
    left.lock().unwrap_or_else(PoisonError::into_inner)
}
