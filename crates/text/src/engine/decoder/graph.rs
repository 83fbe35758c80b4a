use ndarray::{Array1, Array2, ArrayD};
use quintet_onnx::{Binding, DeviceTensor, Error, Outputs, Session, Tensor};

/// The prefix of the graph's cache inputs.
const PAST: &str = "past_key_values.";

/// A packed graph with its key–value buffers.
///
/// The linear layers see the run's real tokens, one after the other; the attention sees `[slots, width]`, to which
/// `pad_index` brings the tokens and from which `unpad_index` takes them back.
pub(super) struct PackedGraph {
    session: Session,
    binding: Binding,
    /// Bound in place; kept here because the binding's memory is theirs.
    _cache: Vec<DeviceTensor>,
    slots: usize,
    vocabulary: usize,
}

/// What one slot does in a run.
#[derive(Clone, Debug)]
pub(super) struct Row<'a> {
    pub(super) slot: usize,
    /// Tokens that the slot's buffers hold already.
    pub(super) past: usize,
    /// The new tokens; not empty.
    pub(super) tokens: &'a [u32],
    /// Logits are wanted for the tokens from this one on.
    pub(super) logits_from: usize,
}

impl PackedGraph {
    /// Allocates and binds the buffers; says what is wrong with a graph of another form. No row of a run has more than
    /// `widest` tokens.
    pub(super) fn new(session: Session, slots: usize, context: usize, widest: usize) -> Result<Self, String> {
        let vocabulary = session
            .outputs()
            .iter()
            .find(|output| output.name == "logits")
            .and_then(|output| output.shape.last().copied().flatten())
            .ok_or("the output 'logits' with a known vocabulary is missing")?;
        for name in ["input_ids", "pad_index", "unpad_index", "logit_index", "seqlens_k", "total_sequence_length", "query_seqlens"] {
            if !session.inputs().iter().any(|input| input.name == name) {
                return Err(format!("the input '{name}' of a packed graph is missing"));
            }
        }
        let mut binding = Binding::new(&session).map_err(|error| error.to_string())?;
        let mut cache = Vec::new();
        for input in session.inputs().iter().filter(|input| input.name.starts_with(PAST)) {
            let &[_, Some(heads), _, Some(head_size)] = input.shape.as_slice() else {
                return Err(format!("the input '{}' is not [slots, heads, capacity, head size] with known heads", input.name));
            };
            // A row's padding must fit behind its tokens, even where those fill the context.
            let mut buffer = DeviceTensor::zeros(&[slots, heads, context + widest, head_size]).map_err(|error| error.to_string())?;
            let present = input.name.replace(PAST, "present.");
            binding.bind_in_place(&input.name, &present, &mut buffer).map_err(|error| error.to_string())?;
            cache.push(buffer);
        }
        if cache.is_empty() {
            return Err(format!("no input '{PAST}…' holds a key-value cache"));
        }
        Ok(Self { session, binding, _cache: cache, slots, vocabulary })
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    pub(super) fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Runs a prompt and a step, so that the first request finds memory and kernels ready.
    pub(super) fn warm_up(&mut self) -> Result<(), Error> {
        self.run(&[Row { slot: 0, past: 0, tokens: &[0, 0], logits_from: 1 }])?;
        self.run(&[Row { slot: 0, past: 2, tokens: &[0], logits_from: 0 }])?;
        Ok(())
    }

    /// Runs the rows, each in a slot of its own; the slots that are not named are idle. The logits come in the rows'
    /// order, those of a row together.
    pub(super) fn run(&mut self, rows: &[Row<'_>]) -> Result<Logits<'_>, Error> {
        // At a width of one the attention takes another path, and a step's bits would depend on its neighbours.
        let width = rows.iter().map(|row| row.tokens.len()).max().unwrap_or(0).max(2);
        let count = rows.iter().map(|row| row.tokens.len()).sum();
        let (mut ids, mut unpad, mut wanted) = (Vec::with_capacity(count), Vec::with_capacity(count), Vec::with_capacity(rows.len()));
        let mut pad = Array2::<i64>::zeros((self.slots, width));
        let mut lengths = Array1::<i32>::zeros(self.slots);
        let mut new = Array1::<i32>::zeros(self.slots);
        // The attention wants this at least as large as the padded width; an upper bound changes no bit.
        let mut longest = width;
        for row in rows {
            for (position, token) in row.tokens.iter().enumerate() {
                let index = ids.len() as i64;
                if let Some(place) = pad.get_mut((row.slot, position)) {
                    *place = index;
                }
                if position >= row.logits_from {
                    wanted.push(index);
                }
                unpad.push((row.slot * width + position) as i64);
                ids.push(i64::from(*token));
            }
            let total = row.past + row.tokens.len();
            longest = longest.max(total);
            if let (Some(length), Some(count)) = (lengths.get_mut(row.slot), new.get_mut(row.slot)) {
                *length = total as i32 - 1;
                *count = row.tokens.len() as i32;
            }
        }
        let bind = &mut self.binding;
        bind.bind_input("input_ids", Tensor::I64(Array1::from(ids).into_dyn()))?;
        bind.bind_input("pad_index", Tensor::I64(pad.into_dyn()))?;
        bind.bind_input("unpad_index", Tensor::I64(Array1::from(unpad).into_dyn()))?;
        bind.bind_input("logit_index", Tensor::I64(Array1::from(wanted).into_dyn()))?;
        bind.bind_input("seqlens_k", Tensor::I32(lengths.into_dyn()))?;
        bind.bind_input("total_sequence_length", Tensor::I32(ArrayD::from_elem(ndarray::IxDyn(&[]), longest as i32)))?;
        bind.bind_input("query_seqlens", Tensor::I32(new.into_dyn()))?;
        // Bound anew each time: the runtime would keep the last run's tensor, of as many rows as that had.
        bind.bind_output("logits")?;
        self.binding.run(&mut self.session).map(Logits)
    }
}

/// The logits of a run.
pub(super) struct Logits<'a>(Outputs<'a>);

impl Logits<'_> {
    /// Calls `each` with every row of logits, in order.
    pub(super) fn rows(&self, mut each: impl FnMut(&[f32])) -> Result<(), Error> {
        let logits = self.0.f32("logits")?;
        for row in logits.rows() {
            each(row.as_slice().unwrap_or_default());
        }
        Ok(())
    }
}
