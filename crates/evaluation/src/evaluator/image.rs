use std::collections::HashMap;

use nalgebra::DMatrix;

use super::{Evaluator, Shared};
use crate::{
    Error,
    engine::{
        ImagePlan, Interval, Metric, Plan,
        classifier::{BATCH, Classifier, Readings},
        datasets::{Data, Images, Kind},
        jobs::Progress,
        metrics::{bootstrap, frechet, inception, inception::Predictions, kernel},
        signature,
    },
    peers::Drawn,
};

/// Images of one request. The image of a seed depends on its index in the request, so this is part of the signature.
const CHUNK: usize = 1024;

/// FID's resamples each cost an eigendecomposition, so there are fewer of them.
const FID_SHARE: usize = 10;

/// How often, in resamples, the computation hears of a cancellation.
const REPORT: usize = 20;

/// The seed of a request's part: the first part is what any client gets for the seed itself.
fn part_seed(seed: u64, part: usize) -> u64 {
    // Far apart, so that evaluations with neighbouring seeds share no images.
    seed.wrapping_add((part as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The classes of images `start..`, in turn over all requests.
fn in_turn(classes: &[String], start: usize) -> Vec<String> {
    let mut turned = classes.to_vec();
    if !turned.is_empty() {
        turned.rotate_left(start % classes.len());
    }
    turned
}

/// That images of these shapes can be compared.
pub(crate) fn comparable(what: &str, shape: [usize; 3], classifier: &Classifier) -> Result<(), Error> {
    let expected = classifier.shape();
    if shape == expected {
        return Ok(());
    }
    Err(Error::Mismatch(format!("{what} has images of {shape:?} (channels, height, width), the classifier {} reads {expected:?}", classifier.name())))
}

impl Evaluator {
    pub(super) async fn image(&self, progress: &Progress, subject: &ImagePlan, plan: &Plan) -> Result<Vec<Metric>, Error> {
        let classifier = self.classifier(&subject.classifier)?;
        let dataset = self.catalog.find(Kind::Images, &subject.dataset)?;
        let Data::Images(real) = &dataset.data else { return Err(Error::Ended) };
        comparable(&dataset.name, real.shape, classifier)?;

        progress.stage("asking the image service", 0)?;
        let generator = self.peers.image.resolve(&subject.model).await?;
        comparable(&generator.model.name, generator.shape, classifier)?;
        progress.found(&generator.model.name, &dataset.name)?;
        let asked = asked_classes(&generator.classes, classifier)?;

        progress.stage("generating images", subject.samples)?;
        let mut generated = Readings::default();
        let mut drawn = 0;
        while drawn < subject.samples {
            let part = Drawn {
                count: CHUNK.min(subject.samples - drawn),
                seed: part_seed(plan.seed, drawn / CHUNK),
                classes: in_turn(&generator.classes, drawn),
            };
            let pixels = self.peers.image.draw(&generator, &part).await?;
            for batch in pixels.chunks(BATCH * real.size()) {
                generated.extend(classifier.read(batch.to_vec()).await?);
            }
            drawn += part.count;
            progress.done(drawn)?;
        }

        let compared = self.read_real(progress, classifier, real).await?;
        let measured_with = classifier.hashes().into_iter();
        let measured_with = measured_with.chain([(dataset.id(), dataset.sha256.clone()), self.hash(&generator.model, self.peers.image.is_here)]);
        let measurement = Measurement {
            shared: Shared { sample_size: subject.samples, seed: plan.seed, measured_with: measured_with.collect() },
            resamples: plan.resamples,
            generated: matrix(&generated.features, classifier.features()),
            real: matrix(&compared, classifier.features()),
            logits: matrix(&generated.logits, classifier.classes().len()),
            asked,
            drawn_as: vec![
                ("model", generator.model.id()),
                ("generated", subject.samples.to_string()),
                ("classes", if generator.classes.is_empty() { "none".to_owned() } else { format!("{}-in-turn", generator.classes.len()) }),
                ("chunk", CHUNK.to_string()),
                ("pixels", "u8".to_owned()),
                ("classifier", classifier.id()),
            ],
        };
        let progress = progress.clone();
        self.compute(move || measurement.all(&progress)).await
    }

    async fn read_real(&self, progress: &Progress, classifier: &Classifier, real: &Images) -> Result<Vec<f32>, Error> {
        progress.stage("reading real images", real.count)?;
        let mut readings = Readings::default();
        for (index, batch) in real.pixels.chunks(BATCH * real.size()).enumerate() {
            readings.extend(classifier.read(batch.to_vec()).await?);
            progress.done(real.count.min((index + 1) * BATCH))?;
        }
        Ok(readings.features)
    }
}

/// For each of the generator's classes, its index among the classifier's.
fn asked_classes(classes: &[String], classifier: &Classifier) -> Result<Vec<usize>, Error> {
    let known: HashMap<&str, usize> = classifier.classes().iter().enumerate().map(|(index, name)| (name.as_str(), index)).collect();
    let index = |name: &String| {
        let index = known.get(name.as_str()).copied();
        index.ok_or_else(|| Error::Mismatch(format!("the model draws class '{name}', which the classifier {} does not know", classifier.name())))
    };
    classes.iter().map(index).collect()
}

fn matrix(values: &[f32], columns: usize) -> DMatrix<f64> {
    DMatrix::from_row_iterator(values.len() / columns.max(1), columns, values.iter().map(|value| f64::from(*value)))
}

/// All that the metrics are computed from.
struct Measurement {
    shared: Shared,
    resamples: usize,
    generated: DMatrix<f64>,
    real: DMatrix<f64>,
    logits: DMatrix<f64>,
    /// The classifier's index of each class drawn, in turn; none for an unconditional model.
    asked: Vec<usize>,
    drawn_as: Vec<(&'static str, String)>,
}

impl Measurement {
    fn all(&self, progress: &Progress) -> Result<Vec<Metric>, Error> {
        let mut metrics = vec![self.fid(progress)?, self.kid(progress)?, self.inception_score(progress)?];
        if !self.asked.is_empty() {
            metrics.push(self.class_accuracy(progress)?);
        }
        Ok(metrics)
    }

    fn metric(&self, name: &'static str, value: f64, interval: Option<Interval>, higher: bool, definition: &[(&'static str, String)]) -> Metric {
        Metric {
            name,
            value,
            interval,
            signature: signature(&[&[("metric", name.to_owned())], definition, self.drawn_as.as_slice()].concat()),
            sample_size: self.shared.sample_size,
            seed: self.shared.seed,
            higher_is_better: higher,
            measured_with: self.shared.measured_with.clone(),
        }
    }

    fn fid(&self, progress: &Progress) -> Result<Metric, Error> {
        let undefined = || Error::Mismatch("the Fréchet distance of these features is undefined".to_owned());
        let resamples = self.resamples / FID_SHARE;
        progress.stage("computing FID", resamples)?;
        let value = frechet::distance(&self.generated, &self.real).ok_or_else(undefined)?;
        let mut round = 0;
        let resampled = bootstrap::resample(&[self.generated.nrows(), self.real.nrows()], resamples, self.shared.seed, |drawn| {
            round += 1;
            progress.done(round)?;
            let [generated, real] = drawn else { return Err(Error::Ended) };
            frechet::distance(&self.generated.select_rows(generated), &self.real.select_rows(real)).ok_or_else(undefined)
        })?;
        let interval = bootstrap::percentiles(bootstrap::centred(resampled, value), bootstrap::METHOD);
        Ok(self.metric("fid", value, interval, false, &[
            ("features", self.real.ncols().to_string()),
            ("covariance", "n-1".to_owned()),
            ("precision", "float64".to_owned()),
            ("real", self.real.nrows().to_string()),
            ("bootstrap", format!("{resamples}-centred")),
        ]))
    }

    fn kid(&self, progress: &Progress) -> Result<Metric, Error> {
        let (subsets, size) = kernel::subsets(self.generated.nrows(), self.real.nrows());
        progress.stage("computing KID", subsets)?;
        let (value, interval) = kernel::distance(&self.generated, &self.real, self.shared.seed, |subset| progress.done(subset))?;
        Ok(self.metric("kid", value, interval, false, &[
            ("features", self.real.ncols().to_string()),
            ("kernel", "poly3".to_owned()),
            ("gamma", "1/d".to_owned()),
            ("coef0", "1".to_owned()),
            ("estimator", "unbiased".to_owned()),
            ("subsets", subsets.to_string()),
            ("subset_size", size.to_string()),
            ("real", self.real.nrows().to_string()),
        ]))
    }

    fn inception_score(&self, progress: &Progress) -> Result<Metric, Error> {
        progress.stage("computing the Inception Score", self.resamples)?;
        let predictions = Predictions::from_logits(&self.logits);
        let value = predictions.score(&inception::shuffled(predictions.len(), self.shared.seed));
        // Resampled images are in random order as they are.
        let resampled = self.resample(progress, predictions.len(), |drawn| predictions.score(drawn))?;
        let interval = bootstrap::percentiles(bootstrap::centred(resampled, value), bootstrap::METHOD);
        Ok(self.metric("inception_score", value, interval, true, &[
            ("splits", inception::SPLITS.to_string()),
            ("shuffle", "seeded".to_owned()),
            ("bootstrap", format!("{}-centred", self.resamples)),
        ]))
    }

    fn class_accuracy(&self, progress: &Progress) -> Result<Metric, Error> {
        progress.stage("computing class accuracy", self.resamples)?;
        let asked = self.asked.iter().cycle();
        let right: Vec<f64> = self.logits.row_iter().zip(asked).map(|(logits, asked)| if logits.transpose().argmax().0 == *asked { 1.0 } else { 0.0 }).collect();
        let value = right.iter().sum::<f64>() / right.len() as f64;
        let mean = |drawn: &[usize]| drawn.iter().filter_map(|index| right.get(*index)).sum::<f64>() / drawn.len() as f64;
        let resampled = self.resample(progress, right.len(), mean)?;
        let interval = bootstrap::percentiles(resampled, bootstrap::METHOD);
        Ok(self.metric("class_accuracy", value, interval, true, &[("top", "1".to_owned()), ("bootstrap", self.resamples.to_string())]))
    }

    fn resample(&self, progress: &Progress, count: usize, statistic: impl Fn(&[usize]) -> f64) -> Result<Vec<f64>, Error> {
        let mut round = 0;
        bootstrap::resample(&[count], self.resamples, self.shared.seed, |drawn| {
            round += 1;
            if round % REPORT == 0 {
                progress.done(round)?;
            }
            drawn.first().map(|drawn| statistic(drawn)).ok_or(Error::Ended)
        })
    }
}

impl Images {
    /// Bytes of one image.
    fn size(&self) -> usize {
        self.shape.iter().product()
    }
}

#[cfg(test)]
mod tests;
