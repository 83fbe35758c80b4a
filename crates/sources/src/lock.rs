//! Locks that several processes respect.
//!
//! A lock is held on an open file and goes with it, also when the process is killed.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::MetadataExt,
    path::Path,
    time::Duration,
};

use crate::Error;

/// How often a lock that another process holds is tried.
const POLL: Duration = Duration::from_millis(100);

fn open(path: &Path) -> Result<File, Error> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    file.map_err(Error::cache("opening", path))
}

/// Whether the file at the path is still the one that was opened: who held the lock may have moved or removed it.
fn is_still(path: &Path, file: &File) -> bool {
    let (Ok(opened), Ok(there)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (opened.dev(), opened.ino()) == (there.dev(), there.ino())
}

/// The file, once nobody else has a lock on it.
pub(crate) async fn exclusive(path: &Path) -> Result<File, Error> {
    let mut said = false;
    loop {
        if let Some(file) = try_exclusive(path)? {
            return Ok(file);
        }
        if !said {
            tracing::info!(path = %path.display(), "waiting for another process that works on the same part of the model cache");
            said = true;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The file, if nobody else has a lock on it.
pub(crate) fn try_exclusive(path: &Path) -> Result<Option<File>, Error> {
    let file = open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(is_still(path, &file).then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::cache("locking", path)(error)),
    }
}

/// The file, with a lock that others may share. Exclusive locks on such files are held for moments only.
pub(crate) fn shared(path: &Path) -> Result<File, Error> {
    loop {
        let file = open(path)?;
        match file.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                tracing::info!(path = %path.display(), "waiting for another process that works on the same part of the model cache");
                file.lock_shared().map_err(Error::cache("locking", path))?;
            }
            Err(TryLockError::Error(error)) => return Err(Error::cache("locking", path)(error)),
        }
        if is_still(path, &file) {
            return Ok(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_excludes_others_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = try_exclusive(&path).unwrap().unwrap();
        assert!(try_exclusive(&path).unwrap().is_none());
        drop(held);
        let (one, _two) = (shared(&path).unwrap(), shared(&path).unwrap());
        assert!(try_exclusive(&path).unwrap().is_none());
        drop(one);
        assert!(try_exclusive(&path).unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_was_moved_away_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = try_exclusive(&path).unwrap().unwrap();
        let waiting = exclusive(&path);
        let moving = async {
            tokio::time::sleep(POLL * 3).await;
            std::fs::rename(&path, folder.path().join("elsewhere")).unwrap();
            drop(held);
        };
        let (file, ()) = tokio::join!(waiting, moving);
        assert!(is_still(&path, &file.unwrap()));
    }
}
