//! Image classifiers: the features and logits that image metrics are made of.

use std::{collections::BTreeMap, sync::Arc};

use nalgebra::DMatrix;
use ndarray::{Array4, Axis};
use quintet_batching::Limits;
use quintet_onnx::{Error as OnnxError, Full, GraphInfo, ModelFolder, Owner, Runtime, Session, Tensor};
use quintet_open_inference::{Graph, Hosted};
use serde::Deserialize;
use tokio::sync::oneshot;

use crate::Error;

/// Images that are run together.
const BATCH: usize = 256;

/// Rows of raw requests that may wait.
const QUEUE: usize = 16_384;

/// Jobs that may wait.
const CAPACITY: usize = 64;

/// The table `[image_classifier]` of a model folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    graph: String,
    classes: Vec<String>,
    features: usize,
    /// Channels, height, width.
    image: [usize; 3],
    value_range: [f32; 2],
}

/// A loaded image classifier.
#[derive(Debug)]
pub struct Classifier {
    /// Its name.
    pub name: String,
    /// "NAME@VERSION".
    pub id: String,
    /// SHA-256 of its graph, in hexadecimal.
    pub sha256: String,
    section: Section,
    owner: Arc<Owner<Session>>,
    graphs: Vec<Graph>,
    provider_nodes: BTreeMap<String, u32>,
}

impl Hosted for Classifier {
    fn graphs(&self) -> &[Graph] {
        &self.graphs
    }
}

/// What a classifier says of images: a row for each.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The penultimate layer.
    pub features: DMatrix<f64>,
    /// The logits.
    pub logits: DMatrix<f64>,
}

impl Classifier {
    /// Loads a model folder of kind "image-classifier".
    pub fn load(folder: &ModelFolder, runtime: &Runtime, verify: bool) -> Result<Self, Error> {
        let section: Section = folder.section()?;
        let (opened, runtime, file) = (folder.clone(), runtime.clone(), section.graph.clone());
        let (owner, info) = Owner::spawn(&folder.name, CAPACITY, move || -> Result<(Session, GraphInfo), Error> {
            let session = Session::of(&opened, &file, &runtime, verify)?;
            let info = session.info();
            Ok((session, info))
        })?;
        let owner = Arc::new(owner);
        let provider_nodes = info.provider_nodes.clone();
        let raw = Arc::clone(&owner);
        let serving = &folder.manifest.serving;
        let limits = Limits::rows(serving.max_batch_rows.unwrap_or(BATCH), serving.max_queue_rows.unwrap_or(QUEUE));
        let graphs = vec![Graph::new(folder, info, limits, move |job| raw.submit_cancellable(job))];
        let sha256 = folder.manifest.sha256.get(&section.graph).cloned().unwrap_or_default();
        Ok(Self { name: folder.name.clone(), id: folder.id(), sha256, section, owner, graphs, provider_nodes })
    }

    /// The classes, by index.
    pub fn classes(&self) -> &[String] {
        &self.section.classes
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.section.features
    }

    /// How many nodes of its graph each provider runs.
    pub fn provider_nodes(&self) -> &BTreeMap<String, u32> {
        &self.provider_nodes
    }

    /// Whether it reads grey images of this size.
    pub fn fits(&self, width: usize, height: usize) -> Result<(), Error> {
        let [channels, own_height, own_width] = self.section.image;
        if (channels, own_height, own_width) == (1, height, width) {
            return Ok(());
        }
        Err(Error::Mismatch(format!(
            "images of {width}×{height} in grey: the classifier '{}' reads {own_width}×{own_height} with {channels} channels",
            self.name
        )))
    }

    /// Reads grey images of one byte a pixel, which it [`fits`](Self::fits). `done` is called after each batch with how
    /// many have been read.
    pub async fn read(&self, images: Arc<Vec<Vec<u8>>>, mut done: impl FnMut(usize)) -> Result<Reading, Error> {
        let (mut features, mut logits) = (Vec::new(), Vec::new());
        for start in (0..images.len()).step_by(BATCH) {
            let end = images.len().min(start + BATCH);
            let (answer, answered) = oneshot::channel();
            let (images, section) = (Arc::clone(&images), self.section.clone());
            let job = move |session: &mut Session| drop(answer.send(read(session, images.get(start..end).unwrap_or_default(), &section)));
            let _ticket = self.owner.submit(job).map_err(|Full| Error::Full { waiting: CAPACITY, limit: CAPACITY })?;
            let (some_features, some_logits) = answered.await.map_err(|_| Error::Ended)??;
            features.extend(some_features);
            logits.extend(some_logits);
            done(end);
        }
        let matrix = |values: Vec<f64>, columns: usize| DMatrix::from_row_slice(images.len(), columns, &values);
        Ok(Reading { features: matrix(features, self.section.features), logits: matrix(logits, self.section.classes.len()) })
    }
}

fn read(session: &mut Session, images: &[Vec<u8>], section: &Section) -> Result<(Vec<f64>, Vec<f64>), OnnxError> {
    let ([channels, height, width], [low, high]) = (section.image, section.value_range);
    let wrong = |name: &str, reason: String| OnnxError::Tensor { name: name.to_owned(), reason };
    let values = images.iter().flatten().map(|byte| low + f32::from(*byte) / 255.0 * (high - low)).collect();
    let input = Array4::from_shape_vec((images.len(), channels, height, width), values).map_err(|error| wrong("images", error.to_string()))?;
    let outputs = session.run(&[("images", &Tensor::F32(input.into_dyn()))])?;
    let rows = |name: &str, columns: usize| {
        let output = outputs.f32(name)?;
        if output.len_of(Axis(0)) != images.len() || output.len() != images.len() * columns {
            return Err(wrong(name, format!("its shape is {:?}, quintet.toml says [n, {columns}]", output.shape())));
        }
        Ok(output.iter().copied().map(f64::from).collect())
    };
    Ok((rows("features", section.features)?, rows("logits", section.classes.len())?))
}
