use ndarray::{Array1, Array2, ArrayD, IxDyn};
use quintet_onnx::{CachePlace, Error, Graph, KvCache, ModelFolder, Runtime, Session, Tensor};

use super::{
    files::Files,
    graphs::{Place, vocabulary},
};

/// Graphs of form "slots": a step over the first rows of two caches in place.
///
/// No row is ever padded, and what each row gives depends on nothing in the others: `GroupQueryAttention` takes each row by itself, and
/// the linear layers each token.
pub(super) struct Slots {
    encoder: Session,
    decoder: Session,
    cache: KvCache,
    graph: Graph,
    vocabulary: usize,
}

/// The inputs of a step, besides the caches.
const INPUTS: [&str; 5] = ["input_ids", "seqlens_k", "total_sequence_length", "encoder_seqlens_k", "encoder_total_sequence_length"];

impl Slots {
    pub(super) fn open(folder: &ModelFolder, files: &Files, runtime: &Runtime, verify: bool, rows: usize, max_tokens: usize) -> Result<Self, Error> {
        let encoder = Session::of(folder, &files.encoder, runtime, verify)?;
        let decoder = Session::of(folder, &files.decoder, runtime, verify)?;
        let has = |name: &str| decoder.inputs().iter().any(|input| input.name == name);
        if let Some(missing) = INPUTS.iter().find(|name| !has(name)) {
            return Err(folder.broken(&files.decoder, format!("it has no input '{missing}', which graphs of form \"slots\" have")));
        }
        let mut cache = KvCache::with_inputs(&decoder, rows, max_tokens, max_tokens + 1, CachePlace::Host)?;
        let graph = cache.attach(&decoder)?;
        Ok(Self { vocabulary: vocabulary(folder, &decoder)?, encoder, decoder, cache, graph })
    }

    pub(super) fn encode(&mut self, row: usize, input: &[u32]) -> Result<(), Error> {
        let ids: Vec<i64> = input.iter().map(|id| i64::from(*id)).collect();
        let ids = Tensor::I64(Array2::from_shape_vec((1, ids.len()), ids).unwrap_or_default().into_dyn());
        let outputs = self.encoder.run(&[("input_ids", &ids)])?;
        self.cache.keep_input(row, input.len(), &outputs)
    }

    pub(super) fn step(&mut self, places: &[Place], mut each: impl FnMut(usize, &[f32])) -> Result<(), Error> {
        let Self { decoder, cache, graph, vocabulary, .. } = self;
        let numbers = |of: fn(&Place) -> usize| Tensor::I32(places.iter().map(|place| of(place) as i32).collect::<Array1<_>>().into_dyn());
        let longest = |of: fn(&Place) -> usize| {
            let longest = places.iter().map(of).max().unwrap_or(0);
            Tensor::I32(ArrayD::from_elem(IxDyn(&[]), longest as i32 + 1))
        };
        let ids: Array1<i64> = places.iter().map(|place| i64::from(place.token)).collect();
        let tensors = [
            Tensor::I64(ids.into_dyn()),
            numbers(|place| place.past),
            longest(|place| place.past),
            numbers(|place| place.input),
            longest(|place| place.input),
        ];
        for (name, tensor) in INPUTS.into_iter().zip(tensors) {
            cache.bind_input(*graph, name, tensor)?;
        }
        // Bound anew each time: the runtime would keep the last run's tensor, of as many rows as that had.
        cache.bind_output(*graph, "logits")?;
        for (row, place) in places.iter().enumerate() {
            cache.hold(row, place.past + 1);
        }
        let outputs = cache.run(*graph, decoder, 0..places.len())?;
        let logits = outputs.f32("logits")?;
        let values = logits.as_slice().ok_or_else(|| Error::tensor("logits", "they do not lie row by row"))?;
        values.chunks_exact((*vocabulary).max(1)).enumerate().for_each(|(row, logits)| each(row, logits));
        Ok(())
    }

    pub(super) fn cache(&self) -> &KvCache {
        &self.cache
    }

    pub(super) fn cache_mut(&mut self) -> &mut KvCache {
        &mut self.cache
    }

    pub(super) fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    pub(super) fn sessions(&self) -> Vec<&Session> {
        vec![&self.encoder, &self.decoder]
    }

    pub(super) fn session_mut(&mut self, at: usize) -> Option<&mut Session> {
        [&mut self.encoder, &mut self.decoder].into_iter().nth(at)
    }
}
