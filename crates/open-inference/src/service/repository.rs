use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use quintet_onnx::{Control, Error as OnnxError, Fleet, Index, Overlay, State};
use quintet_proto::inference::{
    RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest, RepositoryModelLoadResponse, RepositoryModelUnloadRequest,
    RepositoryModelUnloadResponse, repository_index_response::ModelIndex,
};
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use crate::{Error, load::Wish};

/// Loads and unloads models when clients ask for it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Management {
    fleet: Fleet,
    /// Where files that clients hand over are kept.
    uploads: Arc<PathBuf>,
    /// The files of each model that came from a client; held while models change, one at a time.
    kept: Arc<Mutex<HashMap<String, TempDir>>>,
    tasks: TaskTracker,
}

impl Management {
    pub(super) fn new(fleet: Fleet, uploads: PathBuf, tasks: TaskTracker) -> Self {
        Self { fleet, uploads: Arc::new(uploads), kept: Arc::default(), tasks }
    }

    pub(super) fn is_explicit(&self) -> bool {
        self.fleet.repository().control() == Control::Explicit
    }

    fn check(&self, repository: &str, model: &str) -> Result<(), Error> {
        match self.fleet.repository().control() {
            Control::Explicit => (),
            Control::None => return Err(Error::NotExplicit("none")),
            Control::Poll => return Err(Error::NotExplicit("poll")),
        }
        if !repository.is_empty() {
            return Err(Error::invalid("repository_name", format!("'{repository}': must be empty, names are unique over all repositories")));
        }
        if model.is_empty() || model.len() > 255 {
            return Err(Error::invalid("model_name", format!("{} bytes: must be 1 to 255", model.len())));
        }
        Ok(())
    }

    /// Loading blocks for as long as it takes, whether or not the client stays.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
        let management = self.clone();
        self.tasks.spawn_blocking(move || work(&management)).await.unwrap_or(Err(Error::Ended))
    }

    pub(super) async fn load(&self, request: RepositoryModelLoadRequest) -> Result<RepositoryModelLoadResponse, Error> {
        self.check(&request.repository_name, &request.model_name)?;
        self.blocking(move |management| management.load_now(&request.model_name, request.parameters)).await?;
        Ok(RepositoryModelLoadResponse {})
    }

    fn load_now(&self, name: &str, parameters: HashMap<String, quintet_proto::inference::ModelRepositoryParameter>) -> Result<(), Error> {
        let wish = Wish::of(parameters, &self.uploads)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let files = wish.files.as_ref().map(|folder| folder.path().to_owned());
        let overlay = Overlay { settings: wish.settings, files };
        let repository = self.fleet.repository();
        let before = repository.overlay(name, (overlay != Overlay::default()).then_some(overlay));
        let outcome = match self.fleet.load(name) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let known = self.fleet.index().into_iter().map(|index| format!("{}@{}", index.name, index.version)).collect();
                Err(Error::NotInRepository { name: name.to_owned(), known })
            }
            Err(error) => Err(Error::Load(error)),
        };
        match (&outcome, wish.files) {
            (Ok(()), Some(files)) => drop(kept.insert(name.to_owned(), files)),
            (Ok(()), None) => drop(kept.remove(name)),
            // What served before goes on, from where it came.
            (Err(_), _) => drop(repository.overlay(name, before)),
        }
        outcome
    }

    fn names(&self) -> Vec<String> {
        let index = self.fleet.index();
        let mut names: Vec<String> = index.into_iter().filter(|index| index.state == State::Ready).map(|index| index.name).collect();
        names.dedup();
        names
    }

    pub(super) async fn unload(&self, request: RepositoryModelUnloadRequest) -> Result<RepositoryModelUnloadResponse, Error> {
        self.check(&request.repository_name, &request.model_name)?;
        let unload = move |management: &Self| {
            let name = &request.model_name;
            let mut kept = management.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if !management.fleet.unload(name) {
                return Err(Error::UnknownGraph { name: name.clone(), known: management.names() });
            }
            management.fleet.repository().overlay(name, None);
            kept.remove(name);
            Ok(RepositoryModelUnloadResponse {})
        };
        self.blocking(unload).await
    }

    pub(super) async fn index(&self, request: &RepositoryIndexRequest) -> Result<RepositoryIndexResponse, Error> {
        if !request.repository_name.is_empty() {
            let description = format!("'{}': must be empty, there is one repository", request.repository_name);
            return Err(Error::invalid("repository_name", description));
        }
        let only_ready = request.ready;
        // Folders are looked at.
        let index = self.blocking(|management| Ok::<_, Error>(management.fleet.index())).await?;
        let models = index.into_iter().filter(|index| !only_ready || index.state == State::Ready).map(message).collect();
        Ok(RepositoryIndexResponse { models })
    }
}

fn message(index: Index) -> ModelIndex {
    let state = match index.state {
        State::Ready => "READY",
        State::Loading => "LOADING",
        State::Unavailable => "UNAVAILABLE",
    };
    ModelIndex { name: index.name, version: index.version, state: state.to_owned(), reason: index.reason }
}

impl From<OnnxError> for Error {
    fn from(error: OnnxError) -> Self {
        Self::Run(error.into())
    }
}
