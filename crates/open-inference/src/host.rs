use std::{ops::Deref, sync::Arc};

use quintet_onnx::{Loaded, Missing, Registry};

use crate::{Error, Graph};

/// A loaded model whose graphs can be run on raw tensors.
pub trait Hosted: Send + Sync {
    /// Its graphs.
    fn graphs(&self) -> &[Graph];
}

impl<M: Hosted> Hosted for Loaded<M> {
    fn graphs(&self) -> &[Graph] {
        self.model.graphs()
    }
}

/// A service's models, as the Open Inference Protocol sees them.
pub trait Host: Send + Sync {
    /// A version of a model; the highest where `version` is empty.
    fn find(&self, model: &str, version: &str) -> Result<Arc<dyn Hosted>, Missing>;
    /// Every version of every model.
    fn all(&self) -> Vec<Arc<dyn Hosted>>;
}

impl<M: Hosted + 'static> Host for Registry<M> {
    fn find(&self, model: &str, version: &str) -> Result<Arc<dyn Hosted>, Missing> {
        Self::find(self, model, version).map(|loaded| loaded as Arc<dyn Hosted>)
    }

    fn all(&self) -> Vec<Arc<dyn Hosted>> {
        Self::all(self).into_iter().map(|loaded| loaded as Arc<dyn Hosted>).collect()
    }
}

/// A graph, with its model, which stays loaded as long as this is held.
pub(crate) struct Found {
    held: Arc<dyn Hosted>,
    index: usize,
}

impl Deref for Found {
    type Target = Graph;

    fn deref(&self) -> &Graph {
        // `index` was found in these very graphs, which a loaded model never changes.
        &self.held.graphs()[self.index]
    }
}

/// All services' models.
#[derive(Clone)]
pub(crate) struct Hosts(pub(crate) Arc<[Arc<dyn Host>]>);

impl Hosts {
    /// The graph called `name`: "MODEL/GRAPH", or "MODEL" where the model has one graph.
    pub(crate) fn graph(&self, name: &str, version: &str) -> Result<Found, Error> {
        let (model, stem) = name.split_once('/').map_or((name, None), |(model, stem)| (model, Some(stem)));
        let found = self.model(model, version)?;
        let graphs = found.as_ref().map(|model| model.graphs()).unwrap_or_default();
        let index = match stem {
            Some(stem) => graphs.iter().position(|graph| graph.stem == stem),
            None => (graphs.len() == 1).then_some(0),
        };
        match (found, index) {
            (Some(model), Some(index)) => Ok(Found { held: model, index }),
            _ => Err(Error::UnknownGraph { name: name.to_owned(), known: self.names() }),
        }
    }

    /// Whether a model, or a graph of one, can take requests.
    pub(crate) fn is_ready(&self, name: &str, version: &str) -> bool {
        self.graph(name, version).is_ok() || matches!(self.model(name, version), Ok(Some(_)))
    }

    /// A model in a version; `None` where no service has it.
    fn model(&self, name: &str, version: &str) -> Result<Option<Arc<dyn Hosted>>, Error> {
        for host in self.0.iter() {
            match host.find(name, version) {
                Ok(model) => return Ok(Some(model)),
                Err(missing @ Missing::Version { .. }) => return Err(missing.into()),
                Err(Missing::Nothing { .. } | Missing::Model { .. }) => (),
            }
        }
        Ok(None)
    }

    /// Every loaded graph, in order of name and version.
    pub(crate) fn all(&self) -> Vec<Found> {
        let models = self.0.iter().flat_map(|host| host.all());
        let mut all: Vec<Found> =
            models.flat_map(|model| (0..model.graphs().len()).map(move |index| Found { held: Arc::clone(&model), index })).collect();
        all.sort_by(|a, b| (&a.model, &a.stem, &a.version).cmp(&(&b.model, &b.stem, &b.version)));
        all
    }

    /// The loaded versions of a graph's model, ascending.
    pub(crate) fn versions(&self, graph: &Graph) -> Vec<String> {
        let all = self.all();
        let same = all.iter().filter(|other| other.model == graph.model && other.stem == graph.stem);
        let mut versions: Vec<String> = same.map(|other| other.version.clone()).collect();
        versions.sort_by_key(|version| (version.parse::<u64>().ok(), version.clone()));
        versions
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.all().iter().map(|graph| graph.name()).collect();
        names.dedup();
        names
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|host| host.all().is_empty())
    }
}
