//! Model folders from elsewhere, for Quintet: sources are URLs, and what they hold is kept in a verified cache.
//!
//! A source is one model folder, or a repository of them in a store that can list. [`Sources::sync`] brings it into the
//! cache, laid out as `NAME/VERSION/FILE`, which the rest of the program reads as it reads any model repository
//! ([`Sources::roots`]).
//!
//! | URL | |
//! |---|---|
//! | `file:///PATH`, `s3://BUCKET/PATH`, `gs://…`, `az://…`, `abfs://…` | a model folder, or a repository of `NAME/` and `NAME/VERSION/` |
//! | `https://HOST/PATH` | a model folder; a plain server cannot list |
//! | `hf://ORG/MODEL@REVISION` | a model folder on the Hugging Face Hub; without a revision, "main" |
//!
//! `#sha256=HEX` at the end pins the folder's `quintet.toml`, and so everything.
//!
//! What must hold:
//!
//! * Nothing but `quintet.toml` and the files that it lists is fetched, and nothing is kept whose hash is not the one it
//!   lists.
//! * What has come is never fetched again: downloads are resumed, also by other processes, and files that several folders
//!   share are one.
//! * Several processes may use one cache. One that is killed leaves nothing broken: locks go with it, and everything is
//!   made beside and renamed.
//! * No name from a store leaves the cache's folder. No secret gets into a log or an error.
//! * The process's environment is not read: what a store needs of it comes with the [`Config`].

#![forbid(unsafe_code)]

mod cache;
mod connector;
mod download;
mod environment;
mod error;
mod evict;
mod fault;
mod fetch;
mod hub;
mod lock;
mod manifest;
mod partial;
mod patience;
mod repository;
mod source;
mod store;
mod tree;
mod url;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use crate::{
    cache::{Cache, blocking, touch},
    download::Download,
    environment::Environment,
    evict::Room,
    patience::Patience,
    source::{Broken, Found, Source},
    tree::Tree,
};

pub use error::Error;
pub use repository::open;

/// How often it is tried to put a folder together: before its files are fetched, after, and where another process took
/// one of them away to make room.
const ROUNDS: u32 = 4;

/// Where model folders come from, and where they are kept.
#[derive(Clone)]
pub struct Config {
    /// The sources' URLs.
    pub urls: Vec<String>,
    /// The cache's folder; it is made where it is missing.
    pub cache: PathBuf,
    /// The most bytes of files that the cache keeps.
    pub max_bytes: u64,
    /// The environment variables that stores are asked with: `AWS_…`, `GOOGLE_…`, `AZURE_…`, `HF_TOKEN`, `HF_ENDPOINT`,
    /// `HTTPS_PROXY` and its like. Others are ignored.
    pub environment: Vec<(String, String)>,
    /// A try has failed where nothing comes for so long.
    pub stall: Duration,
    /// How often something is tried, at least once. A try that brought a mebibyte or more starts the count anew.
    pub tries: u32,
    /// The pause after the first failed try; each further one is twice as long, up to 30 s.
    pub backoff: Duration,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The environment holds secrets, and so may URLs.
        let urls: Vec<String> = self.urls.iter().map(|url| url::redact(url)).collect();
        f.debug_struct("Config").field("urls", &urls).field("cache", &self.cache).field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

/// How far a file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The source's URL as it may be shown.
    pub source: &'a str,
    /// "NAME/VERSION/FILE".
    pub file: &'a str,
    /// The bytes that are there; the first report of a resumed file begins above 0.
    pub bytes: u64,
    /// The bytes of the whole file.
    pub total: u64,
}

/// What is told how far files have come.
pub type OnProgress<'a> = &'a (dyn Fn(Progress<'_>) + Send + Sync);

/// The sources of a configuration, with their part of the cache.
pub struct Sources {
    cache: Cache,
    named: Vec<Source>,
    max_bytes: u64,
    patience: Patience,
    /// Locks that keep other processes from removing the sources' trees.
    _uses: Vec<File>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: Vec<&str> = self.named.iter().map(|source| source.shown.as_str()).collect();
        f.debug_struct("Sources").field("cache", &self.cache.root()).field("sources", &shown).finish_non_exhaustive()
    }
}

impl Sources {
    /// Reads the URLs, makes the cache's folder, and takes what the sources have in it into use. Nothing is fetched yet.
    pub fn open(config: Config) -> Result<Self, Error> {
        let environment = Arc::new(Environment::new(config.environment));
        let (mut sources, mut faults) = (Vec::<Source>::new(), Vec::new());
        for url in &config.urls {
            match Source::open(url, &environment) {
                Ok(source) if sources.iter().any(|other| other.id == source.id) => faults.push(format!("'{}' is named twice", source.shown)),
                Ok(source) => sources.push(source),
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(Error::Urls(faults));
        }
        let cache = Cache::open(&config.cache)?;
        let mut uses = Vec::new();
        for source in &sources {
            uses.push(lock::shared(&cache.use_lock(&source.id))?);
            touch(&cache.use_lock(&source.id));
            Tree::open(&cache, &source.id)?;
        }
        let patience = Patience { stall: config.stall, tries: config.tries, backoff: config.backoff };
        Ok(Self { cache, named: sources, max_bytes: config.max_bytes, patience, _uses: uses })
    }

    /// One folder for each URL, in their order, with `NAME/VERSION/FILE` in it.
    pub fn roots(&self) -> Vec<PathBuf> {
        self.named.iter().map(|source| self.cache.tree(&source.id)).collect()
    }

    /// Brings every root up to date. May be called again and again: what is there is not fetched again, new versions
    /// appear in one step, changed ones are replaced in one, and those that are gone go.
    ///
    /// A source or a model that cannot be had does not keep the others from coming, and stays as it was; the first such
    /// fault is returned in the end, others are logged. Dropping the future ends it; what has come stays.
    pub async fn sync(&self, progress: OnProgress<'_>) -> Result<(), Error> {
        let mut first = None;
        let mut note = |source: &Source, error: Error| {
            if first.is_some() {
                tracing::error!(source = source.shown, %error, "a model source could not be brought up to date");
            } else {
                first = Some(error);
            }
        };
        for source in &self.named {
            match self.sync_one(source, progress).await {
                Ok(faults) => faults.into_iter().for_each(|error| note(source, error)),
                // Others would lack the room too.
                Err(error) if error.is_room() => return Err(error),
                Err(error) => note(source, error),
            }
        }
        first.map_or_else(|| Ok(()), Err)?;
        self.tidy().await
    }

    /// Brings one root up to date; gives the faults of single models.
    async fn sync_one(&self, source: &Source, progress: OnProgress<'_>) -> Result<Vec<Error>, Error> {
        let (found, broken) = source.find(&self.patience).await?;
        let (mut failed, mut faults): (BTreeSet<String>, Vec<Error>) = broken.into_iter().map(|Broken { name, error }| (name, error)).unzip();
        let mut wanted = BTreeMap::<String, BTreeSet<String>>::new();
        for folder in found {
            let (name, version) = (folder.folder.name.clone(), folder.folder.version.clone());
            match self.bring(source, folder, progress).await {
                Ok(()) => {}
                Err(error) if error.is_room() => return Err(error),
                Err(error) => {
                    failed.insert(name.clone());
                    faults.push(error);
                }
            }
            wanted.entry(name).or_default().insert(version);
        }
        let (tree, lock) = self.change(source).await?;
        // The old versions of a model go only when the new ones are there.
        blocking(move || tree.keep(&wanted, |name| !failed.contains(name))).await?;
        drop(lock);
        Ok(faults)
    }

    /// Brings one model folder.
    async fn bring(&self, source: &Source, found: Found, progress: OnProgress<'_>) -> Result<(), Error> {
        let (folder, store) = (Arc::new(found.folder), found.store);
        let room = Room { limit: self.max_bytes, keep: Arc::new(folder.files.values().cloned().collect()) };
        for _ in 0..ROUNDS {
            let (tree, lock) = self.change(source).await?;
            let wanted = folder.clone();
            if blocking(move || Ok::<_, Error>(tree.is_current(&wanted)? || tree.put(&wanted)?)).await? {
                return Ok(());
            }
            // Downloads take long: others may change the tree meanwhile.
            drop(lock);
            for (name, hash) in &folder.files {
                let file = format!("{}/{}/{name}", folder.name, folder.version);
                let progress = |bytes, total| progress(Progress { source: &source.shown, file: &file, bytes, total });
                let download = Download { cache: &self.cache, store: &store, name, hash, patience: &self.patience, room: &room, progress: &progress };
                download.run().await?;
            }
        }
        let reason = "another process takes its files away to make room; raise models.cache_bytes".to_owned();
        Err(Error::Unusable { url: store.shown(""), reason })
    }

    /// The tree of a source, and the lock that is held while it is changed.
    async fn change(&self, source: &Source) -> Result<(Tree, File), Error> {
        let lock = lock::exclusive(&self.cache.change_lock(&source.id)).await?;
        Ok((Tree::open(&self.cache, &source.id)?, lock))
    }

    /// Notes what is in use, and removes what is over the limit.
    async fn tidy(&self) -> Result<(), Error> {
        let ids: Vec<String> = self.named.iter().map(|source| source.id.clone()).collect();
        let (cache, room) = (self.cache.clone(), Room { limit: self.max_bytes, keep: Arc::default() });
        blocking(move || {
            for id in &ids {
                touch(&cache.use_lock(id));
                evict::linked_by(&cache, id)?.iter().for_each(|hash| touch(&cache.record(hash)));
            }
            match room.make(&cache, 0, 0) {
                // Where other processes use so much, it is not for this one to fail.
                Err(error @ Error::CacheLimit { .. }) if evict::bytes_of(&cache, &ids)? <= room.limit => {
                    tracing::warn!(%error, "the model cache is over its limit");
                    Ok(())
                }
                outcome => outcome,
            }
        })
        .await
    }
}

/// The user's cache folder: `$XDG_CACHE_HOME/quintet`, or `$HOME/.cache/quintet`. None where neither is set to a whole path.
pub fn default_cache(environment: &[(String, String)]) -> Option<PathBuf> {
    let folder = |name: &str| {
        let value = environment.iter().find(|(key, _)| key == name).map(|(_, value)| PathBuf::from(value));
        value.filter(|path| path.is_absolute())
    };
    folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache"))).map(|path| path.join("quintet"))
}
