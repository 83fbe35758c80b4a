//! How long a store is waited for, and how often it is tried.

use std::time::Duration;

use crate::{Error, fault::Fault};

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a store is waited for, and how often it is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Nothing comes for so long: the try has failed.
    pub(crate) stall: Duration,
    /// How often, at least once.
    pub(crate) tries: u32,
    /// The pause after the first failed try; each further one is twice as long.
    pub(crate) backoff: Duration,
}

impl Patience {
    /// Waits for something, as long as there is patience.
    pub(crate) async fn wait<T>(&self, what: impl Future<Output = T>) -> Result<T, Fault> {
        tokio::time::timeout(self.stall, what).await.map_err(|_| Fault::Stalled)
    }

    /// Pauses after so many failed tries, of `url` by `fault`.
    pub(crate) async fn pause(&self, failed: u32, url: &str, fault: &Fault) {
        let pause = self.backoff.saturating_mul(1 << (failed.saturating_sub(1)).min(16)).min(LONGEST_PAUSE);
        tracing::warn!(url, ?fault, failed, tries = self.tries, pause_ms = pause.as_millis() as u64, "a model source failed; it is tried again");
        tokio::time::sleep(pause).await;
    }

    /// Tries until it works, makes no sense, or was tried often enough.
    pub(crate) async fn retry<T, F: Future<Output = Result<T, Fault>>>(&self, url: &str, mut attempt: impl FnMut() -> F) -> Result<T, Error> {
        let mut failed = 0;
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(fault) => {
                    failed += 1;
                    if failed >= self.tries || !fault.passes() {
                        return Err(self.give_up(fault, url, failed));
                    }
                    self.pause(failed, url, &fault).await;
                }
            }
        }
    }

    /// The error of the last try.
    pub(crate) fn give_up(&self, fault: Fault, url: &str, tries: u32) -> Error {
        let url = url.to_owned();
        match fault {
            Fault::Status(status) => Error::Status { url, status, way_out: way_out(status) },
            Fault::Lost(reason) => Error::Unreachable { url, reason, tries },
            Fault::Stalled => Error::Stalled { url, stall: self.stall, tries },
            Fault::Short { received, declared } => Error::Truncated { url, received, declared, tries },
            Fault::Odd(reason) => Error::Unusable { url, reason },
        }
    }
}

fn way_out(status: u16) -> &'static str {
    match status {
        401 | 403 => "check that the credentials in the environment (AWS_…, GOOGLE_…, AZURE_…, HF_TOKEN) are there and may read it",
        404 | 410 => "check the address, and that what the manifest lists was uploaded",
        408 | 429 => "the store is busy: try again later",
        500.. => "the store has a fault of its own: try again later",
        _ => "check the address",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { stall: Duration::from_secs(10), tries: 4, backoff: Duration::from_secs(1) };

    async fn tried(fault: Fault) -> (u32, Duration, String) {
        let (mut count, began) = (0, tokio::time::Instant::now());
        let outcome = PATIENCE.retry("s3://b/m", || {
            count += 1;
            std::future::ready(Err::<(), _>(fault.clone()))
        });
        let error = outcome.await.unwrap_err().to_string();
        (count, began.elapsed(), error)
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_tried_again_with_growing_pauses() {
        let (count, took, error) = tried(Fault::Status(503)).await;
        assert_eq!((count, took), (4, Duration::from_secs(1 + 2 + 4)));
        assert!(error.contains("s3://b/m was answered with status 503"), "{error}");
        assert_eq!(tried(Fault::Lost("refused".into())).await.0, 4);
        assert_eq!(tried(Fault::Status(429)).await.0, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_pass_is_tried_once() {
        assert_eq!(tried(Fault::Status(404)).await.0, 1);
        assert_eq!(tried(Fault::Status(403)).await.0, 1);
        assert_eq!(tried(Fault::Odd("no length".into())).await.0, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_comes_is_given_up() {
        let outcome = PATIENCE.retry("s3://b/m", || PATIENCE.wait(std::future::pending::<()>())).await;
        assert!(matches!(outcome, Err(Error::Stalled { tries: 4, .. })));
    }
}
