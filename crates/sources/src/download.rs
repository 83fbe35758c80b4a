//! One file from a store into the cache.

use futures_util::StreamExt;

use crate::{
    Error,
    cache::{Cache, blocking, remove},
    evict::Room,
    fault::Fault,
    lock,
    partial::Partial,
    patience::Patience,
    store::Store,
};

/// A try that brought so much was none in vain: tries are counted anew.
const PROGRESS: u64 = 1 << 20;

/// One file that is to be fetched.
pub(crate) struct Download<'a> {
    /// Into which cache.
    pub(crate) cache: &'a Cache,
    /// From which folder.
    pub(crate) store: &'a Store,
    /// Its name there.
    pub(crate) name: &'a str,
    /// Its SHA-256 in lower-case hexadecimal.
    pub(crate) hash: &'a str,
    /// How often and how long it is tried.
    pub(crate) patience: &'a Patience,
    /// How much room there is, and for what.
    pub(crate) room: &'a Room,
    /// Is told the bytes there are, and those of the whole.
    pub(crate) progress: &'a (dyn Fn(u64, u64) + Send + Sync),
}

/// Why a try ended.
enum Stop {
    /// By something that another try may not meet.
    Fault(Fault),
    /// For good.
    Error(Error),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Download<'_> {
    /// Fetches the file, unless it is there. Goes on with what an earlier try left, whichever process made it.
    pub(crate) async fn run(&self) -> Result<(), Error> {
        if self.is_there().await? {
            return Ok(());
        }
        let file = lock::exclusive(&self.cache.partial(self.hash)).await?;
        // Whoever held the lock may have fetched it.
        if self.is_there().await? {
            return remove(&self.cache.partial(self.hash));
        }
        let mut partial = Partial::resume(self.cache, self.hash, file).await?;
        let mut resumed = partial.length() > 0;
        if resumed && partial.hash() == self.hash {
            return partial.adopt().await;
        }
        let (url, mut failed) = (self.store.shown(self.name), 0);
        loop {
            let before = partial.length();
            let outcome = self.attempt(&mut partial, &mut resumed).await;
            // What came is kept, however the try ended.
            let outcome = match (outcome, partial.flush().await) {
                (Ok(()) | Err(Stop::Fault(_)), Err(error)) => Err(Stop::Error(error)),
                (outcome, _) => outcome,
            };
            match outcome {
                Ok(()) if partial.hash() == self.hash => return partial.adopt().await,
                Ok(()) if resumed => {
                    tracing::warn!(url, "the file changed since its download began; it is fetched anew");
                    resumed = false;
                    partial.clear().await?;
                }
                Ok(()) => {
                    let actual = partial.hash();
                    partial.discard()?;
                    return Err(Error::Hash { url, expected: self.hash.to_owned(), actual });
                }
                Err(Stop::Error(error)) => {
                    if error.is_room() || matches!(error, Error::Overlong { .. }) {
                        partial.discard()?;
                    }
                    return Err(error);
                }
                Err(Stop::Fault(fault)) => {
                    failed = if partial.length().saturating_sub(before) >= PROGRESS { 1 } else { failed + 1 };
                    if failed >= self.patience.tries || !fault.passes() {
                        return Err(self.patience.give_up(fault, &url, failed));
                    }
                    resumed = resumed || partial.length() > 0;
                    self.patience.pause(failed, &url, &fault).await;
                }
            }
        }
    }

    async fn is_there(&self) -> Result<bool, Error> {
        let (cache, hash) = (self.cache.clone(), self.hash.to_owned());
        blocking(move || cache.check(&hash)).await.map(|size| size.is_some())
    }

    /// One try: asks for what is missing, and takes what comes.
    async fn attempt(&self, partial: &mut Partial, resumed: &mut bool) -> Result<(), Stop> {
        let mut answer = match self.patience.wait(self.store.get(self.name, partial.length())).await? {
            // It cannot begin in the middle, or is shorter than what is there.
            Err(Fault::Odd(_) | Fault::Status(416)) if partial.length() > 0 => {
                *resumed = false;
                partial.clear().await?;
                self.patience.wait(self.store.get(self.name, 0)).await??
            }
            answer => answer?,
        };
        let total = answer.total;
        let url = || self.store.shown(self.name);
        if total < partial.length() {
            return Err(Error::Overlong { url: url(), limit: total }.into());
        }
        partial.declared = total;
        let (room, cache, missing) = (self.room.clone(), self.cache.clone(), total - partial.length());
        blocking(move || room.make(&cache, total, missing)).await?;
        (self.progress)(partial.length(), total);
        while let Some(piece) = self.patience.wait(answer.stream.next()).await? {
            let piece = match piece {
                Err(Fault::Lost(reason)) => {
                    tracing::debug!(reason, "a download broke off");
                    break;
                }
                piece => piece?,
            };
            if partial.length() + piece.len() as u64 > total {
                return Err(Error::Overlong { url: url(), limit: total }.into());
            }
            if partial.push(&piece).await? {
                (self.progress)(partial.length(), total);
            }
        }
        if partial.length() < total {
            return Err(Fault::Short { received: partial.length(), declared: total }.into());
        }
        (self.progress)(total, total);
        Ok(())
    }
}
