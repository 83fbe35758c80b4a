use std::{fmt, sync::Arc};

use ort::session::{NoSelectedOutputs, RunOptions};

/// Ends a session's present run from another thread, between two of its kernels.
///
/// The flag stays set until the session's owner begins its next run, so that a cancellation that comes just
/// before a run is not lost: see [`Session::arm`](crate::Session::arm).
#[derive(Clone)]
pub struct Canceller(pub(crate) Arc<RunOptions<NoSelectedOutputs>>);

impl Canceller {
    /// Ends the run. Does nothing where none is under way.
    pub fn cancel(&self) {
        if let Err(error) = self.0.terminate() {
            tracing::warn!(error = error.message(), "a run cannot be cancelled");
        }
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Canceller")
    }
}
