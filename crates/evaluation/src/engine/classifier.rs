//! Image classifiers: their features are what FID and KID compare, their logits what the Inception Score reads.

use std::{sync::Arc, time::Duration};

use metrics::{counter, histogram};
use ndarray::{ArrayD, IxDyn};
use quintet_onnx::{Full, ModelFolder, Owner, Runtime, Session, Tensor, TensorInfo, Ticket, golden};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use crate::Error;

/// Images in one run.
pub const BATCH: usize = 256;

/// Runs that may wait for a classifier: each evaluation under way has one at most, the rest are raw tensors.
const WAITING: usize = 128;

/// How long to wait before a full queue is asked again, and how often: raw tensors may fill it for a while, but a thread
/// that has ended looks just as full.
const AGAIN: Duration = Duration::from_millis(50);
const ATTEMPTS: usize = 1200;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    graph: String,
    classes: Vec<String>,
    features: usize,
    image: [usize; 3],
    value_range: [f32; 2],
}

/// A loaded classifier.
#[derive(Debug)]
pub struct Classifier {
    folder: ModelFolder,
    section: Section,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    owner: Arc<Owner<Session>>,
}

/// What a classifier gives for images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    /// Features, image by image.
    pub features: Vec<f32>,
    /// Logits, image by image.
    pub logits: Vec<f32>,
}

impl Readings {
    /// Adds more images' readings.
    pub fn extend(&mut self, more: Self) {
        self.features.extend(more.features);
        self.logits.extend(more.logits);
    }
}

impl Classifier {
    /// Loads a folder of kind "image-classifier".
    pub fn load(folder: &ModelFolder, runtime: &Runtime, verify: bool) -> Result<Self, Error> {
        let section: Section = folder.section()?;
        if section.classes.is_empty() || section.features == 0 || section.image.contains(&0) {
            return Err(folder.broken("quintet.toml", "classes, features and image must not be empty").into());
        }
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let (opened, runtime, graph) = (folder.clone(), runtime.clone(), section.graph.clone());
        let owner = Owner::spawn::<Error>(&folder.name, WAITING, move || {
            let mut session = Session::open(&runtime, &opened.file(&graph)?)?;
            if verify {
                golden::verify(&opened, &mut session)?;
            }
            drop(sender.send((session.inputs().to_vec(), session.outputs().to_vec())));
            Ok(session)
        })?;
        let (inputs, outputs) = receiver.recv().map_err(|_| Error::Ended)?;
        Ok(Self { folder: folder.clone(), section, inputs, outputs, owner: Arc::new(owner) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.folder.name
    }

    /// "NAME@VERSION".
    pub fn id(&self) -> String {
        self.folder.id()
    }

    /// Its folder.
    pub fn folder(&self) -> &ModelFolder {
        &self.folder
    }

    /// Its classes, by index.
    pub fn classes(&self) -> &[String] {
        &self.section.classes
    }

    /// How many features an image has.
    pub fn features(&self) -> usize {
        self.section.features
    }

    /// Channels, height and width of the images that it reads.
    pub fn shape(&self) -> [usize; 3] {
        self.section.image
    }

    /// Its graph's file, inputs and outputs.
    pub(crate) fn graph(&self) -> (&str, &[TensorInfo], &[TensorInfo]) {
        (&self.section.graph, &self.inputs, &self.outputs)
    }

    /// Hands a raw run of its graph to its thread.
    pub(crate) fn raw(&self) -> impl Fn(Box<dyn FnOnce(&mut Session) + Send>) -> Result<Ticket, Full> + Send + Sync + 'static {
        let owner = Arc::clone(&self.owner);
        move |job| owner.submit(job)
    }

    /// What it was measured with: its folder and its graph, to their hashes.
    pub fn hashes(&self) -> [(String, String); 2] {
        let graph = self.folder.manifest.sha256.get(&self.section.graph).cloned().unwrap_or_default();
        [(self.id(), folder_hash(&self.folder)), (format!("{}/{}", self.id(), self.section.graph), graph)]
    }

    /// Reads up to [`BATCH`] images: a byte for each pixel and channel, as in [`Images`](super::datasets::Images).
    pub async fn read(&self, pixels: Vec<u8>) -> Result<Readings, Error> {
        let [channels, height, width] = self.section.image;
        let size = channels * height * width;
        if pixels.is_empty() || pixels.len() % size != 0 || pixels.len() / size > BATCH {
            return Err(Error::Mismatch(format!("{} bytes are not 1 to {BATCH} images of {channels}×{height}×{width}", pixels.len())));
        }
        histogram!("quintet_evaluation_batch_size", "model" => self.folder.name.clone()).record((pixels.len() / size) as f64);
        counter!("quintet_evaluation_images_total", "model" => self.folder.name.clone()).increment((pixels.len() / size) as u64);
        let pixels: Arc<[u8]> = pixels.into();
        for _ in 0..ATTEMPTS {
            let (answer, answered) = oneshot::channel();
            let (section, pixels) = (self.section.clone(), Arc::clone(&pixels));
            match self.owner.submit(move |session| drop(answer.send(run(session, &section, &pixels)))) {
                Ok(_ticket) => return Ok(answered.await.map_err(|_| Error::Ended)??),
                Err(Full) => tokio::time::sleep(AGAIN).await,
            }
        }
        Err(Error::Ended)
    }
}

/// The SHA-256 of a folder's manifest, which holds the hashes of all its files.
pub(crate) fn folder_hash(folder: &ModelFolder) -> String {
    std::fs::read(folder.path().join("quintet.toml")).map(|bytes| hex::encode(Sha256::digest(bytes))).unwrap_or_default()
}

fn run(session: &mut Session, section: &Section, pixels: &[u8]) -> Result<Readings, quintet_onnx::Error> {
    let [channels, height, width] = section.image;
    let area = height * width;
    let count = pixels.len() / (channels * area);
    let [low, high] = section.value_range;
    let mut values = Vec::with_capacity(pixels.len());
    for image in pixels.chunks_exact(channels * area) {
        for channel in 0..channels {
            values.extend(image.iter().skip(channel).step_by(channels).map(|byte| low + f32::from(*byte) / 255.0 * (high - low)));
        }
    }
    let wrong = |name: &str, reason: String| quintet_onnx::Error::Tensor { name: name.to_owned(), reason };
    let images = ArrayD::from_shape_vec(IxDyn(&[count, channels, height, width]), values).map_err(|error| wrong("images", error.to_string()))?;
    let outputs = session.run(&[("images", &Tensor::from(images))])?;
    let take = |name: &str, wide: usize| {
        let values = outputs.f32(name)?;
        if values.shape() != [count, wide] {
            return Err(wrong(name, format!("its shape is {:?}, {:?} was expected", values.shape(), [count, wide])));
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(wrong(name, "a value is not finite".to_owned()));
        }
        Ok(values.iter().copied().collect::<Vec<f32>>())
    };
    Ok(Readings { features: take("features", section.features)?, logits: take("logits", section.classes.len())? })
}
