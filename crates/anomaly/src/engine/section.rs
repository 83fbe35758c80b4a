use serde::Deserialize;

use super::score::{Likelihood, ScoreKind};

/// The table `[vae]` of a model folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// The encoder's file.
    pub encoder: String,
    /// The decoder's file.
    pub decoder: String,
    /// Number of latent values.
    pub latent_size: usize,
    /// What the model reads.
    pub data: Data,
    /// The shape of a sample: [features], or [channels, height, width].
    pub shape: Vec<usize>,
    /// Black and white, for images.
    #[serde(default)]
    pub value_range: Option<[f32; 2]>,
    /// How a reconstruction explains a sample.
    likelihood: String,
    /// The Gaussian likelihood's standard deviation.
    #[serde(default)]
    sigma: Option<f64>,
    /// The score that is used unless a request says otherwise.
    pub default_score: ScoreKind,
    /// The file with held-out normal samples.
    pub normals: String,
    /// The features, for rows.
    #[serde(default)]
    pub features: Vec<Feature>,
}

/// What a model reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Data {
    /// Rows of named features.
    Tabular,
    /// Images.
    Image,
}

/// A feature of a row. The networks see (value - mean) / scale.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// Its mean among the training data.
    pub mean: f64,
    /// Its standard deviation among the training data.
    pub scale: f64,
}

impl Section {
    /// What is wrong with the table, if anything is.
    pub fn check(&self) -> Result<Likelihood, String> {
        let dimensions = self.shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size)).unwrap_or(usize::MAX);
        if !(1..=1 << 24).contains(&dimensions) {
            return Err(format!("vae.shape = {:?}: must have 1 to 16777216 values", self.shape));
        }
        match self.data {
            Data::Tabular => {
                if self.shape.len() != 1 || self.features.len() != dimensions {
                    return Err(format!(
                        "vae.shape = {:?} with {} vae.features: a table has one shape and as many features",
                        self.shape,
                        self.features.len()
                    ));
                }
                if let Some(feature) =
                    self.features.iter().find(|feature| !(feature.mean.is_finite() && feature.scale.is_finite() && feature.scale > 0.0))
                {
                    return Err(format!(
                        "feature '{}' has mean {} and scale {}: the scale must be above 0",
                        feature.name, feature.mean, feature.scale
                    ));
                }
            }
            Data::Image => {
                let [1 | 3, height, width] = self.shape.as_slice() else {
                    return Err(format!("vae.shape = {:?}: an image has [1 or 3 channels, height, width]", self.shape));
                };
                if *height > 4096 || *width > 4096 {
                    return Err(format!("vae.shape = {:?}: each side must be at most 4096", self.shape));
                }
                match self.value_range {
                    Some([low, high]) if low.is_finite() && high.is_finite() && low < high => (),
                    range => return Err(format!("vae.value_range = {range:?}: an image needs [black, white], the first below the second")),
                }
            }
        }
        match (self.likelihood.as_str(), self.sigma) {
            ("bernoulli", None) => Ok(Likelihood::Bernoulli),
            ("gaussian", Some(sigma)) if sigma.is_finite() && sigma > 0.0 => Ok(Likelihood::Gaussian { sigma }),
            (likelihood, sigma) => {
                Err(format!("vae.likelihood = {likelihood:?} with sigma {sigma:?}: \"gaussian\" with a sigma above 0, or \"bernoulli\" without"))
            }
        }
    }

    /// Number of values in a sample.
    pub fn dimensions(&self) -> usize {
        self.shape.iter().product()
    }

    /// A sample as the networks see it.
    pub fn standardise(&self, values: &mut [f32]) {
        for (value, feature) in values.iter_mut().zip(&self.features) {
            *value = ((f64::from(*value) - feature.mean) / feature.scale) as f32;
        }
    }

    /// The way back.
    pub fn unstandardise(&self, values: &mut [f32]) {
        for (value, feature) in values.iter_mut().zip(&self.features) {
            *value = (f64::from(*value) * feature.scale + feature.mean) as f32;
        }
    }
}
