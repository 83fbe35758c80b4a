//! One source: what its URL names, and the model folders there.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::{
    Error,
    environment::Environment,
    fetch::small,
    hub::Hub,
    manifest::{Folder, MANIFEST, MAX_MANIFEST_BYTES},
    patience::Patience,
    store::Store,
    url::{Address, SourceUrl, is_plain},
};

/// The most model folders in one source.
const MAX_FOLDERS: usize = 10_000;

/// One source.
pub(crate) struct Source {
    /// Its URL as it may be shown.
    pub(crate) shown: String,
    /// The name of its tree in the cache.
    pub(crate) id: String,
    /// The name and version, if it is one model folder.
    folder: Option<(String, String)>,
    pin: Option<String>,
    place: Place,
}

enum Place {
    Store(Store),
    Hub(Hub),
}

/// A model folder that a source has.
pub(crate) struct Found {
    /// What is in it.
    pub(crate) folder: Folder,
    /// Where it is.
    pub(crate) store: Store,
}

/// A model folder that a source names, and what is wrong with it.
pub(crate) struct Broken {
    /// The model's name.
    pub(crate) name: String,
    /// What is wrong.
    pub(crate) error: Error,
}

impl Source {
    /// The source of a URL, or what is wrong with it.
    pub(crate) fn open(text: &str, environment: &Arc<Environment>) -> Result<Self, String> {
        let SourceUrl { address, shown, pin, folder } = SourceUrl::parse(text)?;
        let place = match &address {
            Address::Store { url, user } => Store::open(url, user.as_ref(), environment).map(Place::Store),
            Address::Hub { model, revision } => Hub::open(model, revision, environment).map(Place::Hub),
        };
        let place = place.map_err(|reason| format!("'{shown}': {reason}"))?;
        if folder.is_none() && matches!(&place, Place::Store(store) if !store.lists) {
            return Err(format!("'{shown}': its path names no model: write …/NAME or …/NAME/VERSION"));
        }
        Ok(Self { shown, id: hex::encode(Sha256::digest(text)), folder, pin, place })
    }

    /// The model folders that it has now, and those that make no sense.
    pub(crate) async fn find(&self, patience: &Patience) -> Result<(Vec<Found>, Vec<Broken>), Error> {
        let store = match &self.place {
            Place::Store(store) => store.clone(),
            Place::Hub(hub) => hub.resolve(patience).await?,
        };
        match small(&store, MANIFEST, MAX_MANIFEST_BYTES, patience).await {
            Ok(manifest) => {
                let (name, version) = self.folder.as_ref().ok_or_else(|| Error::NoFolder {
                    url: self.shown.clone(),
                    way_out: "there is a quintet.toml, but the path names no model: write …/NAME or …/NAME/VERSION",
                })?;
                Ok((vec![self.read(store, name, version, manifest)?], Vec::new()))
            }
            Err(Error::Status { status: 404 | 410, .. }) if store.lists => self.list(&store, patience).await,
            Err(Error::Status { status: 404 | 410, url, .. }) => Err(Error::NoFolder {
                url,
                way_out: "it is not there, and such a server cannot list what it has: \
                    name each model folder by a URL of its own, or use a store that can list (s3, gs, az, file)",
            }),
            Err(error) => Err(error),
        }
    }

    fn read(&self, store: Store, name: &str, version: &str, manifest: Vec<u8>) -> Result<Found, Error> {
        let url = store.shown(MANIFEST);
        if let Some(pin) = &self.pin {
            let actual = hex::encode(Sha256::digest(&manifest));
            if *pin != actual {
                return Err(Error::Pin { url, expected: pin.clone(), actual });
            }
        }
        let folder = Folder::parse(name, version, manifest).map_err(|reason| Error::Manifest { url, reason })?;
        Ok(Found { folder, store })
    }

    /// The model folders `NAME/` and `NAME/VERSION/` of a repository.
    async fn list(&self, store: &Store, patience: &Patience) -> Result<(Vec<Found>, Vec<Broken>), Error> {
        if self.pin.is_some() {
            let way_out = "'#sha256=' pins the quintet.toml of one model folder, and there is none there";
            return Err(Error::NoFolder { url: self.shown.clone(), way_out });
        }
        let (mut found, mut broken) = (Vec::new(), Vec::new());
        for name in folders(store, patience).await? {
            let model = store.below(&name);
            let outcome = self.model(&model, &name, patience).await;
            match outcome {
                Ok(versions) => found.extend(versions),
                // What passes would look as if the model had gone.
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => broken.push(Broken { name, error }),
            }
            if found.len() > MAX_FOLDERS {
                let reason = format!("it holds more than {MAX_FOLDERS} model folders: name a part of it");
                return Err(Error::Unusable { url: self.shown.clone(), reason });
            }
        }
        if found.is_empty() && broken.is_empty() {
            // A mistake there should not take every model away.
            let way_out = "neither NAME/quintet.toml nor NAME/VERSION/quintet.toml is there; check the path, or upload a model folder";
            return Err(Error::NoFolder { url: self.shown.clone(), way_out });
        }
        Ok((found, broken))
    }

    async fn model(&self, store: &Store, name: &str, patience: &Patience) -> Result<Vec<Found>, Error> {
        if let Some(manifest) = manifest(store, patience).await? {
            return Ok(vec![self.read(store.clone(), name, "1", manifest)?]);
        }
        let mut found = Vec::new();
        for version in folders(store, patience).await? {
            let folder = store.below(&version);
            // A version without a manifest is still being uploaded.
            if let Some(manifest) = manifest(&folder, patience).await? {
                found.push(self.read(folder, name, &version, manifest)?);
            }
        }
        Ok(found)
    }
}

/// A folder's manifest, if it has one.
async fn manifest(store: &Store, patience: &Patience) -> Result<Option<Vec<u8>>, Error> {
    match small(store, MANIFEST, MAX_MANIFEST_BYTES, patience).await {
        Ok(manifest) => Ok(Some(manifest)),
        Err(Error::Status { status: 404 | 410, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names of the folders in a folder, but for hidden ones.
async fn folders(store: &Store, patience: &Patience) -> Result<Vec<String>, Error> {
    let url = store.shown("");
    let mut names = patience.retry(&url, || async { patience.wait(store.list()).await? }).await?;
    names.retain(|name| !name.starts_with('.'));
    if let Some(name) = names.iter().find(|name| !is_plain(name)) {
        return Err(Error::Name { url, name: name.escape_debug().to_string() });
    }
    names.sort();
    Ok(names)
}
