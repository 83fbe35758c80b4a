//! What a model makes of its token vectors, and how its logits become scores.

use quintet_onnx::{Error as OnnxError, GraphInfo, ModelFolder, TensorInfo};
use serde::Deserialize;

use super::settings::{Settings, label_names};

/// The inputs that an encoder's graph may have.
const INPUTS: [&str; 4] = ["input_ids", "attention_mask", "token_type_ids", "logit_index"];

/// The outputs that are looked for, in this order, before the first one is taken.
const OUTPUTS: [&str; 3] = ["logits", "last_hidden_state", "token_embeddings"];

/// What a model has behind its layers, as a folder names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum HeadKind {
    /// Logits over the vocabulary at each token.
    MaskedLm,
    /// Logits over classes.
    Classification,
}

/// What a model has behind its layers.
#[derive(Clone, Debug)]
pub enum Head {
    /// Nothing: its output is the token vectors, of so many dimensions.
    Tokens {
        /// Their dimensions.
        dimensions: usize,
    },
    /// Logits over a vocabulary of so many tokens.
    MaskedLm {
        /// How many tokens it has.
        vocabulary: usize,
    },
    /// Logits over classes.
    Classification {
        /// The classes' names.
        labels: Vec<String>,
        /// How logits become scores.
        activation: Activation,
    },
}

/// How the logits of a classifier become scores: as transformers' pipeline for text classification does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// One class is right: the scores add up to 1.
    Softmax,
    /// Each class by itself.
    Sigmoid,
    /// They are the values of a regression.
    Identity,
}

impl Activation {
    fn of(problem_type: Option<&str>, classes: usize) -> Self {
        match problem_type {
            Some("regression") => Self::Identity,
            Some("multi_label_classification") => Self::Sigmoid,
            Some("single_label_classification") => Self::Softmax,
            _ if classes == 1 => Self::Sigmoid,
            _ => Self::Softmax,
        }
    }

    /// The scores of logits.
    pub fn scores(self, logits: &[f32]) -> Vec<f32> {
        match self {
            Self::Softmax => softmax(logits),
            Self::Sigmoid => logits.iter().map(|logit| sigmoid(*logit)).collect(),
            Self::Identity => logits.to_vec(),
        }
    }
}

/// 1 / (1 + exp(-x)).
pub fn sigmoid(logit: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(logit)).exp())) as f32
}

/// exp of each over the sum of all.
pub(super) fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers = logits.iter().map(|logit| f64::from(logit - largest).exp());
    let sum: f64 = powers.clone().sum();
    powers.map(|power| (power / sum) as f32).collect()
}

/// How a graph is asked, and what its answer is.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) takes_mask: bool,
    pub(super) takes_types: bool,
    /// Whether logits come of the tokens that are named alone.
    pub(super) takes_index: bool,
    pub(super) output: String,
}

/// What a graph is, by what the folder says and by its own inputs and outputs.
pub(super) fn read(folder: &ModelFolder, settings: &Settings, info: &GraphInfo) -> Result<(Head, Plan), OnnxError> {
    let broken = |reason: String| folder.broken(&info.file, reason);
    if let Some(strange) = info.inputs.iter().find(|input| !INPUTS.contains(&input.name.as_str())) {
        return Err(broken(format!("its input {:?} is not known: an encoder's are {}", strange.name, INPUTS.join(", "))));
    }
    let takes = |name: &str| info.inputs.iter().any(|input| input.name == name);
    if !takes("input_ids") {
        return Err(broken("it has no input input_ids".to_owned()));
    }
    let named = OUTPUTS.iter().find_map(|name| info.outputs.iter().find(|output| output.name == *name));
    let output = named.or_else(|| info.outputs.first()).ok_or_else(|| broken("it has no output".to_owned()))?;
    let plan = Plan {
        takes_mask: takes("attention_mask"),
        takes_types: takes("token_type_ids"),
        takes_index: takes("logit_index"),
        output: output.name.clone(),
    };
    let rank = output.shape.len();
    let is_logits = output.name == "logits";
    let kind = settings.head.or(match rank {
        3 if is_logits => Some(HeadKind::MaskedLm),
        2 if is_logits && plan.takes_index => Some(HeadKind::MaskedLm),
        2 if is_logits => Some(HeadKind::Classification),
        _ => None,
    });
    let expected = if kind == Some(HeadKind::Classification) || plan.takes_index { 2 } else { 3 };
    if rank != expected {
        return Err(broken(format!("its output {:?} has {rank} dimensions, {expected} are expected", output.name)));
    }
    let head = match kind {
        None => Head::Tokens { dimensions: last(output).or(settings.dimensions).ok_or_else(|| broken(unknown("dimensions")))? },
        Some(HeadKind::MaskedLm) => Head::MaskedLm { vocabulary: last(output).ok_or_else(|| broken(unknown("vocabulary")))? },
        Some(HeadKind::Classification) => {
            let count = last(output).or(Some(settings.labels.len()).filter(|count| *count > 0));
            let labels = label_names(folder, &settings.labels, count.ok_or_else(|| broken(unknown("classes")))?)?;
            let activation = Activation::of(settings.problem_type.as_deref(), labels.len());
            Head::Classification { labels, activation }
        }
    };
    Ok((head, plan))
}

fn last(output: &TensorInfo) -> Option<usize> {
    output.shape.last().copied().flatten().filter(|size| *size > 0)
}

fn unknown(what: &str) -> String {
    format!("neither its output's shape nor the folder says the number of {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_are_those_of_transformers_pipeline() {
        for (problem_type, classes, expected) in [
            (None, 3, Activation::Softmax),
            (None, 1, Activation::Sigmoid),
            (Some("multi_label_classification"), 3, Activation::Sigmoid),
            (Some("single_label_classification"), 2, Activation::Softmax),
            (Some("regression"), 1, Activation::Identity),
        ] {
            assert_eq!(Activation::of(problem_type, classes), expected);
        }
    }

    #[test]
    fn scores_of_large_logits_are_finite() {
        assert_eq!(Activation::Softmax.scores(&[1000.0, 1000.0]), [0.5, 0.5]);
        assert_eq!(Activation::Sigmoid.scores(&[-1000.0, 1000.0, 0.0]), [0.0, 1.0, 0.5]);
        assert_eq!(Activation::Identity.scores(&[2.5]), [2.5]);
    }
}
