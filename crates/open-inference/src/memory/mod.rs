//! Shared memory: regions that a client on the same machine registers, to hand tensors over without sending them.
//!
//! A region lies in the system's shared memory or in a GPU's; one list holds both kinds, so that a name says which region is meant.
//! Registering, reading, writing and forgetting may wait for the machine: none of it is for a thread that serves others meanwhile.

mod cuda;
mod system;
#[cfg(test)]
mod tests;
mod window;

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

pub(crate) use self::window::Window;
use self::{
    cuda::{Gpus, Nvidia},
    system::Object,
};
use crate::Error;

/// The most bytes of texts in a region.
const MAX_TEXTS: u64 = 1 << 28;

/// The most regions at once, of both kinds.
const MAX_REGIONS: usize = 1024;

/// What lies behind a region. It may be used from several threads at once.
trait Memory: fmt::Debug + Send + Sync {
    /// Fills `into` with what lies so many bytes after the beginning.
    fn read(&self, start: u64, into: &mut [u8]) -> Result<(), Fault>;
    /// Puts `from` so many bytes after the beginning.
    fn write(&self, start: u64, from: &[u8]) -> Result<(), Fault>;
}

/// Why memory could not be read or written.
#[derive(Debug)]
enum Fault {
    /// The client has changed what it had registered.
    Client(String),
    /// The machine does not do it.
    Machine(String),
}

/// The kinds of shared memory, which the protocol lists and forgets apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    System,
    Cuda,
}

/// Where a region lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the shared memory object of this key, from an offset on.
    System { key: String, offset: u64 },
    /// On the GPU with this index.
    Cuda { gpu: u16 },
}

/// What is told of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) place: Place,
    /// In bytes.
    pub(crate) size: u64,
}

/// A region. What lies behind it is given back when nobody reads or writes it any more.
#[derive(Clone, Debug)]
struct Region {
    listed: Listed,
    memory: Arc<dyn Memory>,
}

/// The registered regions. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Regions {
    folder: Arc<Path>,
    gpus: Arc<dyn Gpus>,
    by_name: Arc<Mutex<BTreeMap<String, Region>>>,
}

impl Default for Regions {
    fn default() -> Self {
        Self { folder: Path::new(system::FOLDER).into(), gpus: Arc::new(Nvidia), by_name: Arc::default() }
    }
}

impl Regions {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Region>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether regions of GPUs' memory can be registered.
    pub(crate) fn take_cuda(&self) -> bool {
        self.gpus.count().is_ok()
    }

    /// Registers a part of a shared memory object.
    pub(crate) fn register_system(&self, name: &str, key: &str, offset: u64, size: u64) -> Result<(), Error> {
        free(&self.lock(), name)?;
        let memory = Arc::new(Object::open(&self.folder, key, offset, size)?);
        self.insert(name, Region { listed: Listed { place: Place::System { key: key.to_owned(), offset }, size }, memory })
    }

    /// Registers memory of a GPU.
    pub(crate) fn register_cuda(&self, name: &str, handle: &[u8], device: i64, size: u64) -> Result<(), Error> {
        free(&self.lock(), name)?;
        let (gpu, memory) = cuda::open(&*self.gpus, handle, device, size)?;
        self.insert(name, Region { listed: Listed { place: Place::Cuda { gpu }, size }, memory })
    }

    /// The list was not locked while the region was opened, so that its name may be taken by now: then the region is closed again.
    fn insert(&self, name: &str, region: Region) -> Result<(), Error> {
        let mut regions = self.lock();
        free(&regions, name)?;
        regions.insert(name.to_owned(), region);
        Ok(())
    }

    /// Forgets a region of a kind, or all of them where the name is empty. Requests that use it finish.
    pub(crate) fn unregister(&self, kind: Kind, name: &str) {
        let is_meant = |known: &str, region: &Region| region.listed.place.kind() == kind && (name.is_empty() || known == name);
        let forgotten: Vec<Region> = self.lock().extract_if(.., |known, region| is_meant(known, region)).map(|(_, region)| region).collect();
        // Others need not wait for what closing takes.
        drop(forgotten);
    }

    /// The regions of a kind by name: one, or all where the name is empty.
    pub(crate) fn status(&self, kind: Kind, name: &str) -> Result<BTreeMap<String, Listed>, Error> {
        let regions = self.lock();
        if name.is_empty() {
            let of_kind = regions.iter().filter(|(_, region)| region.listed.place.kind() == kind);
            return Ok(of_kind.map(|(name, region)| (name.clone(), region.listed.clone())).collect());
        }
        let listed = &regions.get(name).ok_or_else(|| unknown("name", name))?.listed;
        if listed.place.kind() != kind {
            let other = match listed.place.kind() {
                Kind::System => "system",
                Kind::Cuda => "CUDA",
            };
            return Err(Error::invalid("name", format!("'{name}' is a region of {other} shared memory")));
        }
        Ok(BTreeMap::from([(name.to_owned(), listed.clone())]))
    }

    fn find(&self, window: &Window) -> Result<Region, Error> {
        let region = self.lock().get(&window.region).cloned().ok_or_else(|| unknown("shared_memory_region", &window.region))?;
        let size = region.listed.size;
        if window.offset.checked_add(window.size).is_none_or(|end| end > size) {
            let description = format!("{} bytes from {} on: the region has {size}", window.size, window.offset);
            return Err(Error::invalid("shared_memory_byte_size", description));
        }
        Ok(region)
    }

    /// The bytes of a window; `expected` is how many the tensor has, where its shape tells.
    pub(crate) fn read(&self, window: &Window, expected: Option<usize>) -> Result<Bytes, Error> {
        let region = self.find(window)?;
        let wrong = |description: String| Error::invalid("shared_memory_byte_size", format!("{}: {description}", window.size));
        // A region may be larger than any memory; a tensor is not.
        let most = expected.map_or(MAX_TEXTS, |expected| expected as u64);
        if window.size > most || (expected.is_some() && window.size < most) {
            return Err(wrong(format!("the tensor has {most}")));
        }
        let size = usize::try_from(window.size).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| wrong("more than this server has memory for".to_owned()))?;
        bytes.resize(size, 0);
        region.memory.read(window.offset, &mut bytes).map_err(|fault| fault.at(&window.region))?;
        Ok(bytes.into())
    }

    /// Writes an output's bytes to the beginning of a window that is large enough.
    pub(crate) fn write(&self, window: &Window, bytes: &[u8]) -> Result<(), Error> {
        let region = self.find(window)?;
        if bytes.len() as u64 > window.size {
            let description = format!("{}: the output has {} bytes", window.size, bytes.len());
            return Err(Error::invalid("shared_memory_byte_size", description));
        }
        region.memory.write(window.offset, bytes).map_err(|fault| fault.at(&window.region))
    }
}

impl Place {
    fn kind(&self) -> Kind {
        match self {
            Self::System { .. } => Kind::System,
            Self::Cuda { .. } => Kind::Cuda,
        }
    }
}

impl Fault {
    fn at(self, region: &str) -> Error {
        match self {
            Self::Client(reason) => Error::invalid("shared_memory_region", format!("'{region}': {reason}")),
            Self::Machine(reason) => Error::SharedMemory(format!("the shared memory region '{region}' cannot be copied: {reason}")),
        }
    }
}

/// Whether a region may be registered under a name.
fn free(regions: &BTreeMap<String, Region>, name: &str) -> Result<(), Error> {
    if name.is_empty() || name.len() > 1024 {
        return Err(Error::invalid("name", format!("{} bytes: must be 1 to 1024", name.len())));
    }
    if regions.contains_key(name) {
        return Err(Error::Exists(format!("the shared memory region '{name}' is registered already")));
    }
    if regions.len() >= MAX_REGIONS {
        return Err(Error::Regions { limit: MAX_REGIONS });
    }
    Ok(())
}

fn unknown(field: &str, name: &str) -> Error {
    Error::invalid(field, format!("no shared memory region '{name}' is registered"))
}
