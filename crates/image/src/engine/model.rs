use std::{collections::BTreeMap, sync::Arc, time::Duration};

use metrics::counter;
use ndarray::{Array1, Array2, Array4, Axis};
use quintet_batching::{Ask, Batcher, Limits, Work, apart};
use quintet_onnx::{Cancel, Error as OnnxError, Full, GraphInfo, Instances, ModelFolder, Runtime, Session, Sessions, Tensor, TensorInfo};
use quintet_open_inference::{Graph, Hosted};
use serde::Deserialize;
use tokio::sync::oneshot;

use super::latents::Latent;
use crate::{Config, Error};

/// Batches and jobs that may wait for an instance: more than are ever handed out.
const CAPACITY: usize = 1024;

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
#[derive(Debug)]
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

/// A loaded GAN.
#[derive(Debug)]
pub struct Gan {
    section: Section,
    instances: Arc<Instances<Networks>>,
    batcher: Batcher<Latent, Values>,
    graphs: Vec<Graph>,
    provider_nodes: BTreeMap<String, u32>,
}

impl Hosted for Gan {
    fn graphs(&self) -> &[Graph] {
        &self.graphs
    }
}

impl Gan {
    /// Loads a model folder of kind "gan".
    pub fn load(folder: &ModelFolder, runtime: &Runtime, config: &Config, verify: bool) -> Result<Self, Error> {
        let folder = &folder.arranged(config.instances);
        let section: Section = folder.section()?;
        check(&section).map_err(|reason| folder.broken("quintet.toml", reason))?;
        let serving = &folder.manifest.serving;
        let limits = Limits {
            max_delay: Duration::from_secs_f64(serving.max_delay_ms.unwrap_or(config.max_delay_ms as f64) / 1e3),
            preferred_rows: serving.preferred_batch_rows.clone(),
            instances: folder.instances(),
            ..Limits::rows(serving.max_batch_rows.unwrap_or(config.max_batch_images), serving.max_queue_rows.unwrap_or(config.max_queue_images))
        };
        let (opened, runtime, files) = (folder.clone(), runtime.clone(), section.clone());
        let open = move |is_first: bool| -> Result<(Networks, Vec<GraphInfo>), Error> {
            let open = |file: &str| Session::of(&opened, file, &runtime, verify && is_first);
            let generator = open(&files.generator)?;
            fits(&generator, &files).map_err(|reason| opened.broken(&files.generator, reason))?;
            let discriminator = if files.discriminator.is_empty() { None } else { Some(open(&files.discriminator)?) };
            let mut networks = Networks { generator, discriminator };
            let infos = networks.sessions().into_iter().map(|session| session.info()).collect();
            Ok((networks, infos))
        };
        let (instances, infos) = Instances::spawn(&folder.name, limits.instances, CAPACITY, open)?;
        let instances = Arc::new(instances);
        let provider_nodes = GraphInfo::provider_nodes(&infos);
        let raw = |(index, info): (usize, GraphInfo)| {
            let instances = Arc::clone(&instances);
            Graph::new(folder, info, limits.clone(), move |job| {
                instances.submit_cancellable(move |networks: &mut Networks, cancel: &Cancel| {
                    if let Some(session) = networks.sessions().into_iter().nth(index) {
                        job(session, cancel);
                    }
                })
            })
        };
        let graphs = infos.into_iter().enumerate().map(raw).collect();
        let images = counter!("quintet_image_images_total", "model" => folder.name.clone());
        let (running, model) = (Arc::clone(&instances), folder.name.clone());
        let batcher = Batcher::new(&folder.name, limits, move |work: Work<Latent, Values>| {
            let images = images.clone();
            let job = move |networks: &mut Networks, cancel: &Cancel| {
                let cancel = cancel.clone();
                work.run(
                    move || cancel.cancel(),
                    |batch| {
                        images.increment(batch.rows as u64);
                        let run = |latents: &[Latent]| generate(&mut networks.generator, latents).map_err(Arc::new);
                        apart(&batch.requests, run, |error| matches!(**error, OnnxError::Cancelled))
                    },
                );
            };
            if running.submit_cancellable(job).is_err() {
                tracing::error!(model, "the model's threads take no work");
            }
        });
        Ok(Self { section, instances, batcher, graphs, provider_nodes })
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

    /// The image of one latent: values in the model's range, channel by channel.
    pub async fn generate(&self, latent: Latent, ask: Ask) -> Result<Vec<f32>, Error> {
        self.batcher.submit(latent, ask).await?.map_err(Error::Run)
    }

    /// The images of several latents, in their order.
    pub async fn generate_all(&self, latents: Vec<Latent>, each: Ask) -> Result<Vec<Vec<f32>>, Error> {
        self.batcher.submit_all(latents, each).await?.into_iter().collect::<Result<_, _>>().map_err(Error::Run)
    }

    /// The discriminator's scores of images (values in the model's range) with their classes.
    pub async fn discriminate(&self, images: Vec<Vec<f32>>, classes: Vec<usize>) -> Result<Vec<f32>, Error> {
        let (answer, answered) = oneshot::channel();
        let shape = self.section.image;
        let job = move |networks: &mut Networks| drop(answer.send(discriminate(networks, &images, &classes, shape)));
        let _ticket = self.instances.submit(job).map_err(|Full| Error::Full { waiting: CAPACITY, limit: CAPACITY })?;
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
