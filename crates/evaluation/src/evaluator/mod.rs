//! What an evaluation does: draw samples from another service, then measure them.

mod anomaly;
mod image;
mod text;

use std::{collections::BTreeMap, sync::Arc};

use quintet_onnx::ModelFolder;
use tokio_util::task::TaskTracker;

use crate::{
    Error,
    engine::{Metric, Plan, Subject, classifier, classifier::Classifier, datasets::Catalog, jobs::Progress},
    peers::{Clients, ModelId},
};

pub(crate) use self::{anomaly::dataset_of, image::comparable};

/// All that evaluations are run with.
#[derive(Debug)]
pub(crate) struct Evaluator {
    pub(crate) catalog: Catalog,
    pub(crate) classifiers: Vec<Classifier>,
    pub(crate) peers: Clients,
    /// This process's model folders.
    pub(crate) folders: Vec<ModelFolder>,
    pub(crate) tasks: TaskTracker,
}

impl Evaluator {
    /// Runs an evaluation to its metrics.
    pub(crate) async fn run(self: Arc<Self>, progress: Progress, plan: Plan) -> Result<Vec<Metric>, Error> {
        match &plan.subject {
            Subject::Image(subject) => self.image(&progress, subject, &plan).await,
            Subject::Text(subject) => self.text(&progress, subject, &plan).await,
            Subject::Anomaly(subject) => self.anomaly(&progress, subject, &plan).await,
        }
    }

    /// A classifier; an empty name means the only one.
    pub(crate) fn classifier(&self, name: &str) -> Result<&Classifier, Error> {
        let known = || self.classifiers.iter().map(|classifier| classifier.name().to_owned()).collect::<Vec<_>>();
        match (name, self.classifiers.as_slice()) {
            ("", [only]) => Ok(only),
            ("", [_, ..]) => Err(Error::invalid("image.classifier", format!("empty, and there are several: name one of {}", known().join(", ")))),
            _ => {
                let named = self.classifiers.iter().find(|classifier| classifier.name() == name);
                named.ok_or_else(|| Error::Unknown { what: "image classifier", name: name.to_owned(), known: known() })
            }
        }
    }

    /// Runs a computation on a thread that may block.
    async fn compute<T: Send + 'static>(&self, computation: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
        self.tasks.spawn_blocking(computation).await.map_err(|_| Error::Ended)?
    }

    /// What a model of another service is to be found again by.
    fn hash(&self, model: &ModelId, is_here: bool) -> (String, String) {
        let folder = self.folders.iter().find(|folder| is_here && folder.name == model.name && folder.version == model.version);
        (model.id(), folder.map(classifier::folder_hash).unwrap_or_default())
    }
}

/// What all metrics of an evaluation share.
struct Shared {
    sample_size: usize,
    seed: u64,
    measured_with: BTreeMap<String, String>,
}
