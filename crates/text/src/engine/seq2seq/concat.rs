use std::{collections::BTreeMap, sync::Arc};

use ndarray::{Array1, Array2, ArrayD};
use quintet_onnx::{ElementType, Error, Input, ModelFolder, Outputs, Runtime, Session, Tensor, TensorInfo, Value};

use super::{
    files::Files,
    graphs::{Place, vocabulary},
};

/// Graphs of form "concat": the past is given and comes out longer. Rows are run one at a time, and hold what the runtime gave.
pub(super) struct Concat {
    encoder: Session,
    /// What takes the first step, and all of them where there is no other.
    decoder: Session,
    with_past: Option<Session>,
    rows: Vec<Held>,
    vocabulary: usize,
    /// The bytes of a token of a text, and of an input.
    text_bytes: usize,
    input_bytes: usize,
}

/// What a row holds. Rows share it: nothing in it is ever changed.
#[derive(Clone, Default)]
struct Held {
    input: Option<Arc<Encoded>>,
    /// The input's keys and values, by what stands behind `present.`: those of the first step, where the encoder gives none.
    cross: Arc<BTreeMap<String, Value>>,
    text: Arc<BTreeMap<String, Value>>,
    /// Tokens of the text.
    tokens: usize,
}

/// What an encoder gives of an input.
struct Encoded {
    tokens: usize,
    /// The last hidden state, of encoders that give that and no keys and values.
    hidden: Option<Value>,
}

const PAST: &str = "past_key_values.";
const PRESENT: &str = "present.";
const HIDDEN: &str = "last_hidden_state";

impl Concat {
    pub(super) fn open(folder: &ModelFolder, files: &Files, runtime: &Runtime, verify: bool, rows: usize) -> Result<Self, Error> {
        let open = |file: &str| Session::of(folder, file, runtime, verify);
        let (encoder, decoder) = (open(&files.encoder)?, open(&files.decoder)?);
        let with_past = files.decoder_with_past.as_deref().map(open).transpose()?;
        let steps = with_past.as_ref().unwrap_or(&decoder);
        let bytes = |is_input: bool| {
            let pasts = steps.inputs().iter().filter(|input| input.name.starts_with(PAST) && input.name.contains(".encoder.") == is_input);
            pasts.map(token_bytes).sum()
        };
        let (text_bytes, input_bytes) = (bytes(false), bytes(true));
        if text_bytes == 0 {
            return Err(folder.broken(steps.graph(), format!("it has no inputs '{PAST}N.decoder…': a decoder without a past is not supported")));
        }
        let vocabulary = vocabulary(folder, &decoder)?;
        Ok(Self { encoder, decoder, with_past, rows: vec![Held::default(); rows], vocabulary, text_bytes, input_bytes })
    }

    pub(super) fn encode(&mut self, row: usize, input: &[u32]) -> Result<(), Error> {
        let ids = ids(input.iter().copied());
        let mask = mask(input.len());
        let takes_mask = self.encoder.inputs().iter().any(|input| input.name == "attention_mask");
        let mut inputs = vec![("input_ids", &ids)];
        inputs.extend(takes_mask.then_some(("attention_mask", &mask)));
        let names: Vec<String> = self.encoder.outputs().iter().map(|output| output.name.clone()).collect();
        let mut outputs = self.encoder.run(&inputs)?;
        let cross = presents(&names, &mut outputs, |_| true)?;
        let hidden = if cross.is_empty() { Some(outputs.take(HIDDEN)?) } else { None };
        drop(outputs);
        let held = Held { input: Some(Arc::new(Encoded { tokens: input.len(), hidden })), cross: Arc::new(cross), ..Held::default() };
        self.hold(row, held);
        Ok(())
    }

    pub(super) fn step(&mut self, places: &[Place], mut each: impl FnMut(usize, &[f32])) -> Result<(), Error> {
        for (row, place) in places.iter().enumerate() {
            let logits = self.run(row, *place)?;
            each(row, &logits);
        }
        Ok(())
    }

    fn run(&mut self, row: usize, place: Place) -> Result<Vec<f32>, Error> {
        let held = self.rows.get(row).cloned().unwrap_or_default();
        let is_first = place.past == 0;
        let session = if is_first { &mut self.decoder } else { self.with_past.as_mut().unwrap_or(&mut self.decoder) };
        let (ids, mask) = (ids([place.token]), mask(place.input));
        let branch = Tensor::Bool(Array1::from_elem(1, !is_first).into_dyn());
        let infos = session.inputs().to_vec();
        let empty: BTreeMap<&str, Tensor> = infos
            .iter()
            .filter(|info| info.name.starts_with(PAST))
            .map(|info| Ok((info.name.as_str(), nothing(info)?)))
            .collect::<Result<_, Error>>()?;
        let mut inputs = Vec::with_capacity(infos.len());
        for info in &infos {
            let name = info.name.as_str();
            let input = match name {
                "input_ids" | "decoder_input_ids" => Input::Tensor(&ids),
                "encoder_attention_mask" => Input::Tensor(&mask),
                "use_cache_branch" => Input::Tensor(&branch),
                "encoder_hidden_states" => {
                    let hidden = held.input.as_ref().and_then(|input| input.hidden.as_ref());
                    Input::Value(hidden.ok_or_else(|| Error::tensor(HIDDEN, "the encoder does not give it"))?)
                }
                _ => {
                    let rest = name.strip_prefix(PAST).ok_or_else(|| Error::tensor(name, "graphs of form \"concat\" have no such input"))?;
                    match held.text.get(rest).or_else(|| held.cross.get(rest)) {
                        Some(value) => Input::Value(value),
                        None => Input::Tensor(empty.get(name).ok_or_else(|| Error::tensor(name, "it is missing"))?),
                    }
                }
            };
            inputs.push((name, input));
        }
        let names: Vec<String> = session.outputs().iter().map(|output| output.name.clone()).collect();
        let mut outputs = session.run_mixed(&inputs)?;
        let logits = outputs.f32("logits")?.rows().into_iter().last().map(|row| row.to_vec()).unwrap_or_default();
        let text = presents(&names, &mut outputs, |name| !name.contains(".encoder."))?;
        // Later steps give nothing, or tensors of nothing.
        let cross = if held.cross.is_empty() {
            Arc::new(presents(&names, &mut outputs, |name| name.contains(".encoder."))?)
        } else {
            Arc::clone(&held.cross)
        };
        drop(outputs);
        let held = Held { input: held.input.clone(), cross, text: Arc::new(text), tokens: place.past + 1 };
        self.hold(row, held);
        Ok(logits)
    }

    fn hold(&mut self, row: usize, held: Held) {
        if let Some(place) = self.rows.get_mut(row) {
            *place = held;
        }
    }

    pub(super) fn copy_text(&mut self, from: usize, to: usize) {
        let Some(Held { text, tokens, cross, .. }) = self.rows.get(from).cloned() else { return };
        if let Some(target) = self.rows.get_mut(to) {
            *target = Held { text, tokens, cross, input: target.input.clone() };
        }
    }

    pub(super) fn copy_input(&mut self, from: usize, to: usize) {
        let Some(Held { input, cross, .. }) = self.rows.get(from).cloned() else { return };
        self.hold(to, Held { input, cross, ..Held::default() });
    }

    pub(super) fn release(&mut self, row: usize) {
        self.hold(row, Held::default());
    }

    pub(super) fn held_bytes(&self) -> usize {
        (0..self.rows.len()).map(|row| self.held_by(row)).sum()
    }

    pub(super) fn held_by(&self, row: usize) -> usize {
        let held = self.rows.get(row);
        held.map_or(0, |held| self.bytes(held.input.as_ref().map_or(0, |input| input.tokens), held.tokens))
    }

    pub(super) fn bytes(&self, input: usize, text: usize) -> usize {
        input * self.input_bytes + text * self.text_bytes
    }

    pub(super) fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    pub(super) fn sessions(&self) -> Vec<&Session> {
        [&self.encoder, &self.decoder].into_iter().chain(&self.with_past).collect()
    }

    pub(super) fn session_mut(&mut self, at: usize) -> Option<&mut Session> {
        [&mut self.encoder, &mut self.decoder].into_iter().chain(&mut self.with_past).nth(at)
    }
}

fn ids(tokens: impl IntoIterator<Item = u32>) -> Tensor {
    row(tokens.into_iter().map(i64::from).collect())
}

fn mask(tokens: usize) -> Tensor {
    row(vec![1; tokens])
}

fn row(values: Vec<i64>) -> Tensor {
    Tensor::I64(Array2::from_shape_vec((1, values.len()), values).unwrap_or_default().into_dyn())
}

/// A past of no tokens: `[1, heads, 0, head size]`.
fn nothing(info: &TensorInfo) -> Result<Tensor, Error> {
    let &[_, Some(heads), _, Some(size)] = info.shape.as_slice() else {
        return Err(Error::tensor(&info.name, "it is not [rows, heads, tokens, head size] with known heads"));
    };
    match info.element {
        ElementType::F32 => Ok(Tensor::F32(ArrayD::zeros(vec![1, heads, 0, size]))),
        ElementType::F16 => Ok(Tensor::F16(ArrayD::from_shape_vec(vec![1, heads, 0, size], Vec::new()).unwrap_or_default())),
        other => Err(Error::tensor(&info.name, format!("a past of {other:?} is not supported: F32 and F16 are"))),
    }
}

fn token_bytes(info: &TensorInfo) -> usize {
    match info.shape.as_slice() {
        &[_, Some(heads), _, Some(size)] => heads * size * info.element.size(),
        _ => 0,
    }
}

/// Takes the outputs `present.…` whose rest is wanted.
fn presents(names: &[String], outputs: &mut Outputs<'_>, wanted: fn(&str) -> bool) -> Result<BTreeMap<String, Value>, Error> {
    let presents = names.iter().filter_map(|name| Some((name, name.strip_prefix(PRESENT)?))).filter(|(_, rest)| wanted(rest));
    presents.map(|(name, rest)| Ok((rest.to_owned(), outputs.take(name)?))).collect()
}
