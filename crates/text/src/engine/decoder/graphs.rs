use std::{borrow::Cow, ops::Range};

use ndarray::{Array1, Array2, ArrayD, IxDyn};
use quintet_onnx::{CacheOutputs, CachePlace, ElementType, Error, Graph, KvCache, ModelFolder, Runtime, Session, Tensor, TensorInfo};

use super::form::{Files, Form};

/// A decoder's graphs over its key–value cache.
///
/// A run is one of three: a *prefill* of several tokens in one row, a *decode* step of one token in each of the first rows, or an
/// *extension* of rows by as many tokens as each is given (see `ragged.rs`). A row's bits are those it has alone: a token's attention
/// takes one path where it is its row's only new one and another where there are several, and which one it takes depends on the
/// sequence and not on what runs beside it.
pub(super) struct Graphs {
    pub(super) form: Form,
    pub(super) cache: KvCache,
    pub(super) prefill: Loaded,
    /// A graph of its own for decode steps, where the folder has one.
    pub(super) decode: Option<Loaded>,
    /// Steps of so many rows take the prefill's graph all the same.
    many: usize,
    pub(super) vocabulary: usize,
}

/// From so many rows on a graph for prompts is the quicker one for steps too: int8 beside w8a8, three models of 125 to 494 million weights.
const MANY: usize = 8;

/// How much the cache has room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) rows: usize,
    /// Tokens of a row.
    pub(super) context: usize,
    /// The size of a head, where the graph itself does not say it.
    pub(super) head_size: Option<usize>,
    /// What it may take of a GPU's memory, which is committed whole.
    pub(super) bytes: usize,
}

pub(super) struct Loaded {
    pub(super) session: Session,
    pub(super) graph: Graph,
    pub(super) takes: Takes,
}

/// The optional inputs that a graph has.
#[derive(Clone, Copy)]
pub(super) struct Takes {
    pub(super) position_ids: bool,
    pub(super) query_seqlens: bool,
    use_cache_branch: bool,
}

/// A decoder's graphs before there is a cache for them.
pub(super) struct Sessions {
    form: Form,
    prefill: Session,
    decode: Option<Session>,
    vocabulary: usize,
}

impl Sessions {
    /// Opens the graphs; says what is wrong with a graph of another form.
    pub(super) fn open(folder: &ModelFolder, files: &Files, runtime: &Runtime, verify: bool) -> Result<Self, Error> {
        let open = |file: &str, verify: bool| match files.form {
            Form::Packed => Session::recording(folder, file, runtime, verify),
            Form::Builder | Form::Concat => Session::of(folder, file, runtime, verify),
        };
        let prefill = open(&files.graph, verify && !folder.is_bare())?;
        let vocabulary = prefill.outputs().iter().find(|output| output.name == "logits").and_then(|output| output.shape.last().copied().flatten());
        let vocabulary =
            vocabulary.ok_or_else(|| folder.broken(&files.graph, "the output 'logits' with a known vocabulary is missing".to_owned()))?;
        let decode = files.decode_graph.as_ref().map(|file| open(file, false)).transpose()?;
        Ok(Self { form: files.form, prefill, decode, vocabulary })
    }

    /// The bytes of a token's keys and values.
    pub(super) fn token_bytes(&self, head_size: Option<usize>) -> Result<usize, Error> {
        KvCache::token_bytes_of(&self.prefill, head_size)
    }

    /// Reserves the cache.
    pub(super) fn with_cache(self, room: Room) -> Result<Graphs, Error> {
        let Self { form, prefill, decode, vocabulary } = self;
        let place = match prefill.gpu().filter(|_| form != Form::Concat) {
            // Such a graph's keys and values come and go with every run.
            None => CachePlace::Host,
            Some(index) => CachePlace::Gpu { index, bytes: room.bytes },
        };
        if place != CachePlace::Host {
            requires_16_bits(&prefill)?;
        }
        let mut cache = KvCache::new(&prefill, room.rows, room.context, room.head_size, place)?;
        let prefill = Loaded::attach(prefill, &mut cache, form)?;
        let decode = decode.map(|session| Loaded::attach(session, &mut cache, form)).transpose()?;
        let mut graphs = Graphs { form, cache, prefill, decode, many: usize::MAX, vocabulary };
        graphs.warm_up()?;
        Ok(graphs)
    }
}

impl Graphs {
    /// Runs a prompt and a step, so that the first request finds memory and kernels ready.
    fn warm_up(&mut self) -> Result<(), Error> {
        self.prefill(0, 0, &[0, 0], 1)?;
        self.decode(&[0], &[2])?;
        self.cache.release(0);
        Ok(())
    }

    /// Lets steps take whichever graph is quicker for their rows: bits depend on what shares a run then.
    pub(super) fn choose_by_rows(&mut self) {
        self.many = MANY;
    }

    pub(super) fn session(&self) -> &Session {
        &self.prefill.session
    }

    pub(super) fn session_mut(&mut self) -> &mut Session {
        &mut self.prefill.session
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

    /// Runs new tokens in one row behind the `past` that it holds. Gives the logits of the tokens from `wanted` on.
    pub(super) fn prefill(&mut self, row: usize, past: usize, tokens: &[u32], wanted: usize) -> Result<Logits<'_>, Error> {
        let Self { form, cache, prefill, .. } = self;
        if *form == Form::Concat {
            let mut values = Vec::new();
            prefill.run_concat(cache, row, past, tokens, wanted, &mut values)?;
            return Ok(Logits::Copied { values: Cow::Owned(values), vocabulary: self.vocabulary });
        }
        prefill.bind(cache, *form, &[past], tokens, wanted..tokens.len())?;
        cache.hold(row, past + tokens.len());
        let outputs = cache.run(prefill.graph, &mut prefill.session, row..row + 1)?;
        Ok(Logits::InPlace { outputs, skip: if *form == Form::Packed { 0 } else { wanted } })
    }

    /// Runs one new token in each of the first rows, behind the past that each holds. Gives the logits of each.
    pub(super) fn decode(&mut self, tokens: &[u32], pasts: &[usize]) -> Result<Logits<'_>, Error> {
        let Self { form, cache, prefill, decode, many, .. } = self;
        let loaded = decode.as_mut().filter(|_| tokens.len() < *many).unwrap_or(prefill);
        if *form == Form::Concat {
            let mut values = Vec::new();
            for (row, (token, past)) in tokens.iter().zip(pasts).enumerate() {
                loaded.run_concat(cache, row, *past, std::slice::from_ref(token), 0, &mut values)?;
            }
            return Ok(Logits::Copied { values: Cow::Owned(values), vocabulary: self.vocabulary });
        }
        for (row, past) in pasts.iter().enumerate() {
            cache.hold(row, past + 1);
        }
        if loaded.session.records() {
            let capacity = cache.capacity();
            let inputs = loaded.packed(pasts, tokens, 0..tokens.len(), capacity);
            let values = cache.play(loaded.graph, &mut loaded.session, tokens.len(), &inputs, ("logits", self.vocabulary))?;
            return Ok(Logits::Copied { values: Cow::Borrowed(values), vocabulary: self.vocabulary });
        }
        loaded.bind(cache, *form, pasts, tokens, 0..tokens.len())?;
        let outputs = cache.run(loaded.graph, &mut loaded.session, 0..tokens.len())?;
        Ok(Logits::InPlace { outputs, skip: 0 })
    }
}

impl Loaded {
    fn attach(session: Session, cache: &mut KvCache, form: Form) -> Result<Self, Error> {
        let has = |name: &str| session.inputs().iter().any(|input| input.name == name);
        if let Some(missing) = form.inputs().iter().find(|name| !has(name)) {
            return Err(Error::tensor(*missing, format!("a graph of the form \"{form}\" has this input")));
        }
        let takes = Takes { position_ids: has("position_ids"), query_seqlens: has("query_seqlens"), use_cache_branch: has("use_cache_branch") };
        let unknown = |input: &&TensorInfo| !input.name.starts_with("past_key_values.") && !form.knows(&input.name);
        if let Some(unknown) = session.inputs().iter().find(unknown) {
            return Err(Error::tensor(&unknown.name, format!("no value is known for this input of a graph of the form \"{form}\"")));
        }
        let graph = cache.attach(&session)?;
        Ok(Self { session, graph, takes })
    }

    /// Binds a run of rows that lie side by side, of the same number of tokens each, behind their pasts.
    pub(super) fn bind(&self, cache: &mut KvCache, form: Form, pasts: &[usize], tokens: &[u32], wanted: Range<usize>) -> Result<(), Error> {
        let (rows, count) = (pasts.len(), tokens.len());
        let width = count / rows.max(1);
        let totals: Vec<usize> = pasts.iter().map(|past| past + width).collect();
        let longest = totals.iter().copied().max().unwrap_or(0);
        if form == Form::Packed {
            for (name, tensor) in self.packed(pasts, tokens, wanted, longest) {
                cache.bind_input(self.graph, name, tensor)?;
            }
        } else {
            let mut bind = |name: &str, tensor: Tensor| cache.bind_input(self.graph, name, tensor);
            bind("input_ids", grid(rows, width, tokens.iter().map(|token| i64::from(*token)).collect()))?;
            let mask = Array2::from_shape_fn((rows, longest), |(row, place)| i64::from(totals.get(row).is_some_and(|total| place < *total)));
            bind("attention_mask", Tensor::I64(mask.into_dyn()))?;
            if self.takes.position_ids {
                bind("position_ids", grid(rows, width, positions(pasts, width).collect()))?;
            }
        }
        // Bound anew each time: the runtime would keep the last run's tensor, of as many rows as that had.
        cache.bind_output(self.graph, "logits")
    }

    /// The inputs of a packed run of rows of the same number of tokens each. `longest` is at least the longest row's total.
    fn packed(&self, pasts: &[usize], tokens: &[u32], wanted: Range<usize>, longest: usize) -> Vec<(&'static str, Tensor)> {
        let (rows, count) = (pasts.len(), tokens.len());
        let width = count / rows.max(1);
        let line = |values: Vec<i64>| Tensor::I64(Array1::from(values).into_dyn());
        let counted = || (0..count as i64).collect::<Vec<_>>();
        let mut inputs = vec![
            ("input_ids", line(tokens.iter().map(|token| i64::from(*token)).collect())),
            ("pad_index", grid(rows, width, counted())),
            ("unpad_index", line(counted())),
            ("logit_index", line(wanted.map(|index| index as i64).collect())),
            ("seqlens_k", Tensor::I32(pasts.iter().map(|past| (past + width) as i32 - 1).collect::<Array1<_>>().into_dyn())),
            ("total_sequence_length", Tensor::I32(ArrayD::from_elem(IxDyn(&[]), longest as i32))),
        ];
        if self.takes.query_seqlens {
            inputs.push(("query_seqlens", Tensor::I32(Array1::from_elem(rows, width as i32).into_dyn())));
        }
        if self.takes.position_ids {
            inputs.push(("position_ids", line(positions(pasts, width).collect())));
        }
        inputs
    }

    /// Runs a graph that takes the past as it is and gives the past with the new tokens behind: the cache is copied out and what
    /// is new copied in. One row at a time, since rows of different length would have to be padded.
    pub(super) fn run_concat(
        &mut self,
        cache: &mut KvCache,
        row: usize,
        past: usize,
        tokens: &[u32],
        wanted: usize,
        logits: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let (count, total) = (tokens.len(), past + tokens.len());
        let ids = grid(1, count, tokens.iter().map(|token| i64::from(*token)).collect());
        let mask = grid(1, total, vec![1; total]);
        let positions = grid(1, count, (past as i64..total as i64).collect());
        let branch = Tensor::Bool(Array1::from_elem(1, past > 0).into_dyn());
        let kept = cache.past(row, past)?;
        let mut inputs = vec![("input_ids", &ids), ("attention_mask", &mask)];
        if self.takes.position_ids {
            inputs.push(("position_ids", &positions));
        }
        if self.takes.use_cache_branch {
            inputs.push(("use_cache_branch", &branch));
        }
        inputs.extend(kept.iter().map(|(name, tensor)| (*name, tensor)));
        let outputs = self.session.run(&inputs)?;
        for row in outputs.f32("logits")?.rows().into_iter().skip(wanted) {
            logits.extend(row.iter().copied());
        }
        cache.keep(row, past, count, &outputs)
    }
}

/// `GroupQueryAttention` has no kernel for 32 bits on a GPU: it would run on the processor, and the cache would be copied at each step.
/// Graphs with a cache of 8 bits are made for the processor.
fn requires_16_bits(session: &Session) -> Result<(), Error> {
    let other = |input: &&TensorInfo| input.name.starts_with("past_key_values.") && input.element != ElementType::F16;
    match session.inputs().iter().find(other) {
        Some(input) => {
            let bits = 8 * input.element.size();
            let reason = "export the model with scripts/export/text.py --device cuda";
            Err(Error::tensor(&input.name, format!("a GPU's attention takes 16 bits, these are {bits}: {reason}")))
        }
        None => Ok(()),
    }
}

/// The places of new tokens behind each row's past.
fn positions(pasts: &[usize], width: usize) -> impl Iterator<Item = i64> {
    pasts.iter().flat_map(move |past| (*past..past + width).map(|position| position as i64))
}

pub(super) fn grid(rows: usize, columns: usize, values: Vec<i64>) -> Tensor {
    Tensor::I64(Array2::from_shape_vec((rows, columns), values).unwrap_or_default().into_dyn())
}

/// The logits of a run.
pub(super) enum Logits<'a> {
    /// In the runtime's memory; the first rows are of no interest.
    InPlace { outputs: CacheOutputs<'a>, skip: usize },
    /// Copied from a GPU, or from several runs.
    Copied { values: Cow<'a, [f32]>, vocabulary: usize },
}

impl Logits<'_> {
    /// Calls `each` with every row of logits, in order.
    pub(super) fn rows(&self, mut each: impl FnMut(&[f32])) -> Result<(), Error> {
        match self {
            Self::InPlace { outputs, skip } => {
                let logits = outputs.f32("logits")?;
                let vocabulary = logits.shape().last().copied().unwrap_or(0).max(1);
                let values = logits.as_slice().ok_or_else(|| Error::tensor("logits", "they do not lie row by row"))?;
                values.chunks_exact(vocabulary).skip(*skip).for_each(each);
            }
            Self::Copied { values, vocabulary } => values.chunks_exact((*vocabulary).max(1)).for_each(&mut each),
        }
        Ok(())
    }
}
