//! A source's model folders on the disk: `NAME/VERSION/FILE`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::{
    Error,
    cache::{Cache, entries, fingerprint, remove_all},
    manifest::{Folder, MANIFEST},
};

/// The model folders of one source. Only who holds its change lock may change it.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    cache: Cache,
    id: String,
}

impl Tree {
    /// The tree of a source, which is made where it is missing.
    pub(crate) fn open(cache: &Cache, id: &str) -> Result<Self, Error> {
        let root = cache.tree(id);
        std::fs::create_dir_all(&root).map_err(Error::cache("creating", root))?;
        Ok(Self { cache: cache.clone(), id: id.to_owned() })
    }

    fn root(&self) -> PathBuf {
        self.cache.tree(&self.id)
    }

    /// A folder beside the trees, for what is not one yet, or no more.
    fn aside(&self, what: &str) -> PathBuf {
        self.cache.tree(&format!(".{}.{what}", self.id))
    }

    /// Whether a model folder is there as it should be, as far as its manifest and the files' sizes and times tell.
    pub(crate) fn is_current(&self, folder: &Folder) -> Result<bool, Error> {
        let path = self.root().join(&folder.name).join(&folder.version);
        if std::fs::read(path.join(MANIFEST)).ok().as_ref() != Some(&folder.manifest) {
            return Ok(false);
        }
        for (file, hash) in &folder.files {
            if self.cache.check(hash)?.is_none() {
                return Ok(false);
            }
            // A hard link to what the blob was before it was fetched again may have the same size.
            let seen = |path: PathBuf| std::fs::metadata(path).ok().map(|found| fingerprint(&found));
            if seen(path.join(file)) != seen(self.cache.blob(hash)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts a model folder into its place, in one step. False: one of its files is not in the cache any more.
    pub(crate) fn put(&self, folder: &Folder) -> Result<bool, Error> {
        for hash in folder.files.values() {
            if self.cache.check(hash)?.is_none() {
                return Ok(false);
            }
        }
        let new = self.aside("new");
        remove_all(&new)?;
        std::fs::create_dir_all(&new).map_err(Error::cache("creating", &new))?;
        for (file, hash) in &folder.files {
            let to = new.join(file);
            if !place(&self.cache.blob(hash), &to).map_err(|error| self.fault("writing", &to, error))? {
                return Ok(false);
            }
        }
        let manifest = new.join(MANIFEST);
        write(&manifest, &folder.manifest).map_err(|error| self.fault("writing", &manifest, error))?;
        let model = self.root().join(&folder.name);
        std::fs::create_dir_all(&model).map_err(Error::cache("creating", &model))?;
        let target = model.join(&folder.version);
        swap(&new, &target, &self.aside("old")).map_err(|error| self.fault("replacing", &target, error))?;
        remove_all(&new)?;
        tracing::info!(model = folder.name, version = folder.version, "a model folder was brought into the model cache");
        Ok(true)
    }

    fn fault(&self, doing: &'static str, path: &Path, error: std::io::Error) -> Error {
        Error::cache(doing, path)(error).or_disk_full(self.cache.root(), std::fs::metadata(path).map_or(0, |found| found.len()))
    }

    /// Removes every version that is not among these, of models for which `may_go` holds.
    pub(crate) fn keep(&self, wanted: &BTreeMap<String, BTreeSet<String>>, may_go: impl Fn(&str) -> bool) -> Result<(), Error> {
        let old = self.aside("old");
        for name in entries(&self.root())?.into_iter().filter(|name| may_go(name)) {
            let model = self.root().join(&name);
            for version in entries(&model)? {
                if wanted.get(&name).is_some_and(|versions| versions.contains(&version)) {
                    continue;
                }
                tracing::info!(model = name, version, "gone from its source; removed from the model cache");
                let path = model.join(version);
                remove_all(&old)?;
                std::fs::rename(&path, &old).map_err(Error::cache("removing", &path))?;
                remove_all(&old)?;
            }
            if !wanted.contains_key(&name) {
                // It stays where something else is in it.
                let _ = std::fs::remove_dir(&model);
            }
        }
        Ok(())
    }
}

/// Makes a file the same as a blob: a hard link where that is possible, else a copy. False: there is no such blob.
fn place(blob: &Path, to: &Path) -> std::io::Result<bool> {
    match std::fs::hard_link(blob, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(_) => match copy(blob, to) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            outcome => outcome.map(|()| true),
        },
    }
}

/// A copy with the blob's time, by which it is known again.
fn copy(blob: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::copy(blob, to)?;
    std::fs::File::open(to)?.set_modified(std::fs::metadata(blob)?.modified()?)
}

fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Puts `new` in the place of `target`; what was there is in the place of `new` afterwards, or gone.
fn swap(new: &Path, target: &Path, old: &Path) -> std::io::Result<()> {
    if !target.exists() {
        return std::fs::rename(new, target);
    }
    if renameat_with(CWD, new, CWD, target, RenameFlags::EXCHANGE).is_ok() {
        return Ok(());
    }
    // Not every file system can exchange: for a moment there is neither.
    if old.exists() {
        std::fs::remove_dir_all(old)?;
    }
    std::fs::rename(target, old)?;
    std::fs::rename(new, target)?;
    std::fs::remove_dir_all(old)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use sha2::{Digest, Sha256};

    use super::*;

    fn folder(cache: &Cache, version: &str, content: &str) -> Folder {
        let hash = hex::encode(Sha256::digest(content));
        std::fs::write(cache.blob(&hash), content).unwrap();
        Folder::parse("m", version, format!("[sha256]\na = \"{hash}\"").into_bytes()).unwrap()
    }

    #[test]
    fn folders_come_change_and_go() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(root.path()).unwrap();
        let tree = Tree::open(&cache, "t").unwrap();
        let (one, two) = (folder(&cache, "1", "one"), folder(&cache, "2", "two"));
        for folder in [&one, &two] {
            assert!(!tree.is_current(folder).unwrap());
            assert!(tree.put(folder).unwrap());
            assert!(tree.is_current(folder).unwrap());
        }
        let file = cache.tree("t").join("m/1/a");
        assert_eq!(std::fs::metadata(&file).unwrap().nlink(), 2, "a hard link");
        let changed = folder(&cache, "1", "changed");
        assert!(!tree.is_current(&changed).unwrap());
        assert!(tree.put(&changed).unwrap());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "changed");
        tree.keep(&BTreeMap::from([("m".to_owned(), BTreeSet::from(["2".to_owned()]))]), |_| true).unwrap();
        assert_eq!(entries(&cache.tree("t").join("m")).unwrap(), ["2"]);
        tree.keep(&BTreeMap::new(), |name| name != "m").unwrap();
        assert_eq!(entries(&cache.tree("t")).unwrap(), ["m"]);
        tree.keep(&BTreeMap::new(), |_| true).unwrap();
        assert!(entries(&cache.tree("t")).unwrap().is_empty());
        assert_eq!(cache.trees().unwrap(), ["t"], "nothing is left beside it");
    }

    #[test]
    fn a_copy_does_where_there_are_no_hard_links() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(root.path()).unwrap();
        let tree = Tree::open(&cache, "t").unwrap();
        let one = folder(&cache, "1", "one");
        tree.put(&one).unwrap();
        let (file, blob) = (cache.tree("t").join("m/1/a"), cache.blob(&one.files["a"]));
        std::fs::remove_file(&file).unwrap();
        copy(&blob, &file).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().nlink(), 1);
        assert!(tree.is_current(&one).unwrap());
        assert!(copy(&root.path().join("nothing"), &file).is_err_and(|error| error.kind() == ErrorKind::NotFound));
    }

    #[test]
    fn a_file_that_is_gone_or_cut_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(root.path()).unwrap();
        let tree = Tree::open(&cache, "t").unwrap();
        let one = folder(&cache, "1", "one");
        tree.put(&one).unwrap();
        // The link shares its content with the blob: both are cut, and the blob is not trusted any more.
        std::fs::write(cache.tree("t").join("m/1/a"), "on").unwrap();
        assert!(!tree.is_current(&one).unwrap());
        assert!(!tree.put(&one).unwrap(), "the damaged blob is gone");
        assert!(cache.tree("t").join("m/1/a").exists(), "what was there stays until there is better");
    }
}
