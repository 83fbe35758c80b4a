//! Runs a batch of texts and takes from the output what each of them is for.

use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayView2, ArrayViewD, Axis, Ix2, Ix3, Slice};
use quintet_onnx::{Error as OnnxError, Session, Tensor};

use super::{
    head::{Plan, softmax},
    pooling::Pooling,
};

/// A text's tokens, and what is wanted of it.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) ids: Vec<u32>,
    /// 0 for the first text of a pair and 1 for the second; empty where all are 0.
    pub(super) types: Vec<u32>,
    pub(super) want: Want,
}

/// What is taken from the model's output for a text.
#[derive(Clone, Debug)]
pub(super) enum Want {
    /// One vector.
    Pooled(Pooling),
    /// The vector of each token.
    Tokens,
    /// Weights over the vocabulary.
    Sparse,
    /// The logits of the classes.
    Classes,
    /// Tokens for masks.
    Masks(Masks),
}

/// Which tokens are wanted for which masks.
#[derive(Clone, Debug)]
pub struct Masks {
    /// The masks' places in the text.
    pub places: Vec<usize>,
    /// How many of the likeliest to give.
    pub top_k: usize,
    /// Only these are considered; empty = all.
    pub targets: Arc<[u32]>,
    /// Only ids below this are considered, those that the tokenizer has: a graph may have rows for more.
    pub vocabulary: u32,
}

/// What was taken.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Vector(Vec<f32>),
    Vectors(Array2<f32>),
    Sparse(Vec<(u32, f32)>),
    Masks(Vec<Vec<(u32, f32)>>),
}

impl Text {
    /// The places of its tokens whose logits are wanted.
    fn places(&self) -> Vec<usize> {
        match &self.want {
            Want::Masks(masks) => masks.places.clone(),
            _ => (0..self.ids.len()).collect(),
        }
    }
}

/// Runs texts together. Shorter ones are filled up to the longest, and what fills them is masked.
pub(super) fn run(session: &mut Session, plan: &Plan, texts: &[Text]) -> Result<Vec<Found>, OnnxError> {
    let width = texts.iter().map(|text| text.ids.len()).max().unwrap_or(0);
    let shape = (texts.len(), width);
    let filled = |values: &dyn Fn(&Text) -> Vec<i64>| {
        let mut rows = Array2::<i64>::zeros(shape);
        for (text, mut row) in texts.iter().zip(rows.rows_mut()) {
            values(text).into_iter().zip(row.iter_mut()).for_each(|(value, place)| *place = value);
        }
        Tensor::I64(rows.into_dyn())
    };
    let places: Vec<Vec<usize>> = texts.iter().map(Text::places).collect();
    let mut inputs = vec![("input_ids", filled(&|text| text.ids.iter().map(|id| i64::from(*id)).collect()))];
    if plan.takes_mask {
        inputs.push(("attention_mask", filled(&|text| vec![1; text.ids.len()])));
    }
    if plan.takes_types {
        inputs.push(("token_type_ids", filled(&|text| text.types.iter().map(|kind| i64::from(*kind)).collect())));
    }
    if plan.takes_index {
        let index = places.iter().enumerate().flat_map(|(row, places)| places.iter().map(move |place| (row * width + place) as i64));
        inputs.push(("logit_index", Tensor::I64(index.collect::<Array1<i64>>().into_dyn())));
    }
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let outputs = session.run(&inputs)?;
    let output = outputs.f32(&plan.output)?;
    let mut done = 0;
    texts
        .iter()
        .zip(&places)
        .enumerate()
        .map(|(row, (text, places))| {
            let found = take(&output, plan, row, done, text, places);
            done += places.len();
            found.ok_or_else(|| {
                let reason = format!("its shape {:?} does not fit {} texts of at most {width} tokens", output.shape(), texts.len());
                OnnxError::Tensor { name: plan.output.clone(), reason }
            })
        })
        .collect()
}

/// What a text is for, from its part of the output; `done` logits are those of texts before it. None = the output is too small.
fn take(output: &ArrayViewD<'_, f32>, plan: &Plan, row: usize, done: usize, text: &Text, places: &[usize]) -> Option<Found> {
    if matches!(text.want, Want::Classes) {
        let logits = output.view().into_dimensionality::<Ix2>().ok()?;
        return logits.outer_iter().nth(row).map(|logits| Found::Vector(logits.to_vec()));
    }
    // Row by row what the wanted tokens have.
    let whole;
    let (rows, chosen): (ArrayView2<'_, f32>, Vec<usize>) = if plan.takes_index {
        (output.view().into_dimensionality::<Ix2>().ok()?, (done..done + places.len()).collect())
    } else {
        whole = output.view().into_dimensionality::<Ix3>().ok()?;
        if row >= whole.len_of(Axis(0)) {
            return None;
        }
        (whole.index_axis_move(Axis(0), row), places.to_vec())
    };
    if chosen.iter().any(|place| *place >= rows.nrows()) {
        return None;
    }
    let tokens = |rows: &ArrayView2<'_, f32>| rows.slice_axis(Axis(0), Slice::from(..text.ids.len())).to_owned();
    Some(match &text.want {
        Want::Pooled(pooling) => Found::Vector(pooling.pool(&rows.slice_axis(Axis(0), Slice::from(..text.ids.len())))),
        Want::Tokens => Found::Vectors(tokens(&rows)),
        Want::Sparse => Found::Sparse(sparse(&rows, &chosen)),
        Want::Masks(masks) => Found::Masks(chosen.iter().map(|place| likeliest(&rows.row(*place).to_vec(), masks)).collect()),
        Want::Classes => return None,
    })
}

/// SPLADE's weights: log(1 + relu(logit)), of each token of the vocabulary the largest over the text's tokens; those above 0.
fn sparse(rows: &ArrayView2<'_, f32>, chosen: &[usize]) -> Vec<(u32, f32)> {
    let mut largest = vec![0.0f32; rows.ncols()];
    for place in chosen {
        largest.iter_mut().zip(rows.row(*place)).for_each(|(largest, logit)| *largest = largest.max(*logit));
    }
    let above = largest.into_iter().enumerate().filter(|(_, logit)| *logit > 0.0);
    above.map(|(index, logit)| (index as u32, f64::from(logit).ln_1p() as f32)).collect()
}

/// The likeliest tokens of a mask with their probabilities among all, likeliest first; of equally likely ones the smaller id.
fn likeliest(logits: &[f32], masks: &Masks) -> Vec<(u32, f32)> {
    let probabilities = softmax(logits);
    let of = |id: u32| probabilities.get(id as usize).map(|probability| (id, *probability));
    let mut tokens: Vec<(u32, f32)> = if masks.targets.is_empty() {
        (0..masks.vocabulary).map_while(of).collect()
    } else {
        masks.targets.iter().filter_map(|id| of(*id)).collect()
    };
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if masks.top_k < tokens.len() {
        tokens.select_nth_unstable_by(masks.top_k, order);
        tokens.truncate(masks.top_k);
    }
    tokens.sort_unstable_by(order);
    tokens
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn sparse_weights_are_the_largest_of_each_column() {
        let rows = array![[0.5, -1.0, 0.0], [1.0, -2.0, 3.0]];
        let found = sparse(&rows.view(), &[0, 1]);
        assert_eq!(found, [(0, 2.0f32.ln()), (2, 4.0f32.ln())]);
        assert_eq!(sparse(&rows.view(), &[0]), [(0, 1.5f32.ln())]);
    }

    #[test]
    fn the_likeliest_tokens_come_first_and_targets_keep_their_probability() {
        let logits = [1.0f32, 3.0, 2.0, 3.0];
        let masks = |top_k, targets: &[u32]| Masks { places: vec![0], top_k, targets: targets.into(), vocabulary: 9 };
        let ids = |found: &[(u32, f32)]| found.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        let all = likeliest(&logits, &masks(9, &[]));
        assert_eq!(ids(&all), [1, 3, 2, 0]);
        assert!((all.iter().map(|(_, probability)| probability).sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!(likeliest(&logits, &masks(2, &[])), all[..2]);
        assert_eq!(likeliest(&logits, &masks(2, &[0, 2])), [all[2], all[3]]);
        // What the tokenizer does not have is not given, and takes its part of the probability.
        assert_eq!(likeliest(&logits, &Masks { vocabulary: 3, ..masks(9, &[]) }), [all[0], all[2], all[3]]);
    }
}
