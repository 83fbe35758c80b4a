//! The cache's folder: what is where, and what of it can be trusted.
//!
//! ```text
//! blobs/HASH      what was checked against its hash
//! records/HASH    a blob's size and time of change when it was checked; touched at each use
//! partial/HASH    a download under way, or what is left of one; locked by who writes it
//! trees/ID/NAME/VERSION/FILE      a source's model folders: hard links to blobs
//! locks/          who uses and who changes which tree
//! ```

use std::{
    collections::BTreeSet,
    fs::File,
    io::{ErrorKind, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use sha2::{Digest, Sha256};

use crate::{Error, url::hash};

/// The cache's folder. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: Arc<Path>,
}

impl Cache {
    /// The cache in a folder, which is made where it is missing.
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(root).map_err(Error::cache("creating", root))?;
        // Relative paths would mean something else once the process is elsewhere.
        let root = root.canonicalize().map_err(Error::cache("reading", root))?;
        for folder in ["blobs", "records", "partial", "trees", "locks"] {
            let path = root.join(folder);
            std::fs::create_dir_all(&path).map_err(Error::cache("creating", &path))?;
        }
        Ok(Self { root: root.into() })
    }

    /// Where it is.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the content of a hash is.
    pub(crate) fn blob(&self, hash: &str) -> PathBuf {
        self.root.join("blobs").join(hash)
    }

    /// Where what is known of a blob is.
    pub(crate) fn record(&self, hash: &str) -> PathBuf {
        self.root.join("records").join(hash)
    }

    /// Where a download is written.
    pub(crate) fn partial(&self, hash: &str) -> PathBuf {
        self.root.join("partial").join(hash)
    }

    /// Where a source's model folders are.
    pub(crate) fn tree(&self, id: &str) -> PathBuf {
        self.root.join("trees").join(id)
    }

    /// The lock of those that use a tree.
    pub(crate) fn use_lock(&self, id: &str) -> PathBuf {
        self.root.join("locks").join(format!("{id}.use"))
    }

    /// The lock of who changes a tree.
    pub(crate) fn change_lock(&self, id: &str) -> PathBuf {
        self.root.join("locks").join(format!("{id}.change"))
    }

    /// The size of a blob that is there and as it was when it was checked. One that is not is checked anew, and removed
    /// if it is damaged.
    pub(crate) fn check(&self, hash: &str) -> Result<Option<u64>, Error> {
        let path = self.blob(hash);
        let found = match std::fs::metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::cache("reading", path)(error)),
        };
        if std::fs::read_to_string(self.record(hash)).is_ok_and(|record| record == fingerprint(&found)) {
            return Ok(Some(found.len()));
        }
        tracing::info!(blob = hash, "a file of the model cache has changed, or was not recorded; its hash is checked");
        if hash_of(&path).map_err(Error::cache("reading", &path))? == hash {
            self.note(hash)?;
            return Ok(Some(found.len()));
        }
        tracing::warn!(blob = hash, "a file of the model cache is damaged and is removed");
        self.forget(hash)?;
        Ok(None)
    }

    /// Makes a download that was checked a blob.
    pub(crate) fn adopt(&self, hash: &str, file: &File) -> Result<(), Error> {
        let (partial, blob) = (self.partial(hash), self.blob(hash));
        file.sync_all().map_err(Error::cache("writing", &partial))?;
        // Whoever writes into a tree would change the blob, and with it other trees.
        file.set_permissions(std::fs::Permissions::from_mode(0o444)).map_err(Error::cache("protecting", &partial))?;
        std::fs::rename(&partial, &blob).map_err(Error::cache("moving", &partial))?;
        self.note(hash)
    }

    /// Records that a blob is right as it is now.
    fn note(&self, hash: &str) -> Result<(), Error> {
        let (blob, record) = (self.blob(hash), self.record(hash));
        let found = std::fs::metadata(&blob).map_err(Error::cache("reading", &blob))?;
        std::fs::write(&record, fingerprint(&found)).map_err(Error::cache("writing", &record))
    }

    /// Removes a blob.
    pub(crate) fn forget(&self, hash: &str) -> Result<(), Error> {
        for path in [self.blob(hash), self.record(hash)] {
            remove(&path)?;
        }
        Ok(())
    }

    /// The hashes of all blobs.
    pub(crate) fn blobs(&self) -> Result<BTreeSet<String>, Error> {
        let names = entries(&self.root.join("blobs"))?;
        Ok(names.into_iter().filter(|name| hash(name).is_some()).collect())
    }

    /// The ids of all trees.
    pub(crate) fn trees(&self) -> Result<Vec<String>, Error> {
        entries(&self.root.join("trees"))
    }
}

/// What is recorded of a blob: its size, and when it was changed last.
pub(crate) fn fingerprint(found: &std::fs::Metadata) -> String {
    format!("{} {}.{:09}\n", found.len(), found.mtime(), found.mtime_nsec())
}

/// A file's SHA-256 in hexadecimal.
fn hash_of(path: &Path) -> std::io::Result<String> {
    let (mut file, mut hasher, mut piece) = (File::open(path)?, Sha256::new(), vec![0; 1 << 18]);
    loop {
        let length = file.read(&mut piece)?;
        if length == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(piece.get(..length).unwrap_or_default());
    }
}

/// The names in a folder that are not hidden; none where there is no such folder.
pub(crate) fn entries(path: &Path) -> Result<Vec<String>, Error> {
    let found = match std::fs::read_dir(path) {
        Ok(found) => found,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(Error::cache("reading", path)(error)),
    };
    let mut names = Vec::new();
    for entry in found {
        let name = entry.map_err(Error::cache("reading", path))?.file_name();
        names.extend(name.to_str().filter(|name| !name.starts_with('.')).map(ToOwned::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::cache("removing", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a folder with what is in it, if it is there.
pub(crate) fn remove_all(path: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::cache("removing", path)(error)),
        _ => Ok(()),
    }
}

/// Notes that a file is used now. That it cannot be noted only makes it seem older.
pub(crate) fn touch(path: &Path) {
    if let Err(error) = File::options().write(true).open(path).and_then(|file| file.set_modified(SystemTime::now())) {
        tracing::debug!(path = %path.display(), %error, "the time of use could not be noted");
    }
}

/// When a file was used last.
pub(crate) fn last_use(path: &Path) -> SystemTime {
    std::fs::metadata(path).and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Runs what may take long on a thread where it holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends: so does whoever waits.
            Err(_) => std::future::pending().await,
        },
    }
}
