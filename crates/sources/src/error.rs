use std::{io::ErrorKind, path::PathBuf, time::Duration};

/// What can go wrong between a URL and a model folder in the cache. URLs are shown without what may be secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Some of the URLs, or what the environment says about them, make no sense.
    #[error("models.sources: {}", .0.join("; "))]
    Urls(Vec<String>),
    /// The cache folder cannot be used.
    #[error("the model cache cannot be used: {doing} {}: {error}; name another folder with models.cache", path.display())]
    Cache {
        /// What was being done: "creating", "reading".
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// Why it failed.
        error: std::io::Error,
    },
    /// The disk is full.
    #[error(
        "the disk of the model cache {} is full: {needed} more bytes were needed; free some, or name another folder with models.cache",
        folder.display()
    )]
    DiskFull {
        /// The cache's folder.
        folder: PathBuf,
        /// How many bytes were still to be written.
        needed: u64,
    },
    /// What is needed does not fit the cache's limit.
    #[error("the models in use and those to be fetched need {needed} bytes, models.cache_bytes is {limit}: raise it, or name fewer models")]
    CacheLimit {
        /// The bytes needed.
        needed: u64,
        /// The most bytes that the cache may hold.
        limit: u64,
    },
    /// A server answered with an error.
    #[error("{url} was answered with status {status}: {way_out}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status; 404 also where another kind of store has nothing of that name.
        status: u16,
        /// What may help.
        way_out: &'static str,
    },
    /// A store cannot be reached, or breaks off again and again.
    #[error("{url} cannot be fetched: {reason} ({tries} tries)")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What the last try met.
        reason: String,
        /// How often it was tried.
        tries: u32,
    },
    /// A store sends nothing.
    #[error("{url} cannot be fetched: nothing came for {} s ({tries} tries); look at the network, or at the store", stall.as_secs_f64())]
    Stalled {
        /// What was asked for.
        url: String,
        /// How long nothing came.
        stall: Duration,
        /// How often it was tried.
        tries: u32,
    },
    /// A store stops before the end again and again.
    #[error("{url} ended after {received} of {declared} bytes ({tries} tries); what came is kept, and the next start goes on from there")]
    Truncated {
        /// What was asked for.
        url: String,
        /// The bytes that came.
        received: u64,
        /// The bytes that were announced.
        declared: u64,
        /// How often it was tried.
        tries: u32,
    },
    /// A store sends more than was announced or is allowed.
    #[error("{url} is longer than the {limit} bytes it may have")]
    Overlong {
        /// What was asked for.
        url: String,
        /// The most bytes it may have.
        limit: u64,
    },
    /// A file is not what its manifest says.
    #[error("{url} has the SHA-256 {actual}, its quintet.toml says {expected}: it was changed or damaged, and is not kept")]
    Hash {
        /// The file.
        url: String,
        /// The hash that the manifest names.
        expected: String,
        /// The hash of what came.
        actual: String,
    },
    /// A manifest is not the one that was pinned.
    #[error("{url} has the SHA-256 {actual}, the source pins {expected}: look at what changed, then change '#sha256='")]
    Pin {
        /// The manifest.
        url: String,
        /// The hash that the source's URL names.
        expected: String,
        /// The hash of what came.
        actual: String,
    },
    /// A manifest makes no sense.
    #[error("{url} is broken: {reason}")]
    Manifest {
        /// The manifest.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no model folder there.
    #[error("{url} holds no model folder: {way_out}")]
    NoFolder {
        /// Where it was looked for.
        url: String,
        /// What may help.
        way_out: &'static str,
    },
    /// A store names something that cannot be a model or a version.
    #[error("{url} names '{name}', which cannot be a model's or a version's name: rename it there")]
    Name {
        /// Where the name stands.
        url: String,
        /// The name.
        name: String,
    },
    /// An answer is not what it should be.
    #[error("{url} cannot be used: {reason}")]
    Unusable {
        /// What was asked for.
        url: String,
        /// Why not.
        reason: String,
    },
}

impl Error {
    /// An error of the cache's own disk.
    pub(crate) fn cache(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::Cache { doing, path: path.into(), error }
    }

    /// The same error, or that the disk is full where that is what it says.
    pub(crate) fn or_disk_full(self, folder: impl Into<PathBuf>, needed: u64) -> Self {
        match self {
            Self::Cache { error, .. } if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                Self::DiskFull { folder: folder.into(), needed }
            }
            other => other,
        }
    }

    /// Whether it lies in the room on this machine, which other models lack as well.
    pub(crate) fn is_room(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::CacheLimit { .. })
    }

    /// Whether it may go by itself: a store that cannot be reached, rather than one that gives what makes no sense.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Status { status, .. } => *status >= 500 || matches!(*status, 408 | 429),
            Self::Unreachable { .. } | Self::Stalled { .. } | Self::Truncated { .. } => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_an_error_of_its_own() {
        for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
            let fault = Error::cache("writing", "/cache/partial/x")(kind.into()).or_disk_full("/cache", 7);
            assert!(matches!(&fault, Error::DiskFull { needed: 7, .. }), "{fault}");
            assert!(fault.to_string().contains("/cache is full: 7 more bytes"), "{fault}");
        }
        // The number that Linux gives.
        let fault = Error::cache("writing", "x")(std::io::Error::from_raw_os_error(28)).or_disk_full("/cache", 7);
        assert!(matches!(fault, Error::DiskFull { .. }));
        let fault = Error::cache("writing", "x")(ErrorKind::PermissionDenied.into()).or_disk_full("/cache", 7);
        assert!(matches!(fault, Error::Cache { .. }));
    }
}
