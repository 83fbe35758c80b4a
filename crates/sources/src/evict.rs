//! What goes when the cache is full.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::SystemTime};

use crate::{
    Error,
    cache::{Cache, entries, last_use, remove, remove_all},
    lock,
    manifest::{MANIFEST, files},
};

/// How much room there is, and for what.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    /// The most bytes of blobs.
    pub(crate) limit: u64,
    /// The hashes of what is about to be put into a tree.
    pub(crate) keep: Arc<BTreeSet<String>>,
}

/// What is in the cache.
struct Survey {
    /// The bytes of all blobs, and of downloads that are left.
    used: u64,
    /// What may go: when it was used last, its path, its size, and its hash if it is a blob.
    loose: Vec<(SystemTime, PathBuf, u64, Option<String>)>,
}

impl Room {
    /// Makes room for a blob of `incoming` bytes, of which `missing` are still to come. What was used longest ago and is
    /// in no tree goes first, then trees that no process uses.
    pub(crate) fn make(&self, cache: &Cache, incoming: u64, missing: u64) -> Result<(), Error> {
        loop {
            let mut survey = self.survey(cache)?;
            survey.loose.sort();
            let mut used = survey.used;
            for (_, path, size, hash) in survey.loose {
                if self.fits(used, incoming) && free(cache)?.is_none_or(|free| free >= missing) {
                    return Ok(());
                }
                let gone = match hash {
                    Some(hash) => cache.forget(&hash).map(|()| true)?,
                    // One that somebody writes stays.
                    None => lock::try_exclusive(&path)?.map(|_held| remove(&path)).transpose()?.is_some(),
                };
                if gone {
                    tracing::info!(path = %path.display(), bytes = size, "removed from the model cache, to make room");
                    used = used.saturating_sub(size);
                }
            }
            let free = free(cache)?.filter(|free| *free < missing);
            if self.fits(used, incoming) && free.is_none() {
                return Ok(());
            }
            if !remove_oldest_tree(cache)? {
                return Err(match free {
                    Some(_) if self.fits(used, incoming) => Error::DiskFull { folder: cache.root().to_owned(), needed: missing },
                    _ => Error::CacheLimit { needed: used.saturating_add(incoming), limit: self.limit },
                });
            }
        }
    }

    fn fits(&self, used: u64, incoming: u64) -> bool {
        used.saturating_add(incoming) <= self.limit
    }

    fn survey(&self, cache: &Cache) -> Result<Survey, Error> {
        let mut linked = BTreeSet::new();
        for id in cache.trees()? {
            linked.extend(linked_by(cache, &id)?);
        }
        let mut survey = Survey { used: 0, loose: Vec::new() };
        for hash in cache.blobs()? {
            let path = cache.blob(&hash);
            let Ok(size) = std::fs::metadata(&path).map(|found| found.len()) else { continue };
            survey.used += size;
            if !linked.contains(&hash) && !self.keep.contains(&hash) {
                survey.loose.push((last_use(&cache.record(&hash)), path, size, Some(hash)));
            }
        }
        for hash in entries(&cache.root().join("partial"))? {
            let path = cache.partial(&hash);
            if !self.keep.contains(&hash)
                && let Ok(found) = std::fs::metadata(&path)
            {
                survey.used += found.len();
                survey.loose.push((last_use(&path), path, found.len(), None));
            }
        }
        Ok(survey)
    }
}

/// The hashes of what is in a tree.
pub(crate) fn linked_by(cache: &Cache, id: &str) -> Result<BTreeSet<String>, Error> {
    let (tree, mut linked) = (cache.tree(id), BTreeSet::new());
    for name in entries(&tree)? {
        for version in entries(&tree.join(&name))? {
            let listed = std::fs::read(tree.join(&name).join(version).join(MANIFEST)).ok().and_then(|manifest| files(&manifest).ok());
            linked.extend(listed.into_iter().flatten().map(|(_, hash)| hash));
        }
    }
    Ok(linked)
}

/// The bytes of the blobs in these trees together.
pub(crate) fn bytes_of(cache: &Cache, ids: &[String]) -> Result<u64, Error> {
    let mut linked = BTreeSet::new();
    for id in ids {
        linked.extend(linked_by(cache, id)?);
    }
    Ok(linked.iter().filter_map(|hash| std::fs::metadata(cache.blob(hash)).ok()).map(|found| found.len()).sum())
}

/// Removes the tree that was used longest ago, of those that no process uses now. False: there is none.
fn remove_oldest_tree(cache: &Cache) -> Result<bool, Error> {
    let mut trees: Vec<_> = cache.trees()?.into_iter().map(|id| (last_use(&cache.use_lock(&id)), id)).collect();
    trees.sort();
    for (_, id) in trees {
        let Some(_unused) = lock::try_exclusive(&cache.use_lock(&id))? else { continue };
        tracing::info!(tree = id, "a source that nobody uses is removed from the model cache, to make room");
        remove_all(&cache.tree(&id))?;
        return Ok(true);
    }
    Ok(false)
}

/// The bytes that are free on the cache's disk, where it says so.
fn free(cache: &Cache) -> Result<Option<u64>, Error> {
    let found = rustix::fs::statvfs(cache.root()).map_err(|error| Error::cache("reading", cache.root())(error.into()))?;
    Ok((found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sha2::{Digest, Sha256};

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    /// Puts a blob into a cache, used so many days ago.
    fn put(cache: &Cache, content: &[u8], days: u32) -> String {
        let hash = hex::encode(Sha256::digest(content));
        std::fs::write(cache.blob(&hash), content).unwrap();
        cache.check(&hash).unwrap().unwrap();
        age(&cache.record(&hash), days);
        hash
    }

    fn age(path: &std::path::Path, days: u32) {
        let file = std::fs::File::options().create(true).truncate(false).write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - DAY * days).unwrap();
    }

    fn link(cache: &Cache, id: &str, hash: &str) {
        let folder = cache.tree(id).join("m/1");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(MANIFEST), format!("[sha256]\na = \"{hash}\"")).unwrap();
    }

    fn room(limit: u64, keep: &[&String]) -> Room {
        Room { limit, keep: Arc::new(keep.iter().map(ToString::to_string).collect()) }
    }

    #[test]
    fn what_was_used_longest_ago_and_is_in_no_tree_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let linked = put(&cache, &[1; 100], 9);
        let old = put(&cache, &[2; 100], 5);
        let new = put(&cache, &[3; 100], 1);
        let kept = put(&cache, &[4; 100], 8);
        link(&cache, "tree", &linked);
        let _used = lock::shared(&cache.use_lock("tree")).unwrap();
        room(400, &[&kept]).make(&cache, 0, 0).unwrap();
        assert_eq!(cache.blobs().unwrap().len(), 4, "all fits");
        room(400, &[&kept]).make(&cache, 50, 50).unwrap();
        assert_eq!(cache.blobs().unwrap(), BTreeSet::from([linked.clone(), new, kept.clone()]));
        assert!(!cache.record(&old).exists());
        let fault = room(220, &[&kept]).make(&cache, 50, 50).unwrap_err();
        assert!(matches!(fault, Error::CacheLimit { needed: 250, limit: 220 }), "{fault}");
        assert_eq!(cache.blobs().unwrap(), BTreeSet::from([linked, kept]));
    }

    #[test]
    fn trees_that_nobody_uses_go_oldest_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let blobs: Vec<String> = (0..3).map(|n| put(&cache, &[n; 100], 1)).collect();
        for (id, (blob, days)) in ["used", "older", "newer"].iter().zip(blobs.iter().zip([9, 5, 3])) {
            link(&cache, id, blob);
            age(&cache.use_lock(id), days);
        }
        let _used = lock::shared(&cache.use_lock("used")).unwrap();
        room(300, &[]).make(&cache, 100, 100).unwrap();
        assert_eq!(cache.trees().unwrap(), ["newer", "used"]);
        assert!(!cache.blob(&blobs[1]).exists());
    }

    #[test]
    fn a_disk_without_room_is_noticed_before_it_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let fault = room(u64::MAX, &[]).make(&cache, 1 << 60, 1 << 60).unwrap_err();
        assert!(matches!(fault, Error::DiskFull { needed, .. } if needed == 1 << 60), "{fault}");
    }

    #[test]
    fn what_is_left_of_a_download_goes_unless_somebody_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        for name in ["left", "written"] {
            std::fs::write(cache.partial(name), [0; 100]).unwrap();
        }
        let _held = lock::try_exclusive(&cache.partial("written")).unwrap().unwrap();
        room(150, &[]).make(&cache, 0, 0).unwrap();
        assert!(!cache.partial("left").exists());
        assert!(cache.partial("written").exists());
    }
}
