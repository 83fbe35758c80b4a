//! Image classifiers: the features and logits that image metrics are made of.

use std::{collections::BTreeMap, sync::Arc};

use nalgebra::DMatrix;
use ndarray::{Array4, Axis};
use quintet_onnx::{Error as OnnxError, Full, ModelFolder, Owner, Runtime, Session, Tensor, TensorInfo, Ticket, golden};
use quintet_open_inference::Job;
use serde::Deserialize;
use tokio::sync::oneshot;

use crate::Error;

/// Images that are run together.
const BATCH: usize = 256;

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
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    provider_nodes: BTreeMap<String, u32>,
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
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let (opened, runtime, graph) = (folder.clone(), runtime.clone(), section.graph.clone());
        let owner = Owner::spawn::<Error>(&folder.name, 64, move || {
            let mut session = Session::open(&runtime, &opened.file(&graph)?)?;
            if verify {
                golden::verify(&opened, &mut session)?;
            }
            drop(sender.send((session.inputs().to_vec(), session.outputs().to_vec(), session.provider_nodes().clone())));
            Ok(session)
        })?;
        let (inputs, outputs, provider_nodes) = receiver.recv().map_err(|_| Error::Ended)?;
        let sha256 = folder.manifest.sha256.get(&section.graph).cloned().unwrap_or_default();
        Ok(Self { name: folder.name.clone(), id: folder.id(), sha256, section, owner: Arc::new(owner), inputs, outputs, provider_nodes })
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

    /// The graph's file, inputs and outputs.
    pub(crate) fn graph(&self) -> (&str, &[TensorInfo], &[TensorInfo]) {
        (&self.section.graph, &self.inputs, &self.outputs)
    }

    /// Hands a raw run to the session's thread.
    pub(crate) fn raw(&self) -> impl Fn(Job) -> Result<Ticket, Full> + Send + Sync + 'static {
        let owner = Arc::clone(&self.owner);
        move |job| owner.submit(job)
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
            let _ticket = self.owner.submit(job).map_err(|Full| Error::Full { waiting: 64, limit: 64 })?;
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
