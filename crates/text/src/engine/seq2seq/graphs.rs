use quintet_onnx::{Error, GraphInfo, ModelFolder, Runtime, Session};

use super::{
    concat::Concat,
    files::{Files, Form},
    shape::ModelShape,
    slots::Slots,
};

/// The place of the step's graph among [`Graphs::infos`].
pub(super) const STEP: usize = 1;

/// A text in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The token to run.
    pub(super) token: u32,
    /// The tokens that its row holds already.
    pub(super) past: usize,
    /// The tokens of its input.
    pub(super) input: usize,
}

/// An encoder–decoder's graphs, and the rows in which they keep texts and inputs.
pub(super) enum Graphs {
    Slots(Box<Slots>),
    Concat(Box<Concat>),
}

impl Graphs {
    /// Opens the graphs; says what is wrong with graphs of another form.
    pub(super) fn open(folder: &ModelFolder, files: &Files, runtime: &Runtime, verify: bool, rows: usize, shape: &ModelShape) -> Result<Self, Error> {
        let verify = verify && !folder.is_bare();
        let mut graphs = match files.form {
            Form::Slots => Self::Slots(Box::new(Slots::open(folder, files, runtime, verify, rows, shape.max_tokens)?)),
            Form::Concat => Self::Concat(Box::new(Concat::open(folder, files, runtime, verify, rows)?)),
        };
        graphs.warm_up(shape.start)?;
        Ok(graphs)
    }

    /// Runs an input and two steps, so that the first request finds memory and kernels ready.
    fn warm_up(&mut self, start: u32) -> Result<(), Error> {
        self.encode(0, &[start, start])?;
        for past in 0..2 {
            self.step(&[Place { token: start, past, input: 2 }], |_, _| ())?;
        }
        self.release(0);
        Ok(())
    }

    /// Runs an input and keeps what it gives in a row, which holds no text then.
    pub(super) fn encode(&mut self, row: usize, input: &[u32]) -> Result<(), Error> {
        match self {
            Self::Slots(slots) => slots.encode(row, input),
            Self::Concat(concat) => concat.encode(row, input),
        }
    }

    /// Runs a token in each of the first rows, and calls `each` with every row's logits.
    pub(super) fn step(&mut self, places: &[Place], each: impl FnMut(usize, &[f32])) -> Result<(), Error> {
        match self {
            Self::Slots(slots) => slots.step(places, each),
            Self::Concat(concat) => concat.step(places, each),
        }
    }

    /// Copies a row's text of so many tokens to another row.
    pub(super) fn copy_text(&mut self, from: usize, to: usize, tokens: usize) {
        match self {
            Self::Slots(slots) => slots.cache_mut().copy_row(from, to, tokens),
            Self::Concat(concat) => concat.copy_text(from, to),
        }
    }

    /// Copies a row's input of so many tokens to another row.
    pub(super) fn copy_input(&mut self, from: usize, to: usize, tokens: usize) {
        match self {
            Self::Slots(slots) => slots.cache_mut().copy_input(from, to, tokens),
            Self::Concat(concat) => concat.copy_input(from, to),
        }
    }

    /// Gives a row's memory back.
    pub(super) fn release(&mut self, row: usize) {
        match self {
            Self::Slots(slots) => slots.cache_mut().release(row),
            Self::Concat(concat) => concat.release(row),
        }
    }

    /// Gives back what a row holds behind an input and a text of so many tokens: what earlier ones left there.
    pub(super) fn trim(&mut self, row: usize, input: usize, text: usize) {
        match self {
            Self::Slots(slots) => {
                slots.cache_mut().trim(row, text);
                slots.cache_mut().trim_input(row, input);
            }
            // Its rows hold what they are given and nothing older.
            Self::Concat(_) => (),
        }
    }

    /// The bytes that rows hold, those of texts that have left among them until their memory is given back.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Slots(slots) => slots.cache().committed_bytes(),
            Self::Concat(concat) => concat.held_bytes(),
        }
    }

    /// The bytes that a row holds.
    pub(super) fn held_by(&self, row: usize) -> usize {
        match self {
            Self::Slots(slots) => {
                let cache = slots.cache();
                cache.committed(row) * cache.token_bytes() + cache.committed_input(row) * cache.input_token_bytes()
            }
            Self::Concat(concat) => concat.held_by(row),
        }
    }

    /// The bytes that an input and a text of so many tokens take.
    pub(super) fn bytes(&self, input: usize, text: usize) -> usize {
        match self {
            // The token behind the input is the one that each step writes over.
            Self::Slots(slots) => (input + 1) * slots.cache().input_token_bytes() + text * slots.cache().token_bytes(),
            Self::Concat(concat) => concat.bytes(input, text),
        }
    }

    /// How many tokens it gives logits for.
    pub(super) fn vocabulary(&self) -> usize {
        match self {
            Self::Slots(slots) => slots.vocabulary(),
            Self::Concat(concat) => concat.vocabulary(),
        }
    }

    /// What the graphs say of themselves: the encoder, the step, and others.
    pub(super) fn infos(&self) -> Vec<GraphInfo> {
        let sessions = match self {
            Self::Slots(slots) => slots.sessions(),
            Self::Concat(concat) => concat.sessions(),
        };
        sessions.into_iter().map(Session::info).collect()
    }

    /// The graph at this place among them.
    pub(super) fn session_mut(&mut self, at: usize) -> Option<&mut Session> {
        match self {
            Self::Slots(slots) => slots.session_mut(at),
            Self::Concat(concat) => concat.session_mut(at),
        }
    }
}

/// The size of the vocabulary that a graph gives logits for.
pub(super) fn vocabulary(folder: &ModelFolder, session: &Session) -> Result<usize, Error> {
    let logits = session.outputs().iter().find(|output| output.name == "logits");
    let vocabulary = logits.and_then(|output| output.shape.last().copied().flatten());
    vocabulary.ok_or_else(|| folder.broken(session.graph(), "the output 'logits' with a known vocabulary is missing".to_owned()))
}
