//! Files that are read again when they change.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

type Read<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync>;

/// What some files say. When one of them changes and can still be read, what they say changes with it; else the old
/// stays and the fault is logged.
pub(crate) struct Watched<T> {
    paths: Vec<PathBuf>,
    read: Read<T>,
    contents: Mutex<Vec<Vec<u8>>>,
    value: RwLock<Arc<T>>,
}

impl<T> std::fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl<T> Watched<T> {
    pub(crate) fn open(paths: Vec<PathBuf>, read: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync + 'static) -> Result<Self, String> {
        let contents = contents(&paths)?;
        let value = read(&contents).map_err(|reason| format!("{}: {reason}", names(&paths)))?;
        Ok(Self { paths, read: Box::new(read), contents: Mutex::new(contents), value: RwLock::new(Arc::new(value)) })
    }

    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.value.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the files again. They are small: their contents are compared, since dates may lie.
    pub(crate) fn refresh(&self) {
        let mut last = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let read = contents(&self.paths).and_then(|now| {
            if now == *last {
                return Ok(None);
            }
            (self.read)(&now).map(|value| Some((now, value)))
        });
        match read {
            Ok(None) => (),
            Ok(Some((now, value))) => {
                *last = now;
                *self.value.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                tracing::info!(files = names(&self.paths), "read again");
            }
            Err(reason) => tracing::error!(files = names(&self.paths), reason, "cannot be read again; what they said before goes on"),
        }
    }
}

fn contents(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    paths.iter().map(|path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))).collect()
}

fn names(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
