//! The crate against a real server on this machine.

mod cache;
mod hub;
mod s3;
mod server;
mod web;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use self::server::{Reply, Request};
use crate::{Config, Error, Sources};

/// Files by their paths, as a server has them; they may change while it runs.
#[derive(Clone, Default)]
struct Files(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Files {
    /// A model folder with these files.
    fn with_model(self, path: &str, files: &[(&str, &[u8])]) -> Self {
        self.put_model(path, files);
        self
    }

    fn put_model(&self, path: &str, files: &[(&str, &[u8])]) {
        for (name, content) in files {
            self.put(&format!("{path}/{name}"), content);
        }
        self.put(&format!("{path}/quintet.toml"), manifest(files).as_bytes());
    }

    fn put(&self, path: &str, content: &[u8]) {
        self.0.lock().unwrap().insert(path.to_owned(), content.to_owned());
    }

    fn remove(&self, prefix: &str) {
        self.0.lock().unwrap().retain(|path, _| !path.starts_with(prefix));
    }

    fn get(&self, path: &str) -> Reply {
        self.0.lock().unwrap().get(path).map_or(Reply::Status(404), |content| Reply::File(content.clone()))
    }

    fn serve(&self) -> impl Fn(&Request) -> Reply + Send + Sync + use<> {
        let files = self.clone();
        move |request| files.get(&request.path)
    }
}

fn sha256(content: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(content))
}

/// A manifest of these files.
fn manifest(files: &[(&str, &[u8])]) -> String {
    let lines: Vec<String> = files.iter().map(|(name, content)| format!("\"{name}\" = \"{}\"\n", sha256(content))).collect();
    format!("schema = 1\n[sha256]\n{}", lines.concat())
}

/// A cache that goes with the test, and what is asked of it.
struct Bench {
    cache: TempDir,
    config: Config,
}

impl Bench {
    fn new(urls: &[String]) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let config = Config {
            urls: urls.to_vec(),
            cache: cache.path().to_owned(),
            max_bytes: 1 << 30,
            environment: Vec::new(),
            stall: Duration::from_mins(1),
            tries: 4,
            backoff: Duration::from_millis(1),
        };
        Self { cache, config }
    }

    fn set(mut self, key: &str, value: &str) -> Self {
        self.config.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    fn open(&self) -> Sources {
        Sources::open(self.config.clone()).unwrap()
    }

    async fn sync(&self) -> Result<PathBuf, Error> {
        let sources = self.open();
        sources.sync(&|_| {}).await?;
        Ok(sources.roots()[0].clone())
    }

    async fn fault(&self) -> Error {
        self.sync().await.unwrap_err()
    }

    /// The names in one of the cache's folders.
    fn names(&self, folder: &str) -> Vec<String> {
        crate::cache::entries(&self.cache.path().join(folder)).unwrap()
    }
}

/// All files under a folder, with what is in them.
fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// The names of all files under a folder.
fn names(root: &Path) -> Vec<String> {
    tree(root).into_keys().collect()
}
