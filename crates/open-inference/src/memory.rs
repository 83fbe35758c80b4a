//! System shared memory: regions that a client on the same machine registers, to hand tensors over without sending them.
//!
//! A region is read and written through its file, not mapped: a client that shrinks the object meanwhile gets an error, where
//! a mapping would end the process.

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use crate::{
    Error,
    parameters::{self, Parameters},
};

/// Where the system keeps POSIX shared memory objects.
const FOLDER: &str = "/dev/shm";

/// The most bytes of texts in a region.
const MAX_TEXTS: u64 = 1 << 28;

/// The most regions at once.
const MAX_REGIONS: usize = 1024;

/// The registered regions. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Regions {
    folder: Arc<Path>,
    by_name: Arc<Mutex<BTreeMap<String, Region>>>,
}

/// A region.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub(crate) key: String,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    file: Arc<File>,
}

/// A part of a region, as a tensor's parameters name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    region: String,
    offset: u64,
    size: u64,
}

impl Default for Regions {
    fn default() -> Self {
        Self { folder: Path::new(FOLDER).into(), by_name: Arc::default() }
    }
}

impl Regions {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Region>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a part of a shared memory object.
    pub(crate) fn register(&self, name: &str, key: &str, offset: u64, size: u64) -> Result<(), Error> {
        if name.is_empty() || name.len() > 1024 {
            return Err(Error::invalid("name", format!("{} bytes: must be 1 to 1024", name.len())));
        }
        // As shm_open has it: a slash, and none after it.
        let plain = key.strip_prefix('/').unwrap_or(key);
        if plain.is_empty() || plain.len() > 255 || plain.starts_with('.') || plain.contains(['/', '\\', '\0']) {
            return Err(Error::invalid("key", format!("'{key}' is not the key of a shared memory object")));
        }
        let path = self.folder.join(plain);
        let unusable = |reason: String| Error::invalid("key", format!("'{key}': {reason}"));
        let kind = std::fs::symlink_metadata(&path).map_err(|error| unusable(error.to_string()))?;
        if !kind.is_file() {
            return Err(unusable("it is not a shared memory object".to_owned()));
        }
        let file = open(&path).map_err(|error| unusable(error.to_string()))?;
        let length = file.metadata().map_err(|error| unusable(error.to_string()))?.len();
        if size == 0 || offset.checked_add(size).is_none_or(|end| end > length) {
            return Err(Error::invalid("byte_size", format!("{size} from {offset} on: the object '{key}' has {length} bytes")));
        }
        let mut regions = self.lock();
        if regions.contains_key(name) {
            return Err(Error::Exists(format!("the shared memory region '{name}' is registered already")));
        }
        if regions.len() >= MAX_REGIONS {
            return Err(Error::Full { waiting: regions.len(), limit: MAX_REGIONS });
        }
        regions.insert(name.to_owned(), Region { key: key.to_owned(), offset, size, file: Arc::new(file) });
        Ok(())
    }

    /// Forgets a region, or all where the name is empty.
    pub(crate) fn unregister(&self, name: &str) {
        let mut regions = self.lock();
        if name.is_empty() {
            regions.clear();
        } else {
            regions.remove(name);
        }
    }

    /// The regions by name: one, or all where the name is empty.
    pub(crate) fn status(&self, name: &str) -> Result<BTreeMap<String, Region>, Error> {
        let regions = self.lock();
        if name.is_empty() {
            return Ok(regions.clone());
        }
        let region = regions.get(name).ok_or_else(|| unknown("name", name))?;
        Ok(BTreeMap::from([(name.to_owned(), region.clone())]))
    }

    fn find(&self, window: &Window) -> Result<Region, Error> {
        let region = self.lock().get(&window.region).cloned().ok_or_else(|| unknown("shared_memory_region", &window.region))?;
        if window.offset.checked_add(window.size).is_none_or(|end| end > region.size) {
            let description = format!("{} bytes from {} on: the region has {}", window.size, window.offset, region.size);
            return Err(Error::invalid("shared_memory_byte_size", description));
        }
        Ok(region)
    }

    /// The bytes of a window; `expected` is how many the tensor has, where its shape tells.
    pub(crate) fn read(&self, window: &Window, expected: Option<usize>) -> Result<Bytes, Error> {
        let region = self.find(window)?;
        // A region may be larger than any memory; a tensor is not.
        let most = expected.map_or(MAX_TEXTS, |expected| expected as u64);
        if window.size > most || (expected.is_some() && window.size < most) {
            return Err(Error::invalid("shared_memory_byte_size", format!("{}: the tensor has {most}", window.size)));
        }
        let mut bytes = vec![0; usize::try_from(window.size).unwrap_or(usize::MAX)];
        region.file.read_exact_at(&mut bytes, region.offset + window.offset).map_err(|error| gone(&window.region, &error))?;
        Ok(bytes.into())
    }

    /// Writes an output's bytes to the beginning of a window that is large enough.
    pub(crate) fn write(&self, window: &Window, bytes: &[u8]) -> Result<(), Error> {
        let region = self.find(window)?;
        if bytes.len() as u64 > window.size {
            let description = format!("{}: the output has {} bytes", window.size, bytes.len());
            return Err(Error::invalid("shared_memory_byte_size", description));
        }
        region.file.write_all_at(bytes, region.offset + window.offset).map_err(|error| gone(&window.region, &error))
    }
}

fn open(path: &PathBuf) -> std::io::Result<File> {
    // Whoever puts a link in the object's place after the look at it gets an error.
    File::options().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

fn unknown(field: &str, name: &str) -> Error {
    Error::invalid(field, format!("no shared memory region '{name}' is registered"))
}

fn gone(name: &str, error: &std::io::Error) -> Error {
    Error::invalid("shared_memory_region", format!("the object behind '{name}' has shrunk or gone: {error}"))
}

impl Window {
    /// The window that a tensor's parameters name, if they do.
    pub(crate) fn of(parameters: &Parameters) -> Result<Option<Self>, Error> {
        let Some(region) = parameters::text(parameters, "shared_memory_region")? else { return Ok(None) };
        let size = parameters::number(parameters, "shared_memory_byte_size")?
            .ok_or_else(|| Error::invalid("parameters[shared_memory_byte_size]", "missing: a region needs it"))?;
        let offset = parameters::number(parameters, "shared_memory_offset")?.unwrap_or(0);
        Ok(Some(Self { region: region.to_owned(), offset, size }))
    }

    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions() -> (tempfile::TempDir, Regions) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("object"), [1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        let regions = Regions { folder: folder.path().into(), by_name: Arc::default() };
        (folder, regions)
    }

    fn window(region: &str, offset: u64, size: u64) -> Window {
        Window { region: region.into(), offset, size }
    }

    #[test]
    fn what_a_region_holds_is_read_and_written_within_it() {
        let (folder, regions) = regions();
        regions.register("r", "/object", 2, 6).unwrap();
        assert_eq!(&regions.read(&window("r", 1, 3), Some(3)).unwrap()[..], [4, 5, 6]);
        regions.write(&window("r", 0, 2), &[9, 9]).unwrap();
        assert_eq!(std::fs::read(folder.path().join("object")).unwrap(), [1, 2, 9, 9, 5, 6, 7, 8]);
        assert!(regions.write(&window("r", 0, 2), &[9; 3]).is_err());
        assert!(regions.read(&window("r", 0, 3), Some(4)).is_err());
        for outside in [window("r", 4, 3), window("r", u64::MAX, 2), window("r", 7, 0), window("s", 0, 1)] {
            assert!(regions.read(&outside, None).is_err(), "{outside:?}");
        }
        assert!(matches!(regions.register("r", "object", 0, 1), Err(Error::Exists(_))));
        // The client may shrink its object at any time.
        std::fs::write(folder.path().join("object"), [1]).unwrap();
        assert!(regions.read(&window("r", 0, 6), Some(6)).is_err());
        regions.unregister("");
        assert!(regions.status("").unwrap().is_empty() && regions.status("r").is_err());
    }

    #[test]
    fn a_key_names_nothing_but_a_shared_memory_object() {
        let (folder, regions) = regions();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        for (key, offset, size) in [
            ("../object", 0, 1),
            ("/a/b", 0, 1),
            ("", 0, 1),
            ("/", 0, 1),
            (".hidden", 0, 1),
            ("link", 0, 1),
            ("none", 0, 1),
            ("object", 0, 9),
            ("object", u64::MAX, 2),
            ("object", 0, 0),
        ] {
            assert!(regions.register("r", key, offset, size).is_err(), "{key} {offset} {size}");
        }
    }
}
