use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Display},
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Repository, retired::Retired};
use crate::{Error, ModelFolder, native};

/// A loaded model, and the folder it came from.
#[derive(Debug)]
pub struct Loaded<M> {
    /// Its folder.
    pub folder: ModelFolder,
    /// The model.
    pub model: M,
}

impl<M> Deref for Loaded<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.model
    }
}

/// Why a model that was asked for is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// No model is loaded at all.
    #[error("no {what} is loaded")]
    Nothing {
        /// What the service's models are.
        what: &'static str,
    },
    /// No model of this name is loaded.
    #[error("no {what} '{name}' is loaded; there are: {}", known.join(", "))]
    Model {
        /// What the service's models are.
        what: &'static str,
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The model is loaded in other versions.
    #[error("version '{version}' of '{name}' is not loaded; there are: {}", loaded.join(", "))]
    Version {
        /// The model.
        name: String,
        /// The version asked for.
        version: String,
        /// The versions there are.
        loaded: Vec<String>,
    },
}

impl Missing {
    /// A constant in `UPPER_SNAKE_CASE` that programs can test for.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Nothing { .. } | Self::Model { .. } => "UNKNOWN_MODEL",
            Self::Version { .. } => "UNKNOWN_MODEL_VERSION",
        }
    }
}

/// Where a version of a model stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It serves.
    Ready,
    /// It is being loaded.
    Loading,
    /// It does not serve: it was never loaded, was unloaded or could not be loaded.
    Unavailable,
}

/// What is known of a version of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The model.
    pub name: String,
    /// The version.
    pub version: String,
    /// Where it stands.
    pub state: State,
    /// Why it does not serve; empty where it does.
    pub reason: String,
}

impl Index {
    pub(super) fn unavailable(name: String, version: String, reason: &str) -> Self {
        Self { name, version, state: State::Unavailable, reason: reason.to_owned() }
    }
}

/// A service's models, as whoever manages them sees them.
pub trait Hosting: Send + Sync {
    /// Loads what a model's folders hold now, beside what serves: all of its versions or none. `None`: this service takes
    /// no such model. Without `insist`, what failed before in the same form is not tried again.
    fn stage(&self, name: &str, insist: bool) -> Result<Option<Box<dyn Staged>>, Error>;
    /// Takes a model out of service. `false`: it was not loaded.
    fn unload(&self, name: &str) -> bool;
    /// The names of the loaded models, in order.
    fn names(&self) -> Vec<String>;
    /// Every version that is loaded, was loaded or failed.
    fn index(&self) -> Vec<Index>;
    /// A number that changes with every change of what is loaded.
    fn generation(&self) -> u64;
    /// Waits until every model that was taken out of service has been freed, or the time is over. Whether all have.
    fn settled(&self, limit: Duration) -> bool;
}

/// Versions of a model that are loaded and wait to take over. Dropping them leaves everything as it was.
pub trait Staged: Send {
    /// They take over, between two requests.
    fn commit(self: Box<Self>);
}

type Load<M> = Box<dyn Fn(&ModelFolder) -> Result<M, String> + Send + Sync>;
type Models<M> = BTreeMap<String, Vec<Arc<Loaded<M>>>>;

/// The models of one service: loaded, replaced and unloaded while requests run. Cheap to clone.
pub struct Registry<M> {
    inner: Arc<Inner<M>>,
}

impl<M> Clone for Registry<M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

struct Inner<M> {
    what: &'static str,
    repository: Repository,
    takes: fn(&ModelFolder) -> bool,
    load: Load<M>,
    /// Each model's versions, ascending. Replaced as a whole: a request takes it and sees one state.
    models: RwLock<Arc<Models<M>>>,
    /// What is being loaded, and what does not serve, with the reason.
    others: Mutex<BTreeMap<(String, String), (State, String)>>,
    /// What failed, by its manifest: it would fail again.
    failed: Mutex<HashMap<[u8; 32], String>>,
    /// Replaced versions that can still be asked for by their number, and until when.
    lingering: Mutex<Vec<(Instant, Arc<Loaded<M>>)>>,
    linger: Duration,
    retired: Retired,
    generation: AtomicU64,
}

impl<M: Send + Sync + 'static> Registry<M> {
    /// Loads the repository's models that `takes` picks. `what` names the service's models in messages, such as
    /// "image model"; `load` loads one version.
    pub fn open<E: Display>(
        what: &'static str,
        repository: &Repository,
        takes: fn(&ModelFolder) -> bool,
        load: impl Fn(&ModelFolder) -> Result<M, E> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Self::open_lingering(what, repository, takes, Duration::ZERO, load)
    }

    /// The same, where a replaced version can still be asked for by its number for a while: for what other services name
    /// by version and replace at another moment.
    pub fn open_lingering<E: Display>(
        what: &'static str,
        repository: &Repository,
        takes: fn(&ModelFolder) -> bool,
        linger: Duration,
        load: impl Fn(&ModelFolder) -> Result<M, E> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let inner = Inner {
            what,
            repository: repository.clone(),
            takes,
            load: Box::new(move |folder| load(folder).map_err(|error| error.to_string())),
            models: RwLock::default(),
            others: Mutex::default(),
            failed: Mutex::default(),
            lingering: Mutex::default(),
            linger,
            retired: Retired::default(),
            generation: AtomicU64::new(0),
        };
        let registry = Self { inner: Arc::new(inner) };
        for (name, folders) in repository.at_start()? {
            let outcome = folders.and_then(|folders| registry.stage_folders(&name, folders, true));
            match outcome {
                Ok(staged) => staged.into_iter().for_each(Staging::take_over),
                Err(error) if repository.keeps_going() => tracing::error!(model = name, %error, "a model is left out"),
                Err(error) => return Err(error),
            }
        }
        Ok(registry)
    }

    /// The version asked for of a model; the highest where `version` is empty.
    pub fn find(&self, name: &str, version: &str) -> Result<Arc<Loaded<M>>, Missing> {
        let models = self.models();
        let versions = models.get(name).ok_or_else(|| self.missing(name, &models))?;
        let found = if version.is_empty() { versions.last() } else { versions.iter().find(|loaded| loaded.folder.version == version) };
        found.cloned().or_else(|| self.lingering(name, version)).ok_or_else(|| Missing::Version {
            name: name.to_owned(),
            version: version.to_owned(),
            loaded: versions.iter().map(|loaded| loaded.folder.version.clone()).collect(),
        })
    }

    /// The same, where an empty name means `default`, and an empty default the first model by name.
    pub fn pick(&self, name: &str, default: &str, version: &str) -> Result<Arc<Loaded<M>>, Missing> {
        let name = if name.is_empty() { default } else { name };
        if !name.is_empty() {
            return self.find(name, version);
        }
        let first = self.models().keys().next().cloned().unwrap_or_default();
        self.find(&first, version)
    }

    fn missing(&self, name: &str, models: &Models<M>) -> Missing {
        if models.is_empty() {
            return Missing::Nothing { what: self.inner.what };
        }
        Missing::Model { what: self.inner.what, name: name.to_owned(), known: models.keys().cloned().collect() }
    }

    /// Every loaded version of every model, in order of name and version.
    pub fn all(&self) -> Vec<Arc<Loaded<M>>> {
        self.models().values().flatten().cloned().collect()
    }

    /// Whether nothing is loaded.
    pub fn is_empty(&self) -> bool {
        self.models().is_empty()
    }

    fn models(&self) -> Arc<Models<M>> {
        Arc::clone(&self.inner.models.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn others(&self) -> MutexGuard<'_, BTreeMap<(String, String), (State, String)>> {
        self.inner.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lingering(&self, name: &str, version: &str) -> Option<Arc<Loaded<M>>> {
        let lingering = lock(&self.inner.lingering);
        let now = Instant::now();
        let found = lingering.iter().find(|(until, old)| *until > now && old.folder.name == name && old.folder.version == version);
        found.map(|(_, old)| Arc::clone(old))
    }

    /// Loads these folders, to become the served versions of a model. A version whose manifest has not changed stays as it
    /// is. `None` where none of them is of this service's kind.
    fn stage_folders(&self, name: &str, folders: Vec<ModelFolder>, insist: bool) -> Result<Option<Staging<M>>, Error> {
        let folders: Vec<ModelFolder> = folders.into_iter().filter(|folder| (self.inner.takes)(folder)).collect();
        if folders.is_empty() {
            return Ok(None);
        }
        let before = self.models().get(name).cloned().unwrap_or_default();
        let mut versions = Vec::with_capacity(folders.len());
        for folder in folders {
            let same = before.iter().find(|loaded| loaded.folder.is_same(&folder));
            if let Some(loaded) = same {
                versions.push(Arc::clone(loaded));
                continue;
            }
            if !insist && let Some(reason) = lock(&self.inner.failed).get(&folder.fingerprint()) {
                return Err(Error::FailedBefore { model: folder.id(), reason: reason.clone() });
            }
            versions.push(Arc::new(self.load_version(folder)?));
        }
        Ok(Some(Staging { registry: self.clone(), name: name.to_owned(), before, versions }))
    }

    fn load_version(&self, folder: ModelFolder) -> Result<Loaded<M>, Error> {
        let place = (folder.name.clone(), folder.version.clone());
        lock(&self.inner.failed).remove(&folder.fingerprint());
        let serves = self.find(&place.0, &place.1).is_ok();
        if !serves {
            self.others().insert(place.clone(), (State::Loading, String::new()));
        }
        match self.checked(&folder) {
            Ok(model) => {
                self.others().remove(&place);
                Ok(Loaded { folder, model })
            }
            Err(error) => {
                if !serves {
                    self.others().insert(place, (State::Unavailable, error.to_string()));
                }
                lock(&self.inner.failed).insert(folder.fingerprint(), error.to_string());
                Err(error)
            }
        }
    }

    fn checked(&self, folder: &ModelFolder) -> Result<M, Error> {
        let limit = folder.manifest.serving.max_memory_mb.map(|limit| limit << 20);
        let too_large = |bytes: u64, what: &str| {
            let limit = limit.unwrap_or_default() >> 20;
            folder.broken("quintet.toml", format!("{what} {} MiB, serving.max_memory_mb allows {limit}", bytes >> 20))
        };
        let size = folder.size();
        if limit.is_some_and(|limit| size > limit) {
            return Err(too_large(size, "its files take"));
        }
        folder.check_paths()?;
        if self.inner.repository.verifies() {
            folder.verify()?;
        }
        let before = native::resident_bytes();
        let model = (self.inner.load)(folder).map_err(|reason| Error::Load { model: folder.id(), reason })?;
        // A graph is read whole before its weights are laid out for the kernels: what it was read into is free by now.
        native::give_memory_back();
        let grown = native::resident_bytes().saturating_sub(before);
        if limit.is_some_and(|limit| grown > limit) {
            return Err(too_large(grown, "loading it took"));
        }
        Ok(model)
    }

    /// Puts versions in the place of others; an empty list takes the model out.
    fn swap(&self, name: &str, versions: &[Arc<Loaded<M>>], gone: Vec<Arc<Loaded<M>>>, why: &str) {
        {
            let mut models = self.inner.models.write().unwrap_or_else(PoisonError::into_inner);
            let mut next = Models::clone(&models);
            if versions.is_empty() {
                next.remove(name);
            } else {
                next.insert(name.to_owned(), versions.to_vec());
            }
            *models = Arc::new(next);
        }
        self.inner.generation.fetch_add(1, Ordering::SeqCst);
        // Of those that were replaced only the last are remembered: versions come for as long as the process runs.
        self.others().retain(|(model, _), (_, reason)| model != name || reason != why);
        for old in gone {
            let still_served = versions.iter().any(|new| new.folder.version == old.folder.version);
            if !still_served {
                self.others().insert((name.to_owned(), old.folder.version.clone()), (State::Unavailable, why.to_owned()));
            }
            if self.inner.linger > Duration::ZERO && !versions.is_empty() {
                lock(&self.inner.lingering).push((Instant::now() + self.inner.linger, old));
            } else {
                self.inner.retired.retire(old);
            }
        }
        // Those whose time is over go with the next change.
        let now = Instant::now();
        let over: Vec<_> = lock(&self.inner.lingering).extract_if(.., |(until, _)| *until <= now).collect();
        over.into_iter().for_each(|(_, old)| self.inner.retired.retire(old));
    }
}

/// See [`Staged`].
struct Staging<M> {
    registry: Registry<M>,
    name: String,
    before: Vec<Arc<Loaded<M>>>,
    versions: Vec<Arc<Loaded<M>>>,
}

impl<M: Send + Sync + 'static> Staging<M> {
    fn take_over(self) {
        let Self { registry, name, before, versions } = self;
        // A version that stays must not be retired with those that go.
        let gone: Vec<_> = before.iter().filter(|old| !versions.iter().any(|new| Arc::ptr_eq(old, new))).cloned().collect();
        let same = gone.is_empty() && before.len() == versions.len();
        drop(before);
        if !same {
            registry.swap(&name, &versions, gone, "replaced by another version");
        }
    }
}

impl<M: Send + Sync + 'static> Staged for Staging<M> {
    fn commit(self: Box<Self>) {
        self.take_over();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<M: Send + Sync + 'static> Hosting for Registry<M> {
    fn stage(&self, name: &str, insist: bool) -> Result<Option<Box<dyn Staged>>, Error> {
        let staged = self.stage_folders(name, self.inner.repository.versions(name)?, insist)?;
        Ok(staged.map(|staged| Box::new(staged) as Box<dyn Staged>))
    }

    fn unload(&self, name: &str) -> bool {
        let Some(gone) = self.models().get(name).cloned() else { return false };
        self.swap(name, &[], gone, "unloaded");
        true
    }

    fn names(&self) -> Vec<String> {
        self.models().keys().cloned().collect()
    }

    fn settled(&self, limit: Duration) -> bool {
        self.inner.retired.wait(limit)
    }

    fn index(&self) -> Vec<Index> {
        let mut index: BTreeMap<(String, String), (State, String)> = self.others().clone();
        for loaded in self.all() {
            index.insert((loaded.folder.name.clone(), loaded.folder.version.clone()), (State::Ready, String::new()));
        }
        index.into_iter().map(|((name, version), (state, reason))| Index { name, version, state, reason }).collect()
    }

    fn generation(&self) -> u64 {
        self.inner.generation.load(Ordering::SeqCst)
    }
}

impl<M> fmt::Debug for Registry<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("what", &self.inner.what).finish_non_exhaustive()
    }
}
