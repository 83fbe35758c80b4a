use std::{
    collections::BTreeMap,
    fs::File,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures_util::future::try_join_all;
use metrics::{counter, histogram};
use ndarray::{ArrayD, Axis, IxDyn};
use ndarray_npy::NpzReader;
use quintet_batching::{Batch, Batcher, Limits, Rejected, batcher};
use quintet_onnx::{Error as OnnxError, Full, ModelFolder, Owner, Runtime, Session, Sessions, Tensor, TensorInfo, Ticket, golden};
use quintet_open_inference::Job;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rand_distr::StandardNormal;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::{
    Section,
    calibration::Calibration,
    score::{Likelihood, Scores, scores},
};
use crate::{Config, Error};

/// The calibration that is made at load.
const DEFAULT_CALIBRATION: &str = "default";

/// The sessions of a model, on one thread.
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

type Outcome = Result<Reconstruction, Arc<OnnxError>>;

/// What the model's graphs look like from outside: file, inputs, outputs.
pub(crate) type GraphInfo = (String, Vec<TensorInfo>, Vec<TensorInfo>);

/// A loaded VAE with its calibrations.
#[derive(Debug)]
pub struct Vae {
    name: String,
    section: Arc<Section>,
    owner: Arc<Owner<Networks>>,
    batcher: Batcher<Vec<f32>, Outcome>,
    calibrations: RwLock<BTreeMap<String, Arc<Calibration>>>,
    max_calibrations: usize,
    graphs: Vec<GraphInfo>,
    provider_nodes: BTreeMap<String, u32>,
}

impl Vae {
    /// Loads a model folder of kind "vae", calibrates it on its normals, and spawns its batcher on `tasks`.
    pub fn load(folder: &ModelFolder, runtime: &Runtime, config: &Config, tasks: &TaskTracker, verify: bool) -> Result<Self, Error> {
        let section: Section = folder.section()?;
        let likelihood = section.check().map_err(|reason| folder.broken("quintet.toml", reason))?;
        let normals = read_normals(folder, &section)?;
        let section = Arc::new(section);
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let (opened, runtime, files) = (folder.clone(), runtime.clone(), Arc::clone(&section));
        let owner = Owner::spawn::<Error>(&folder.name, 64, move || {
            let open = |file: &str| -> Result<Session, Error> {
                let mut session = Session::open(&runtime, &opened.file(file)?)?;
                if verify {
                    golden::verify(&opened, &mut session)?;
                }
                Ok(session)
            };
            let mut networks = Networks { encoder: open(&files.encoder)?, decoder: open(&files.decoder)? };
            let scored = run(&mut networks, &files, likelihood, &normals)?;
            let (mut graphs, mut nodes) = (Vec::new(), BTreeMap::<String, u32>::new());
            for session in networks.sessions() {
                graphs.push((session.graph().to_owned(), session.inputs().to_vec(), session.outputs().to_vec()));
                session.provider_nodes().iter().for_each(|(provider, count)| *nodes.entry(provider.clone()).or_default() += count);
            }
            drop(sender.send((scored, graphs, nodes)));
            Ok(networks)
        })?;
        let (scored, graphs, provider_nodes) = receiver.recv().map_err(|_| Error::Ended)?;
        let scored: Vec<Scores> = scored.into_iter().map(|reconstruction| reconstruction.scores).collect();
        let calibration = Arc::new(Calibration::new(&scored, config.false_positive_rate));

        let owner = Arc::new(owner);
        let limits = Limits {
            max_batch_cost: config.max_batch_rows,
            max_queue_cost: config.max_queue_rows,
            max_delay: Duration::from_millis(config.max_delay_ms),
        };
        let (batcher, worker) = batcher(limits);
        let (running, shared, model) = (Arc::clone(&owner), Arc::clone(&section), folder.name.clone());
        tasks.spawn(worker.run(move |batch: Batch<Vec<f32>>| {
            histogram!("quintet_anomaly_batch_size", "model" => model.clone()).record(batch.requests.len() as f64);
            histogram!("quintet_anomaly_queue_seconds", "model" => model.clone()).record(batch.waited);
            counter!("quintet_anomaly_samples_total", "model" => model.clone()).increment(batch.requests.len() as u64);
            run_batch(Arc::clone(&running), Arc::clone(&shared), likelihood, batch.requests)
        }));
        Ok(Self {
            name: folder.name.clone(),
            section,
            owner,
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

    pub(crate) fn graphs(&self) -> &[GraphInfo] {
        &self.graphs
    }

    /// Hands a raw run of one of the graphs to the sessions' thread.
    pub(crate) fn raw(&self, decoder: bool) -> impl Fn(Job) -> Result<Ticket, Full> + Send + Sync + 'static {
        let owner = Arc::clone(&self.owner);
        move |job| owner.submit(move |networks| job(if decoder { &mut networks.decoder } else { &mut networks.encoder }))
    }

    /// The reconstruction of one sample, in the networks' units, and its scores.
    pub async fn reconstruct(&self, sample: Vec<f32>) -> Result<Reconstruction, Error> {
        let outcome = self.batcher.submit(sample, 1).await.map_err(|rejected| match rejected {
            Rejected::Full { waiting, limit } => Error::Full { waiting, limit },
            Rejected::Unanswered => Error::Ended,
        })?;
        outcome.map_err(|error| OnnxError::Runtime { doing: "score".to_owned(), message: error.to_string() }.into())
    }

    /// The reconstructions of several samples, in their order.
    pub async fn reconstruct_all(&self, samples: Vec<Vec<f32>>) -> Result<Vec<Reconstruction>, Error> {
        try_join_all(samples.into_iter().map(|sample| self.reconstruct(sample))).await
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
        let _ticket = self.owner.submit(job).map_err(|Full| Error::Full { waiting: 64, limit: 64 })?;
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
    let file = File::open(folder.file(&section.normals)?).map_err(|error| broken(error.to_string()))?;
    let mut archive = NpzReader::new(file).map_err(|error| broken(error.to_string()))?;
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

/// Runs a batch on the sessions' thread. Dropping the future cancels it.
async fn run_batch(owner: Arc<Owner<Networks>>, section: Arc<Section>, likelihood: Likelihood, samples: Vec<Vec<f32>>) -> Vec<Outcome> {
    let count = samples.len();
    let (answer, answered) = oneshot::channel();
    let outcome = match owner.submit(move |networks| drop(answer.send(run(networks, &section, likelihood, &samples)))) {
        Ok(_ticket) => answered.await.unwrap_or(Err(OnnxError::Cancelled)),
        Err(Full) => Err(OnnxError::Runtime { doing: "score".to_owned(), message: Full.to_string() }),
    };
    match outcome {
        Ok(reconstructions) => reconstructions.into_iter().map(Ok).collect(),
        Err(error) => {
            let error = Arc::new(error);
            (0..count).map(|_| Err(Arc::clone(&error))).collect()
        }
    }
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
