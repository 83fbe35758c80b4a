use quintet_proto::anomaly::v1::{SampleData, sample_data::Data as DataMessage};
use quintet_serving::error::{Checks, FieldViolation};

use super::MAX_SAMPLES;
use crate::{
    Error,
    engine::{Data, Vae, picture},
};

/// Faults that one answer names; a request of thousands of bad samples need not be answered with as many.
const MOST_FAULTS: usize = 16;

/// The samples of a request in the networks' units: at least `least` of them, each checked.
pub(super) fn read_all(field: &str, samples: Vec<SampleData>, least: usize, vae: &Vae) -> Result<Vec<Vec<f32>>, Error> {
    let count = samples.len();
    if !(least..=MAX_SAMPLES).contains(&count) {
        return Err(Error::invalid(field, format!("{count} samples: must be {least} to {MAX_SAMPLES}")));
    }
    let mut faults = Vec::new();
    let mut read = Vec::with_capacity(count);
    for (index, sample) in samples.into_iter().enumerate() {
        match read_one(&format!("{field}[{index}]"), Some(sample), vae) {
            Ok(values) => read.push(values),
            Err(violations) => faults.extend(violations),
        }
        if faults.len() >= MOST_FAULTS {
            break;
        }
    }
    if faults.is_empty() { Ok(read) } else { Err(Error::Invalid(faults)) }
}

/// One sample in the networks' units.
pub(super) fn read_one(field: &str, sample: Option<SampleData>, vae: &Vae) -> Result<Vec<f32>, Vec<FieldViolation>> {
    let section = vae.section();
    let mut checks = Checks::new();
    let mut values = match sample.and_then(|sample| sample.data) {
        Some(DataMessage::Values(values)) => {
            let (given, expected) = (values.values.len(), section.dimensions());
            checks.require(given == expected, format!("{field}.values"), || {
                format!("{given} values: the model reads {expected} ({:?})", section.shape)
            });
            if let Some((index, value)) = values.values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
                checks.require(false, format!("{field}.values[{index}]"), || format!("{value}: must be finite"));
            }
            values.values
        }
        Some(DataMessage::Image(file)) => {
            if let (Data::Image, Some(range)) = (section.data, section.value_range) {
                picture::decode(&file, &section.shape, range).unwrap_or_else(|reason| {
                    checks.require(false, format!("{field}.image"), || reason);
                    Vec::new()
                })
            } else {
                checks.require(false, format!("{field}.image"), || "the model reads rows of numbers, not pictures".to_owned());
                Vec::new()
            }
        }
        None => {
            checks.require(false, field, || "empty: `values` or `image` is needed".to_owned());
            Vec::new()
        }
    };
    checks.finish()?;
    section.standardise(&mut values);
    Ok(values)
}
