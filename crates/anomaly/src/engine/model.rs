use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use metrics::counter;
use ndarray::{ArrayD, Axis, IxDyn};
use quintet_batching::{Ask, Batcher, Limits, Work, apart};
use quintet_onnx::{Cancel, Error as OnnxError, Full, GraphInfo, Instances, ModelFolder, Runtime, Session, Sessions, Tensor, npz};
use quintet_open_inference::{Graph, Hosted};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rand_distr::StandardNormal;
use tokio::sync::oneshot;

use super::{
    Section,
    calibration::Calibration,
    score::{Likelihood, Scores, scores},
};
use crate::{Config, Error};

/// Batches and jobs that may wait for an instance: more than are ever handed out.
const CAPACITY: usize = 1024;

/// The calibration that is made at load.
const DEFAULT_CALIBRATION: &str = "default";

/// The sessions of a model, on one thread.
#[derive(Debug)]
pub(crate) struct Networks {
    encoder: Session,
    decoder: Session,
}

impl Sessions for Networks {
    fn sessions(&mut self) -> Vec<&mut Session> {
        vec![&mut self.encoder, &mut self.decoder]
    }
}

/// A sample's reconstruction at the posterior mean, and its scores; in the networks' units.
#[derive(Clone, Debug, PartialEq)]
pub struct Reconstruction {
    /// The reconstruction.
    pub values: Vec<f32>,
    /// The scores.
    pub scores: Scores,
}

/// What a first instance tells: its graphs, and the scores of the folder's normals.
type Told = (Vec<GraphInfo>, Vec<Scores>);

type Outcome = Result<Reconstruction, Arc<OnnxError>>;

/// A loaded VAE with its calibrations.
#[derive(Debug)]
pub struct Vae {
    name: String,
    section: Arc<Section>,
    instances: Arc<Instances<Networks>>,
    batcher: Batcher<Vec<f32>, Outcome>,
    calibrations: RwLock<BTreeMap<String, Arc<Calibration>>>,
    max_calibrations: usize,
    graphs: Vec<Graph>,
    provider_nodes: BTreeMap<String, u32>,
}

impl Hosted for Vae {
    fn graphs(&self) -> &[Graph] {
        &self.graphs
    }
}

impl Vae {
    /// Loads a model folder of kind "vae", and calibrates it on its normals.
    pub fn load(folder: &ModelFolder, runtime: &Runtime, config: &Config, verify: bool) -> Result<Self, Error> {
        let folder = &folder.arranged(config.instances);
        let section: Section = folder.section()?;
        let likelihood = section.check().map_err(|reason| folder.broken("quintet.toml", reason))?;
        let normals = read_normals(folder, &section)?;
        let section = Arc::new(section);
        let serving = &folder.manifest.serving;
        let limits = Limits {
            max_delay: Duration::from_secs_f64(serving.max_delay_ms.unwrap_or(config.max_delay_ms as f64) / 1e3),
            preferred_rows: serving.preferred_batch_rows.clone(),
            instances: folder.instances(),
            ..Limits::rows(serving.max_batch_rows.unwrap_or(config.max_batch_rows), serving.max_queue_rows.unwrap_or(config.max_queue_rows))
        };
        let (opened, runtime, files) = (folder.clone(), runtime.clone(), Arc::clone(&section));
        let open = move |is_first: bool| -> Result<(Networks, Told), Error> {
            let open = |file: &str| Session::of(&opened, file, &runtime, verify && is_first);
            let mut networks = Networks { encoder: open(&files.encoder)?, decoder: open(&files.decoder)? };
            let scored = if is_first { run(&mut networks, &files, likelihood, &normals)? } else { Vec::new() };
            let infos = networks.sessions().into_iter().map(|session| session.info()).collect();
            Ok((networks, (infos, scored.into_iter().map(|reconstruction| reconstruction.scores).collect())))
        };
        let (instances, (infos, scored)) = Instances::spawn(&folder.name, limits.instances, CAPACITY, open)?;
        let instances = Arc::new(instances);
        let calibration = Arc::new(Calibration::new(&scored, config.false_positive_rate));
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
        let samples = counter!("quintet_anomaly_samples_total", "model" => folder.name.clone());
        let (running, shared, model) = (Arc::clone(&instances), Arc::clone(&section), folder.name.clone());
        let batcher = Batcher::new(&folder.name, limits, move |work: Work<Vec<f32>, Outcome>| {
            let (samples, section) = (samples.clone(), Arc::clone(&shared));
            let job = move |networks: &mut Networks, cancel: &Cancel| {
                let cancel = cancel.clone();
                work.run(
                    move || cancel.cancel(),
                    |batch| {
                        samples.increment(batch.rows as u64);
                        let run = |samples: &[Vec<f32>]| run(networks, &section, likelihood, samples).map_err(Arc::new);
                        apart(&batch.requests, run, |error| matches!(**error, OnnxError::Cancelled))
                    },
                );
            };
            if running.submit_cancellable(job).is_err() {
                tracing::error!(model, "the model's threads take no work");
            }
        });
        Ok(Self {
            name: folder.name.clone(),
            section,
            instances,
            batcher,
            calibrations: RwLock::new(BTreeMap::from([(DEFAULT_CALIBRATION.to_owned(), calibration)])),
            max_calibrations: config.max_calibrations,
            graphs,
            provider_nodes,
        })
    }

    /// What its folder says of it.
    pub fn section(&self) -> &Section {
        &self.section
    }

    /// How many nodes of its graphs each provider runs.
    pub fn provider_nodes(&self) -> &BTreeMap<String, u32> {
        &self.provider_nodes
    }

    /// The reconstruction of one sample, in the networks' units, and its scores.
    pub async fn reconstruct(&self, sample: Vec<f32>, ask: Ask) -> Result<Reconstruction, Error> {
        self.batcher.submit(sample, ask).await?.map_err(Error::Run)
    }

    /// The reconstructions of several samples, in their order.
    pub async fn reconstruct_all(&self, samples: Vec<Vec<f32>>, each: Ask) -> Result<Vec<Reconstruction>, Error> {
        self.batcher.submit_all(samples, each).await?.into_iter().collect::<Result<_, _>>().map_err(Error::Run)
    }

    /// Samples of the prior, in the networks' units. Sample i draws its latent from the `ChaCha12` stream i of the seed.
    pub async fn sample(&self, seed: u64, count: usize) -> Result<Vec<Vec<f32>>, Error> {
        let (size, shape) = (self.section.latent_size, self.section.shape.clone());
        let (answer, answered) = oneshot::channel();
        let job = move |networks: &mut Networks| {
            let latents: Vec<Vec<f32>> = (0..count as u64)
                .map(|index| {
                    let mut random = ChaCha12Rng::seed_from_u64(seed);
                    random.set_stream(index);
                    (0..size).map(|_| random.sample::<f32, _>(StandardNormal)).collect()
                })
                .collect();
            // In pieces, so that a large request takes bounded memory.
            let outcome = latents.chunks(256).map(|latents| decode(&mut networks.decoder, latents, &shape)).collect::<Result<Vec<_>, _>>();
            drop(answer.send(outcome.map(|pieces| pieces.concat())));
        };
        let _ticket = self.instances.submit(job).map_err(|Full| Error::Full { waiting: CAPACITY, limit: CAPACITY })?;
        Ok(answered.await.map_err(|_| Error::Ended)??)
    }

    /// A calibration by name; empty = the one made at load.
    pub fn calibration(&self, name: &str) -> Result<Arc<Calibration>, Error> {
        let name = if name.is_empty() { DEFAULT_CALIBRATION } else { name };
        let calibrations = self.calibrations.read().unwrap_or_else(PoisonError::into_inner);
        calibrations.get(name).cloned().ok_or_else(|| Error::UnknownCalibration {
            model: self.name.clone(),
            name: name.to_owned(),
            known: calibrations.keys().cloned().collect(),
        })
    }

    /// All calibrations, by name.
    pub fn calibrations(&self) -> BTreeMap<String, Arc<Calibration>> {
        self.calibrations.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps a calibration under a name, in place of any that had it.
    pub fn keep(&self, name: String, calibration: Arc<Calibration>) -> Result<(), Error> {
        let mut calibrations = self.calibrations.write().unwrap_or_else(PoisonError::into_inner);
        // The one made at load does not count.
        if !calibrations.contains_key(&name) && calibrations.len() > self.max_calibrations {
            return Err(Error::TooManyCalibrations { model: self.name.clone(), limit: self.max_calibrations });
        }
        calibrations.insert(name, calibration);
        Ok(())
    }
}

/// The folder's held-out normals, in the networks' units.
fn read_normals(folder: &ModelFolder, section: &Section) -> Result<Vec<Vec<f32>>, Error> {
    let broken = |reason: String| folder.broken(&section.normals, reason);
    let mut archive = npz::open(&folder.file(&section.normals)?).map_err(broken)?;
    let x: ArrayD<f32> = archive.by_name("x").map_err(|error| broken(format!("x: {error}")))?;
    if x.shape().get(1..) != Some(section.shape.as_slice()) || x.is_empty() {
        return Err(broken(format!("x has the shape {:?}, quintet.toml says [n, {:?}]", x.shape(), section.shape)).into());
    }
    if x.iter().any(|value| !value.is_finite()) {
        return Err(broken("x holds a value that is not finite".to_owned()).into());
    }
    let mut normals: Vec<Vec<f32>> = x.axis_iter(Axis(0)).map(|sample| sample.iter().copied().collect()).collect();
    normals.iter_mut().for_each(|sample| section.standardise(sample));
    Ok(normals)
}

fn run(networks: &mut Networks, section: &Section, likelihood: Likelihood, samples: &[Vec<f32>]) -> Result<Vec<Reconstruction>, OnnxError> {
    let x = stack("x", samples, &section.shape)?;
    let encoded = networks.encoder.run(&[("x", &x)])?;
    let rows = |name: &str| -> Result<Vec<Vec<f32>>, OnnxError> {
        Ok(encoded.f32(name)?.axis_iter(Axis(0)).map(|row| row.iter().copied().collect()).collect())
    };
    let (means, log_variances) = (rows("mean")?, rows("log_variance")?);
    drop(encoded);
    let decoded = decode(&mut networks.decoder, &means, &section.shape)?;
    let parts = samples.iter().zip(decoded).zip(means.iter().zip(&log_variances));
    Ok(parts
        .map(|((sample, values), (mean, log_variance))| {
            let scores = scores(likelihood, sample, &values, mean, log_variance);
            Reconstruction { values, scores }
        })
        .collect())
}

fn decode(session: &mut Session, latents: &[Vec<f32>], shape: &[usize]) -> Result<Vec<Vec<f32>>, OnnxError> {
    let z = stack("z", latents, &[latents.first().map_or(0, Vec::len)])?;
    let outputs = session.run(&[("z", &z)])?;
    let reconstruction = outputs.f32("reconstruction")?;
    if reconstruction.shape().get(1..) != Some(shape) {
        let reason = format!("its shape is {:?}, quintet.toml says [n, {shape:?}]", reconstruction.shape());
        return Err(OnnxError::Tensor { name: "reconstruction".to_owned(), reason });
    }
    Ok(reconstruction.axis_iter(Axis(0)).map(|row| row.iter().copied().collect()).collect())
}

fn stack(name: &str, rows: &[Vec<f32>], shape: &[usize]) -> Result<Tensor, OnnxError> {
    let whole: Vec<usize> = std::iter::once(rows.len()).chain(shape.iter().copied()).collect();
    let values = rows.iter().flatten().copied().collect();
    ArrayD::from_shape_vec(IxDyn(&whole), values)
        .map(Tensor::F32)
        .map_err(|error| OnnxError::Tensor { name: name.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests;
