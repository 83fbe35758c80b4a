//! Runs that extend several rows, each by as many tokens as it is given.

use ndarray::{Array1, ArrayD, IxDyn};
use quintet_onnx::{Error, KvCache, Tensor};

use super::{
    form::Form,
    graphs::{Graphs, Loaded, grid},
};

/// New tokens of a row, behind the past that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extension {
    pub(super) row: usize,
    pub(super) past: usize,
    pub(super) tokens: Vec<u32>,
}

/// The most tokens of a run of several rows, each of which gives logits for the whole vocabulary.
const MOST_TOKENS: usize = 512;

/// Cuts these extensions where a run of them would have more than [`MOST_TOKENS`].
fn pieces(extensions: &[Extension], indices: Vec<usize>) -> Vec<Vec<usize>> {
    let mut pieces: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for index in indices {
        let new = extensions.get(index).map_or(0, |extension| extension.tokens.len());
        tokens += new;
        if let Some(piece) = pieces.last_mut().filter(|_| tokens <= MOST_TOKENS) {
            piece.push(index);
        } else {
            pieces.push(vec![index]);
            tokens = new;
        }
    }
    pieces
}

/// Where the tokens of a ragged run stand.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    /// The rows of the run, and the most new tokens of one.
    rows: usize,
    width: usize,
    tokens: Vec<i64>,
    positions: Vec<i64>,
    pad_index: Vec<i64>,
    unpad_index: Vec<i64>,
    /// Each row's new tokens; 0 where it is idle.
    new: Vec<i32>,
    /// Each row's length less one. An idle row counts one token.
    lengths: Vec<i32>,
    longest: i32,
}

impl Layout {
    /// The run of these rows, in ascending order; rows between them are idle.
    fn new(extensions: &[Extension]) -> Self {
        let first = extensions.first().map_or(0, |extension| extension.row);
        let rows = extensions.last().map_or(0, |extension| extension.row + 1 - first);
        let width = extensions.iter().map(|extension| extension.tokens.len()).max().unwrap_or(0);
        let mut layout = Self {
            rows,
            width,
            tokens: Vec::new(),
            positions: Vec::new(),
            pad_index: vec![0; rows * width],
            unpad_index: Vec::new(),
            new: vec![0; rows],
            lengths: vec![0; rows],
            longest: width as i32,
        };
        for extension in extensions {
            let row = extension.row - first;
            let total = extension.past + extension.tokens.len();
            for (place, token) in extension.tokens.iter().enumerate() {
                let flat = row * width + place;
                layout.pad_index.iter_mut().skip(flat).take(1).for_each(|index| *index = layout.tokens.len() as i64);
                layout.unpad_index.push(flat as i64);
                layout.positions.push((extension.past + place) as i64);
                layout.tokens.push(i64::from(*token));
            }
            layout.new.iter_mut().skip(row).take(1).for_each(|new| *new = extension.tokens.len() as i32);
            layout.lengths.iter_mut().skip(row).take(1).for_each(|length| *length = total as i32 - 1);
            layout.longest = layout.longest.max(total as i32);
        }
        layout
    }
}

impl Graphs {
    /// Extends rows, which stand in ascending order, and calls `each` with every extension's index, the place of a token in it and the
    /// logits after that token.
    ///
    /// A row's bits depend on its own tokens and past and on how many tokens are new. So rows with one new token, whose attention
    /// takes another path, never share a run with others: they have the bits of a decode step. Where the graph takes lengths of
    /// queries, all others share one run; where it does not, each has its own.
    pub(super) fn extend(&mut self, extensions: &[Extension], mut each: impl FnMut(usize, usize, &[f32])) -> Result<(), Error> {
        let (steps, others): (Vec<usize>, Vec<usize>) =
            (0..extensions.len()).partition(|index| extensions.get(*index).is_some_and(|extension| extension.tokens.len() == 1));
        for indices in [steps, others] {
            for run in pieces(extensions, indices).into_iter().flat_map(|piece| self.runs(extensions, piece)).collect::<Vec<_>>() {
                let together: Vec<Extension> = run.iter().filter_map(|index| extensions.get(*index).cloned()).collect();
                let mut places =
                    run.iter().zip(&together).flat_map(|(index, extension)| (0..extension.tokens.len()).map(move |place| (*index, place)));
                self.extend_together(&together, |logits| {
                    if let Some((index, place)) = places.next() {
                        each(index, place, logits);
                    }
                })?;
            }
        }
        Ok(())
    }

    /// Which of these extensions can share a run: those with one new token each, or those with several.
    fn runs(&self, extensions: &[Extension], indices: Vec<usize>) -> Vec<Vec<usize>> {
        if indices.is_empty() {
            return Vec::new();
        }
        let of = |index: &usize| extensions.get(*index);
        let width = indices.iter().filter_map(of).map(|extension| extension.tokens.len()).max().unwrap_or(0);
        // The attention wants room for the widest of a run behind every row's past.
        let fits = indices.iter().filter_map(of).all(|extension| extension.past + width <= self.cache.capacity());
        if self.form == Form::Packed && self.stepping().takes.query_seqlens && fits {
            return vec![indices];
        }
        let mut runs: Vec<Vec<usize>> = Vec::new();
        for index in indices {
            let follows = |last: &usize| {
                let (Some(last), Some(next)) = (of(last), of(&index)) else { return false };
                width == 1 && last.row + 1 == next.row
            };
            match runs.last_mut() {
                Some(run) if run.last().is_some_and(follows) => run.push(index),
                _ => runs.push(vec![index]),
            }
        }
        runs
    }

    /// The graph that runs what was generated.
    fn stepping(&self) -> &Loaded {
        self.decode.as_ref().unwrap_or(&self.prefill)
    }

    /// One run.
    fn extend_together(&mut self, extensions: &[Extension], mut each: impl FnMut(&[f32])) -> Result<(), Error> {
        let vocabulary = self.vocabulary.max(1);
        let Self { form, cache, prefill, decode, .. } = self;
        let loaded = decode.as_mut().unwrap_or(prefill);
        if *form == Form::Concat {
            for extension in extensions {
                let mut values = Vec::new();
                loaded.run_concat(cache, extension.row, extension.past, &extension.tokens, 0, &mut values)?;
                values.chunks_exact(vocabulary).for_each(&mut each);
            }
            return Ok(());
        }
        let (Some(first), Some(last)) = (extensions.first(), extensions.last()) else { return Ok(()) };
        let rows = first.row..last.row + 1;
        if *form == Form::Packed && loaded.takes.query_seqlens {
            loaded.bind_ragged(cache, Layout::new(extensions))?;
        } else {
            let tokens: Vec<u32> = extensions.iter().flat_map(|extension| extension.tokens.iter().copied()).collect();
            let pasts: Vec<usize> = extensions.iter().map(|extension| extension.past).collect();
            loaded.bind(cache, *form, &pasts, &tokens, 0..tokens.len())?;
        }
        for extension in extensions {
            cache.hold(extension.row, extension.past + extension.tokens.len());
        }
        let outputs = cache.run(loaded.graph, &mut loaded.session, rows)?;
        let logits = outputs.f32("logits")?;
        let values = logits.as_slice().ok_or_else(|| Error::tensor("logits", "they do not lie row by row"))?;
        values.chunks_exact(vocabulary).for_each(each);
        Ok(())
    }
}

impl Loaded {
    /// Binds a run of rows with different numbers of new tokens. Every token's logits are wanted.
    fn bind_ragged(&self, cache: &mut KvCache, layout: Layout) -> Result<(), Error> {
        let count = layout.tokens.len() as i64;
        let mut bind = |name: &str, tensor: Tensor| cache.bind_input(self.graph, name, tensor);
        bind("input_ids", Tensor::I64(Array1::from(layout.tokens).into_dyn()))?;
        bind("pad_index", grid(layout.rows, layout.width, layout.pad_index))?;
        bind("unpad_index", Tensor::I64(Array1::from(layout.unpad_index).into_dyn()))?;
        bind("logit_index", Tensor::I64((0..count).collect::<Array1<_>>().into_dyn()))?;
        bind("seqlens_k", Tensor::I32(Array1::from(layout.lengths).into_dyn()))?;
        bind("total_sequence_length", Tensor::I32(ArrayD::from_elem(IxDyn(&[]), layout.longest)))?;
        bind("query_seqlens", Tensor::I32(Array1::from(layout.new).into_dyn()))?;
        if self.takes.position_ids {
            bind("position_ids", Tensor::I64(Array1::from(layout.positions).into_dyn()))?;
        }
        cache.bind_output(self.graph, "logits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_run_has_more_tokens_than_there_may_be() {
        let extension = |row| Extension { row, past: 0, tokens: vec![0; 17] };
        let extensions: Vec<Extension> = (0..100).map(extension).collect();
        let pieces = pieces(&extensions, (0..100).collect());
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [30, 30, 30, 10], "30 × 17 = 510");
        assert_eq!(pieces.concat(), (0..100).collect::<Vec<_>>());
        assert!(super::pieces(&extensions, Vec::new()).is_empty());
    }

    #[test]
    fn tokens_stand_one_after_the_other_and_rows_between_are_idle() {
        let extension = |row, past, tokens: &[u32]| Extension { row, past, tokens: tokens.to_vec() };
        let layout = Layout::new(&[extension(2, 10, &[7, 8, 9]), extension(4, 3, &[5, 6])]);
        let expected = Layout {
            rows: 3,
            width: 3,
            tokens: vec![7, 8, 9, 5, 6],
            positions: vec![10, 11, 12, 3, 4],
            pad_index: vec![0, 1, 2, 0, 0, 0, 3, 4, 0],
            unpad_index: vec![0, 1, 2, 6, 7],
            new: vec![3, 0, 2],
            lengths: vec![12, 0, 4],
            longest: 13,
        };
        assert_eq!(layout, expected);
        assert_eq!(Layout::new(&[extension(0, 0, &[1, 2])]).longest, 2, "as long as the run is wide at least");
    }
}
