use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use quintet_proto::evaluation::v1::{CreateEvaluationRequest, ImageEvaluation};
use quintet_serving::error::Checks;
use sha2::{Digest, Sha256};

use super::{Draws, Evaluator};
use crate::{
    Error,
    engine::{
        Metric,
        classifier::Reading,
        datasets::Kind,
        job::Progress,
        metrics::{
            bootstrap::{self, GROUPS},
            frechet,
            inception::{self, Predictions, shuffled},
            kernel,
        },
        signature,
    },
};

/// Images in one call: the most that the image service makes at once.
const CHUNK: usize = 4096;

/// What lies between the seeds of two calls: 2⁶⁴ over the golden ratio.
const SEED_STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Images of an evaluation that does not say how many.
const DEFAULT_SAMPLES: u32 = 2000;

/// What can be checked without the data sets.
pub(super) fn check_samples(asked: &ImageEvaluation, checks: &mut Checks) {
    let samples = asked.samples.unwrap_or(DEFAULT_SAMPLES);
    checks.require((64..=50_000).contains(&samples), "image.samples", || format!("{samples}: must be 64 to 50000"));
}

impl Evaluator {
    /// Fills in the defaults and checks what can be checked before the job begins.
    pub(super) fn check_image(&self, asked: ImageEvaluation) -> Result<ImageEvaluation, Error> {
        let samples = asked.samples.unwrap_or(DEFAULT_SAMPLES);
        let dataset = self.dataset(&asked.dataset, Kind::Images)?;
        if dataset.size < 8 {
            return Err(Error::invalid("image.dataset", format!("'{}' has {} images: at least 8 are needed", dataset.name, dataset.size)));
        }
        let classifier = self.classifier(&asked.classifier)?;
        Ok(ImageEvaluation { model: asked.model, dataset: dataset.name.clone(), classifier: classifier.name.clone(), samples: Some(samples) })
    }

    pub(super) async fn run_image(
        &self,
        asked: ImageEvaluation,
        draws: Draws,
        progress: Progress<CreateEvaluationRequest>,
    ) -> Result<Vec<Metric>, Error> {
        let classifier = self.classifier(&asked.classifier)?;
        let dataset = self.dataset(&asked.dataset, Kind::Images)?;
        let model = self.peers.image_model(&asked.model).await?;
        let real = dataset.images()?;
        classifier.fits(real.width, real.height)?;
        classifier.fits(model.width, model.height)?;
        if model.channels != 1 {
            return Err(Error::Mismatch(format!("'{}' draws in colour: the classifier '{}' reads grey", model.name, classifier.name)));
        }

        let count = asked.samples.unwrap_or_default() as usize;
        progress.stage("generating images", count);
        let (mut id, mut pixels, mut classes) = (String::new(), Vec::with_capacity(count), Vec::with_capacity(count));
        let mut hasher = Sha256::new();
        while pixels.len() < count {
            let (so_far, call) = (pixels.len(), (pixels.len() / CHUNK) as u64);
            let expected = CHUNK.min(count - so_far);
            // Each call has a seed of its own, far from its neighbours': evaluations with seeds 0 and 1 share no image.
            let seed = draws.seed.wrapping_add(call.wrapping_mul(SEED_STEP));
            let (drawn_by, images) = self.peers.generate(&model, expected, seed, |done| progress.done(so_far + done)).await?;
            if images.len() != expected {
                return Err(Error::Mismatch(format!("'{}' drew {} images where {expected} were asked for", model.name, images.len())));
            }
            id = drawn_by;
            for image in images {
                if image.pixels.len() != model.width * model.height {
                    return Err(Error::Mismatch(format!("'{}' sent an image of {} bytes", model.name, image.pixels.len())));
                }
                hasher.update(&image.pixels);
                pixels.push(image.pixels);
                classes.push(classifier.classes().iter().position(|class| *class == image.class));
            }
        }
        progress.stage("reading images", count + real.len());
        let generated = classifier.read(Arc::new(pixels), |done| progress.done(done)).await?;
        let real = classifier.read(Arc::new(real.pixels), |done| progress.done(count + done)).await?;

        progress.stage("computing FID, KID and Inception Score", 0);
        let measured_with = BTreeMap::from([
            (format!("{id} images"), hex::encode(hasher.finalize())),
            (classifier.id.clone(), classifier.sha256.clone()),
            (dataset.name.clone(), dataset.sha256.clone()),
        ]);
        let features = format!("{}/{}", classifier.id, classifier.features());
        let conditional = !model.classes.is_empty();
        let compute = move || measure(&generated, &real, conditional.then_some(&classes), &features, draws, &measured_with);
        tokio::task::spawn_blocking(compute).await.map_err(|_| Error::Ended)?
    }
}

fn measure(
    generated: &Reading,
    real: &Reading,
    classes: Option<&Vec<Option<usize>>>,
    features: &str,
    draws: Draws,
    measured_with: &BTreeMap<String, String>,
) -> Result<Vec<Metric>, Error> {
    let Draws { seed, resamples } = draws;
    if [&generated.features, &generated.logits, &real.features].into_iter().flatten().any(|value| !value.is_finite()) {
        return Err(Error::Mismatch("the classifier gave a value that is no number".to_owned()));
    }
    let (count, real_count) = (generated.features.nrows(), real.features.nrows());
    let metric = |name, value, interval, signature, higher_is_better| Metric {
        name: Cow::Borrowed(name),
        value,
        interval,
        signature,
        sample_size: count,
        seed,
        higher_is_better,
        measured_with: measured_with.clone(),
    };

    let fid = frechet::distance(&real.features, &generated.features)
        .ok_or_else(|| Error::Mismatch("FID has no value: an eigenvalue is missing".to_owned()))?;
    let (real_order, order) = (shuffled(real_count, seed), shuffled(count, seed));
    let fid_interval = bootstrap::jackknife(fid, |group| {
        let without =
            |order: &[usize]| -> Vec<usize> { order.iter().enumerate().filter(|(at, _)| at % GROUPS != group).map(|(_, row)| *row).collect() };
        let (real, generated) = (real.features.select_rows(&without(&real_order)), generated.features.select_rows(&without(&order)));
        frechet::distance(&real, &generated).unwrap_or(f64::NAN)
    });
    let fid_signature = signature(&[
        ("features", features.to_owned()),
        ("covariance", "n-1".to_owned()),
        ("reference", real_count.to_string()),
        ("groups", GROUPS.to_string()),
    ]);

    let (kid, kid_interval) = kernel::distance(&real.features, &generated.features, seed);
    let size = kernel::subset_size(real_count, count);
    let kid_signature = signature(&[
        ("features", features.to_owned()),
        ("kernel", "poly3".to_owned()),
        ("estimator", "unbiased".to_owned()),
        ("subsets", format!("{}x{size}", kernel::SUBSETS)),
        ("reference", real_count.to_string()),
    ]);

    let predictions = Predictions::from_logits(&generated.logits);
    let score_interval = bootstrap::interval(&[count], resamples, seed, |drawn| drawn.first().map_or(f64::NAN, |drawn| predictions.score(drawn)));
    let score_signature = signature(&[
        ("logits", features.split('/').next().unwrap_or_default().to_owned()),
        ("splits", inception::SPLITS.to_string()),
        ("order", "shuffled".to_owned()),
        ("resamples", resamples.to_string()),
    ]);
    let mut metrics = vec![
        metric("fid", fid, fid_interval, fid_signature, false),
        metric("kid", kid, kid_interval, kid_signature, false),
        metric("inception_score", predictions.score(&order), score_interval, score_signature, true),
    ];
    if let Some(classes) = classes {
        let right: Vec<f64> =
            generated.logits.row_iter().zip(classes).map(|(logits, class)| f64::from(u8::from(Some(logits.transpose().imax()) == *class))).collect();
        let mean = |indices: &[usize]| indices.iter().filter_map(|index| right.get(*index)).sum::<f64>() / indices.len() as f64;
        let interval = bootstrap::interval(&[count], resamples, seed, |drawn| drawn.first().map_or(f64::NAN, |drawn| mean(drawn)));
        let all: Vec<usize> = (0..count).collect();
        let classes = signature(&[
            ("classifier", features.split('/').next().unwrap_or_default().to_owned()),
            ("classes", "all-in-turn".to_owned()),
            ("resamples", resamples.to_string()),
        ]);
        metrics.push(metric("class_accuracy", mean(&all), interval, classes, true));
    }
    Ok(metrics)
}
