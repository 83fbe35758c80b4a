use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use metrics::{counter, histogram};
use ndarray::{Array1, Array2, Array4, Axis};
use quintet_batching::{Batch, Batcher, Limits, Rejected, batcher};
use quintet_onnx::{Error as OnnxError, Full, ModelFolder, Owner, Runtime, Session, Sessions, Tensor, TensorInfo, Ticket, golden};
use quintet_open_inference::Job;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::latents::Latent;
use crate::{Config, Error};

/// The table `[gan]` of a model folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    generator: String,
    #[serde(default)]
    discriminator: String,
    latent_size: usize,
    #[serde(default)]
    classes: Vec<String>,
    /// Channels, height, width.
    image: [usize; 3],
    value_range: [f32; 2],
}

/// The sessions of a model, on one thread.
pub(crate) struct Networks {
    generator: Session,
    discriminator: Option<Session>,
}

impl Sessions for Networks {
    fn sessions(&mut self) -> Vec<&mut Session> {
        std::iter::once(&mut self.generator).chain(self.discriminator.as_mut()).collect()
    }
}

type Values = Result<Vec<f32>, Arc<OnnxError>>;

/// What the model's graphs look like from outside: file, inputs, outputs.
pub(crate) type GraphInfo = (String, Vec<TensorInfo>, Vec<TensorInfo>);

/// A loaded GAN.
#[derive(Debug)]
pub struct Gan {
    section: Section,
    owner: Arc<Owner<Networks>>,
    batcher: Batcher<Latent, Values>,
    graphs: Vec<GraphInfo>,
    provider_nodes: BTreeMap<String, u32>,
}

impl Gan {
    /// Loads a model folder of kind "gan", and spawns its batcher on `tasks`.
    pub fn load(folder: &ModelFolder, runtime: &Runtime, config: &Config, tasks: &TaskTracker, verify: bool) -> Result<Self, Error> {
        let section: Section = folder.section()?;
        check(&section).map_err(|reason| folder.broken("quintet.toml", reason))?;
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let (opened, runtime, files) = (folder.clone(), runtime.clone(), section.clone());
        let owner = Owner::spawn::<Error>(&folder.name, 64, move || {
            let open = |file: &str| -> Result<Session, Error> {
                let mut session = Session::open(&runtime, &opened.file(file)?)?;
                if verify {
                    golden::verify(&opened, &mut session)?;
                }
                Ok(session)
            };
            let generator = open(&files.generator)?;
            fits(&generator, &files).map_err(|reason| opened.broken(&files.generator, reason))?;
            let discriminator = if files.discriminator.is_empty() { None } else { Some(open(&files.discriminator)?) };
            let mut networks = Networks { generator, discriminator };
            let (mut graphs, mut nodes) = (Vec::new(), BTreeMap::<String, u32>::new());
            for session in networks.sessions() {
                graphs.push((session.graph().to_owned(), session.inputs().to_vec(), session.outputs().to_vec()));
                session.provider_nodes().iter().for_each(|(provider, count)| *nodes.entry(provider.clone()).or_default() += count);
            }
            drop(sender.send((graphs, nodes)));
            Ok(networks)
        })?;
        let (graphs, provider_nodes) = receiver.recv().map_err(|_| Error::Ended)?;
        let owner = Arc::new(owner);
        let limits = Limits {
            max_batch_cost: config.max_batch_images,
            max_queue_cost: config.max_queue_images,
            max_delay: Duration::from_millis(config.max_delay_ms),
        };
        let (batcher, worker) = batcher(limits);
        let (running, model) = (Arc::clone(&owner), folder.name.clone());
        tasks.spawn(worker.run(move |batch: Batch<Latent>| {
            histogram!("quintet_image_batch_size", "model" => model.clone()).record(batch.requests.len() as f64);
            histogram!("quintet_image_queue_seconds", "model" => model.clone()).record(batch.waited);
            counter!("quintet_image_images_total", "model" => model.clone()).increment(batch.requests.len() as u64);
            run_batch(Arc::clone(&running), batch.requests)
        }));
        Ok(Self { section, owner, batcher, graphs, provider_nodes })
    }

    /// The classes that can be asked for; empty for an unconditional model.
    pub fn classes(&self) -> &[String] {
        &self.section.classes
    }

    /// Channels, height and width of its images.
    pub fn shape(&self) -> [usize; 3] {
        self.section.image
    }

    /// Black and white, as the networks see them.
    pub fn value_range(&self) -> [f32; 2] {
        self.section.value_range
    }

    /// Number of values in z.
    pub fn latent_size(&self) -> usize {
        self.section.latent_size
    }

    /// Whether it can judge images.
    pub fn has_discriminator(&self) -> bool {
        !self.section.discriminator.is_empty()
    }

    /// How many nodes of its graphs each provider runs.
    pub fn provider_nodes(&self) -> &BTreeMap<String, u32> {
        &self.provider_nodes
    }

    pub(crate) fn graphs(&self) -> &[GraphInfo] {
        &self.graphs
    }

    /// Hands a raw run of one of the graphs to the sessions' thread.
    pub(crate) fn raw(&self, index: usize) -> impl Fn(Job) -> Result<Ticket, Full> + Send + Sync + 'static {
        let owner = Arc::clone(&self.owner);
        move |job| {
            owner.submit(move |networks| {
                if let Some(session) = networks.sessions().into_iter().nth(index) {
                    job(session);
                }
            })
        }
    }

    /// The image of one latent: values in the model's range, channel by channel.
    pub async fn generate(&self, latent: Latent) -> Result<Vec<f32>, Error> {
        let answer = self.batcher.submit(latent, 1).await.map_err(|rejected| match rejected {
            Rejected::Full { waiting, limit } => Error::Full { waiting, limit },
            Rejected::Unanswered => Error::Ended,
        })?;
        answer.map_err(|error| OnnxError::Runtime { doing: "generate".to_owned(), message: error.to_string() }.into())
    }

    /// The images of several latents, in their order.
    pub async fn generate_all(&self, latents: Vec<Latent>) -> Result<Vec<Vec<f32>>, Error> {
        try_join_all(latents.into_iter().map(|latent| self.generate(latent))).await
    }

    /// The discriminator's scores of images (values in the model's range) with their classes.
    pub async fn discriminate(&self, images: Vec<Vec<f32>>, classes: Vec<usize>) -> Result<Vec<f32>, Error> {
        let (answer, answered) = oneshot::channel();
        let shape = self.section.image;
        let job = move |networks: &mut Networks| drop(answer.send(discriminate(networks, &images, &classes, shape)));
        let _ticket = self.owner.submit(job).map_err(|Full| Error::Full { waiting: 64, limit: 64 })?;
        Ok(answered.await.map_err(|_| Error::Ended)??)
    }
}

fn check(section: &Section) -> Result<(), String> {
    let [channels, height, width] = section.image;
    if !matches!(channels, 1 | 3) {
        return Err(format!("gan.image has {channels} channels: must be 1 or 3"));
    }
    if !(1..=4096).contains(&height) || !(1..=4096).contains(&width) {
        return Err(format!("gan.image is {width}×{height}: each side must be 1 to 4096"));
    }
    if !(1..=65_536).contains(&section.latent_size) {
        return Err(format!("gan.latent_size = {}: must be 1 to 65536", section.latent_size));
    }
    let [low, high] = section.value_range;
    if !(low.is_finite() && high.is_finite() && low < high) {
        return Err(format!("gan.value_range = [{low}, {high}]: the first must be below the second"));
    }
    Ok(())
}

/// Whether the graph is the one that the section describes.
fn fits(generator: &Session, section: &Section) -> Result<(), String> {
    let size = |tensors: &[TensorInfo], name: &str, axis: usize| {
        let info = tensors.iter().find(|info| info.name == name).ok_or_else(|| format!("the tensor '{name}' is missing"))?;
        Ok::<_, String>(info.shape.get(axis).copied().flatten())
    };
    let z = size(generator.inputs(), "z", 1)?;
    if z.is_some_and(|z| z != section.latent_size) {
        return Err(format!("z has {} values, quintet.toml says latent_size = {}", z.unwrap_or_default(), section.latent_size));
    }
    for (axis, expected) in section.image.into_iter().enumerate() {
        let actual = size(generator.outputs(), "image", axis + 1)?;
        if actual.is_some_and(|actual| actual != expected) {
            return Err(format!("axis {} of the image is {}, quintet.toml says {expected}", axis + 1, actual.unwrap_or_default()));
        }
    }
    if !section.classes.is_empty() {
        size(generator.inputs(), "class", 0)?;
    }
    Ok(())
}

/// Runs a batch on the sessions' thread. Dropping the future cancels it.
async fn run_batch(owner: Arc<Owner<Networks>>, latents: Vec<Latent>) -> Vec<Values> {
    let count = latents.len();
    let (answer, answered) = oneshot::channel();
    let outcome = match owner.submit(move |networks| drop(answer.send(generate(&mut networks.generator, &latents)))) {
        Ok(_ticket) => answered.await.unwrap_or(Err(OnnxError::Cancelled)),
        Err(Full) => Err(OnnxError::Runtime { doing: "generate".to_owned(), message: Full.to_string() }),
    };
    match outcome {
        Ok(images) => images.into_iter().map(Ok).collect(),
        Err(error) => {
            let error = Arc::new(error);
            (0..count).map(|_| Err(Arc::clone(&error))).collect()
        }
    }
}

fn generate(session: &mut Session, latents: &[Latent]) -> Result<Vec<Vec<f32>>, OnnxError> {
    let shape = |error: ndarray::ShapeError| OnnxError::Tensor { name: "z".to_owned(), reason: error.to_string() };
    let size = latents.first().map_or(0, |latent| latent.z.len());
    let z = latents.iter().flat_map(|latent| latent.z.iter().copied()).collect();
    let z = Tensor::F32(Array2::from_shape_vec((latents.len(), size), z).map_err(shape)?.into_dyn());
    let classes = Tensor::I64(latents.iter().map(|latent| latent.class as i64).collect::<Array1<i64>>().into_dyn());
    let mut inputs = vec![("z", &z)];
    if session.inputs().iter().any(|input| input.name == "class") {
        inputs.push(("class", &classes));
    }
    let outputs = session.run(&inputs)?;
    Ok(outputs.f32("image")?.axis_iter(Axis(0)).map(|image| image.iter().copied().collect()).collect())
}

fn discriminate(
    networks: &mut Networks,
    images: &[Vec<f32>],
    classes: &[usize],
    [channels, height, width]: [usize; 3],
) -> Result<Vec<f32>, OnnxError> {
    let missing = || OnnxError::Tensor { name: "score".to_owned(), reason: "the model has no discriminator".to_owned() };
    let session = networks.discriminator.as_mut().ok_or_else(missing)?;
    let mut scores = Vec::with_capacity(images.len());
    // In pieces, so that a large request takes bounded memory.
    for (images, classes) in images.chunks(64).zip(classes.chunks(64)) {
        let values = images.iter().flatten().copied().collect();
        let image = Array4::from_shape_vec((images.len(), channels, height, width), values)
            .map_err(|error| OnnxError::Tensor { name: "image".to_owned(), reason: error.to_string() })?;
        let image = Tensor::F32(image.into_dyn());
        let class = Tensor::I64(classes.iter().map(|class| *class as i64).collect::<Array1<i64>>().into_dyn());
        let mut inputs = vec![("image", &image)];
        if session.inputs().iter().any(|input| input.name == "class") {
            inputs.push(("class", &class));
        }
        scores.extend(session.run(&inputs)?.f32("score")?.iter());
    }
    Ok(scores)
}

#[cfg(test)]
mod tests;
