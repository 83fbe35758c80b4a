//! Where model folders are, which of their versions are served, and what is loaded.

mod fleet;
mod registry;
mod retired;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use crate::{Error, ModelFolder, ModelsConfig, ServingSettings, VersionPolicy, folder::is_model_folder};

pub use fleet::{Fleet, Poller};
pub use registry::{Hosting, Index, Loaded, Missing, Registry, Staged, State};

/// A model's name, and the versions of it that are to be served.
type Found = (String, Result<Vec<ModelFolder>, Error>);

/// Brings what comes from elsewhere up to date; says what is wrong where that fails.
type Refill = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The model folders of one or several repositories. Cheap to clone; clones see the same.
#[derive(Clone)]
pub struct Repository {
    config: ModelsConfig,
    refill: Option<Refill>,
    /// Folders of model folders; the first that has a name wins.
    roots: Arc<RwLock<Vec<PathBuf>>>,
    /// What clients asked for in place of what the roots hold, by the model's name.
    overlays: Arc<RwLock<BTreeMap<String, Overlay>>>,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("path", &self.config.path).finish_non_exhaustive()
    }
}

/// What a client asked for when it loaded a model, in place of what the repository holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overlay {
    /// Settings that go over those of the model's folders.
    pub settings: ServingSettings,
    /// A folder of the model's versions, handed over by the client.
    pub files: Option<PathBuf>,
}

impl Repository {
    /// The repository of a configuration. That it can be read is checked here, its folders when they are loaded.
    pub fn open(config: &ModelsConfig) -> Result<Self, Error> {
        let mut roots = Vec::new();
        // Where all models come from elsewhere, there need be no folder.
        if !config.path.as_os_str().is_empty() || config.sources.is_empty() {
            subfolders(&config.path)?;
            roots.push(config.path.clone());
        }
        Ok(Self { config: config.clone(), refill: None, roots: Arc::new(RwLock::new(roots)), overlays: Arc::default() })
    }

    /// Takes the model folders under `roots`, of the form `NAME/VERSION/`, too; names that are there already go first.
    /// `refill` is called before the repository is looked at for changes, and brings them up to date.
    #[must_use]
    pub fn supplied(mut self, roots: Vec<PathBuf>, refill: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.roots.write().unwrap_or_else(PoisonError::into_inner).extend(roots);
        self.refill = Some(Arc::new(refill));
        self
    }

    /// Brings what comes from elsewhere up to date. Where that fails, what is there serves on; the answer says why.
    fn refill(&self) -> Result<(), Error> {
        let Some(refill) = &self.refill else { return Ok(()) };
        refill().map_err(|reason| {
            tracing::error!(reason, "the model sources cannot be brought up to date; what is there serves on");
            Error::Sources(reason)
        })
    }

    /// Where the first of its roots is.
    pub fn path(&self) -> &Path {
        &self.config.path
    }

    /// Serves a model as `overlay` says; `None`: as the roots have it. Gives the overlay that was there.
    pub fn overlay(&self, name: &str, overlay: Option<Overlay>) -> Option<Overlay> {
        let mut overlays = self.overlays.write().unwrap_or_else(PoisonError::into_inner);
        match overlay {
            Some(overlay) => overlays.insert(name.to_owned(), overlay),
            None => overlays.remove(name),
        }
    }

    fn overlays(&self) -> BTreeMap<String, Overlay> {
        self.overlays.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether files and golden pairs are to be checked at load.
    pub fn verifies(&self) -> bool {
        self.config.verify
    }

    /// Whether what is broken or missing is reported and left out.
    pub fn keeps_going(&self) -> bool {
        self.config.keep_going
    }

    /// Whether a service may start without a model: one may come later.
    pub fn may_be_empty(&self) -> bool {
        self.config.keep_going || self.config.control != Control::None
    }

    /// The names of all models there are, in order, with their folders.
    fn names(&self) -> Result<BTreeMap<String, PathBuf>, Error> {
        let mut names: BTreeMap<_, _> = self.overlays().into_iter().filter_map(|(name, overlay)| Some((name, overlay.files?))).collect();
        for root in self.roots.read().unwrap_or_else(PoisonError::into_inner).iter() {
            for (name, path) in subfolders(root)? {
                names.entry(name).or_insert(path);
            }
        }
        Ok(names)
    }

    /// The versions of a model that are to be served, ascending. None where there is no such model.
    pub fn versions(&self, name: &str) -> Result<Vec<ModelFolder>, Error> {
        // The name may be a client's.
        if !is_plain(name) {
            return Ok(Vec::new());
        }
        let names = self.names()?;
        let Some(path) = names.get(name) else { return Ok(Vec::new()) };
        let versions = versions_of(path)?;
        let Some((version, newest)) = versions.last() else { return Ok(Vec::new()) };
        // The newest version says what is served; one that is broken must not take the others with it.
        let settings = self.overlays().remove(name).unwrap_or_default().settings;
        let open = |version: String, path: &Path| {
            let folder = ModelFolder::open(name.to_owned(), version, path)?;
            Ok::<_, Error>(if settings == ServingSettings::default() { folder } else { folder.overridden(&settings) })
        };
        let newest = open(version.clone(), newest);
        let own = newest.as_ref().ok().and_then(|folder| folder.manifest.serving.versions.clone());
        let policy = own.unwrap_or_else(|| self.config.versions.clone());
        if policy == VersionPolicy::Latest(1) {
            return newest.map(|folder| vec![folder]);
        }
        policy.pick(versions).into_iter().map(|(version, path)| open(version, &path)).collect()
    }

    /// The models to load at start, each with its versions.
    fn at_start(&self) -> Result<Vec<Found>, Error> {
        let mut names: Vec<String> = self.names()?.into_keys().collect();
        if self.config.control == Control::Explicit {
            if let Some(missing) = self.config.load.iter().find(|name| !names.contains(name)) {
                let reason = format!("models.load names '{missing}', which is not in it");
                return Err(Error::Repository { path: self.config.path.clone(), reason });
            }
            names.retain(|name| self.config.load.contains(name));
        }
        Ok(names.into_iter().map(|name| (name.clone(), self.versions(&name))).collect())
    }

    /// How models come and go.
    pub fn control(&self) -> Control {
        self.config.control
    }

    /// Its configuration.
    pub fn config(&self) -> &ModelsConfig {
        &self.config
    }
}

/// How models come and go while the process runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Control {
    /// What is there at start is loaded, and stays.
    #[default]
    None,
    /// The repository is looked at again and again: what is new or changed is loaded, what has gone is unloaded.
    Poll,
    /// `models.load` is loaded at start, and what clients ask for.
    Explicit,
}

/// Whether a name is one path component and nothing else.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && name.len() <= 255 && !name.contains(['/', '\\', '\0'])
}

/// A model's versions with their folders, ascending: the folder itself counts as version 1.
fn versions_of(path: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    if is_model_folder(path) {
        return Ok(vec![("1".to_owned(), path.to_owned())]);
    }
    let mut versions: Vec<_> = subfolders(path)?.into_iter().filter(|(_, path)| is_model_folder(path)).collect();
    // Versions that are numbers are compared as numbers: 10 is newer than 9.
    versions.sort_by(|(a, _), (b, _)| (a.parse::<u64>().ok(), a).cmp(&(b.parse::<u64>().ok(), b)));
    Ok(versions)
}

fn subfolders(path: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let unreadable = |error: std::io::Error| Error::Repository { path: path.to_owned(), reason: error.to_string() };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.path().is_dir()
            && let Some(name) = entry.file_name().to_str()
            && is_plain(name)
        {
            found.push((name.to_owned(), entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests;
