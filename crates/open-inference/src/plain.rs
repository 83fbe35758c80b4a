//! Model folders of kind "graph": graphs that are served for their raw tensors and nothing else.

use std::{sync::Arc, time::Duration};

use quintet_batching::Limits;
use quintet_onnx::{Cancel, Error as OnnxError, GRAPH_KIND, GraphInfo, Instances, ModelFolder, Registry, Repository, Runtime, Session, Sessions};
use serde::Deserialize;

use crate::{Graph, Hosted};

/// Rows that run together, where the folder does not say otherwise.
const BATCH_ROWS: usize = 64;

/// Rows that may wait.
const QUEUE_ROWS: usize = 16_384;

/// Batches that may wait for an instance: more than the batchers of a model's graphs ever hand out.
const CAPACITY: usize = 1024;

/// The table `[graph]` of a model folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    #[serde(default = "only")]
    graphs: Vec<String>,
}

fn only() -> Vec<String> {
    vec!["model.onnx".to_owned()]
}

/// A model of kind "graph".
#[derive(Debug)]
pub(crate) struct PlainModel {
    graphs: Vec<Graph>,
}

impl Hosted for PlainModel {
    fn graphs(&self) -> &[Graph] {
        &self.graphs
    }
}

struct Graphs(Vec<Session>);

impl Sessions for Graphs {
    fn sessions(&mut self) -> Vec<&mut Session> {
        self.0.iter_mut().collect()
    }
}

/// The models of kind "graph" of a repository.
pub(crate) fn plain_models(runtime: &Runtime, repository: &Repository) -> Result<Registry<PlainModel>, OnnxError> {
    let (runtime, verify) = (runtime.clone(), repository.verifies());
    let load = move |folder: &ModelFolder| PlainModel::load(folder, &runtime, verify);
    Registry::open("plain model", repository, |folder| folder.manifest.kind == GRAPH_KIND, load)
}

impl PlainModel {
    fn load(folder: &ModelFolder, runtime: &Runtime, verify: bool) -> Result<Self, OnnxError> {
        let folder = &folder.arranged(0);
        let section: Section = folder.section()?;
        // Nobody made golden pairs for a bare graph; a folder that has them is held to them.
        let verify = verify && folder.has(quintet_onnx::golden::FILE);
        let serving = &folder.manifest.serving;
        let count = folder.instances();
        let (opened, runtime) = (folder.clone(), runtime.clone());
        let open = move |is_first: bool| -> Result<(Graphs, Vec<GraphInfo>), OnnxError> {
            let sessions: Vec<Session> =
                section.graphs.iter().map(|file| Session::of(&opened, file, &runtime, verify && is_first)).collect::<Result<_, _>>()?;
            let infos = sessions.iter().map(Session::info).collect();
            Ok((Graphs(sessions), infos))
        };
        let (instances, infos) = Instances::spawn(&folder.name, count, CAPACITY, open)?;
        tracing::info!(model = folder.id(), providers = ?GraphInfo::provider_nodes(&infos), "a plain model is ready");
        let instances = Arc::new(instances);
        let limits = Limits {
            max_delay: Duration::from_secs_f64(serving.max_delay_ms.unwrap_or(0.0) / 1e3),
            preferred_rows: serving.preferred_batch_rows.clone(),
            instances: count,
            ..Limits::rows(serving.max_batch_rows.unwrap_or(BATCH_ROWS), serving.max_queue_rows.unwrap_or(QUEUE_ROWS))
        };
        let graphs = infos.into_iter().enumerate().map(|(index, info)| {
            let instances = Arc::clone(&instances);
            Graph::new(folder, info, limits.clone(), move |job| {
                instances.submit_cancellable(move |graphs: &mut Graphs, cancel: &Cancel| {
                    if let Some(session) = graphs.0.get_mut(index) {
                        job(session, cancel);
                    }
                })
            })
        });
        Ok(Self { graphs: graphs.collect() })
    }
}
