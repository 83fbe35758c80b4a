mod plane;
#[cfg(test)]
mod tests;

use std::{
    cell::OnceCell,
    collections::{HashMap, hash_map::Entry},
    ops::Range,
};

use ndarray::ArrayViewD;

use crate::{
    Error, Outputs, Session, Tensor, TensorInfo,
    binding::Binding,
    memory::{Blocks, Memory},
    recording::{Outlet, Recording},
};
use plane::{PAST, Plane, PlaneShape, row_bytes};

/// A decoder's key–value cache: rows of up to `capacity` tokens, and the graphs that read and write them.
///
/// A graph sees its rows as one tensor `[rows, heads, capacity, head size]` for the keys and one for the values of each layer,
/// bound as past and as present, so that it writes in place and nothing is copied. A run sees any rows that lie side by side.
///
/// The memory is reserved whole and committed by the system page by page as tokens are written: what a row costs is what it
/// has held, not its capacity. [`Self::release`] and [`Self::trim`] give a row's memory back. On a GPU it is the GPU's memory, all of it
/// at once.
#[derive(Debug)]
pub struct KvCache {
    // Before the memory: bindings point into it, and fields are dropped in order.
    graphs: Vec<Attached>,
    memory: Memory,
    planes: Vec<Plane>,
    rows: usize,
    capacity: usize,
    /// The most tokens that each row has held since it was released or trimmed.
    held: Vec<usize>,
    /// Of an encoder–decoder, the keys and values of the inputs: rows as many, of a capacity of their own. No graph is attached to it
    /// but through this cache, which drops it last.
    inputs: Option<Box<Self>>,
    /// Why what it holds is not to be trusted any more: a copy on a GPU failed. Every later run fails with it.
    fault: OnceCell<String>,
}

/// A graph that is attached to a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Graph(usize);

#[derive(Debug)]
struct Attached {
    binding: Binding,
    /// The rows that are bound.
    rows: Range<usize>,
    /// On a GPU, by how many of the first rows they are over.
    recordings: HashMap<usize, Recording>,
    outlet: Option<Outlet>,
}

/// What a run over a cache gave beside it. It can be looked at and not be taken away: some of it lies in the cache's memory.
#[derive(Debug)]
pub struct CacheOutputs<'a>(Outputs<'a>);

impl CacheOutputs<'_> {
    /// An output of 32-bit floats, without a copy.
    pub fn f32(&self, name: &str) -> Result<ArrayViewD<'_, f32>, Error> {
        self.0.f32(name)
    }
}

/// Where a cache lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CachePlace {
    /// In this process's memory.
    Host,
    /// In a GPU's, whose memory is taken whole: there are only as many rows as `bytes` have room for, and one at least.
    Gpu {
        /// The GPU's index.
        index: u16,
        /// How much it may take.
        bytes: usize,
    },
}

impl CachePlace {
    /// How many of the wanted rows there are.
    fn rows(self, wanted: usize, row_bytes: usize) -> usize {
        match self {
            Self::Host => wanted,
            Self::Gpu { bytes, .. } => wanted.min(bytes / row_bytes.max(1)).max(1),
        }
    }

    fn gpu(self) -> Option<u16> {
        match self {
            Self::Host => None,
            Self::Gpu { index, .. } => Some(index),
        }
    }
}

/// What stands in the names of those that hold an encoder's input.
const INPUTS: &str = ".encoder.";

const PAGE: usize = 4096;

impl KvCache {
    /// A cache for the inputs `past_key_values.…` of a graph. Where the graph leaves the size of its heads open, it is `head_size`.
    pub fn new(session: &Session, rows: usize, capacity: usize, head_size: Option<usize>, place: CachePlace) -> Result<Self, Error> {
        let shapes = PlaneShape::all(session, head_size, |name| !name.contains(INPUTS))?;
        let rows = place.rows(rows, row_bytes(&shapes, capacity));
        Self::of(shapes, rows, capacity, place)
    }

    /// The same for a graph of an encoder–decoder, with rows of `input_capacity` tokens for its `past_key_values.N.encoder.…`.
    pub fn with_inputs(session: &Session, rows: usize, capacity: usize, input_capacity: usize, place: CachePlace) -> Result<Self, Error> {
        let own = PlaneShape::all(session, None, |name| !name.contains(INPUTS))?;
        let inputs = PlaneShape::all(session, None, |name| name.contains(INPUTS))?;
        let rows = place.rows(rows, row_bytes(&own, capacity).saturating_add(row_bytes(&inputs, input_capacity)));
        let inputs = Self::of(inputs, rows, input_capacity, place)?;
        Ok(Self { inputs: Some(Box::new(inputs)), ..Self::of(own, rows, capacity, place)? })
    }

    /// The bytes of a token's keys and values in a cache that [`Self::new`] would give.
    pub fn token_bytes_of(session: &Session, head_size: Option<usize>) -> Result<usize, Error> {
        let shapes = PlaneShape::all(session, head_size, |name| !name.contains(INPUTS))?;
        Ok(row_bytes(&shapes, 1))
    }

    fn of(shapes: Vec<PlaneShape>, rows: usize, capacity: usize, place: CachePlace) -> Result<Self, Error> {
        let mut planes: Vec<Plane> = Vec::new();
        let mut end = 0usize;
        for shape in shapes {
            // Those of the same shape lie side by side, so that a token's are copied at once; others begin on a page of their own.
            if planes.last().is_some_and(|last| !last.shape.is_like(&shape)) {
                end = end.next_multiple_of(PAGE);
            }
            let bytes = shape.token_bytes().checked_mul(capacity).and_then(|bytes| bytes.checked_mul(rows)).filter(|bytes| *bytes > 0);
            let after = bytes.and_then(|bytes| end.checked_add(bytes)).filter(|end| *end < usize::MAX / 2);
            let after = after.ok_or_else(|| Error::tensor(&shape.input, "its size is not a number of bytes"))?;
            planes.push(Plane { shape, start: end });
            end = after;
        }
        let memory = Memory::new(end, place.gpu()).map_err(|reason| Error::tensor(format!("{PAST}…"), reason))?;
        Ok(Self { graphs: Vec::new(), memory, planes, rows, capacity, held: vec![0; rows], inputs: None, fault: OnceCell::new() })
    }

    /// Attaches a graph that reads and writes this cache.
    pub fn attach(&mut self, session: &Session) -> Result<Graph, Error> {
        for plane in self.planes.iter().chain(self.inputs.iter().flat_map(|inputs| &inputs.planes)) {
            let fits = |info: &&TensorInfo| info.name == plane.shape.input && info.element == plane.shape.element;
            if !session.inputs().iter().any(|info| fits(&info)) {
                return Err(Error::tensor(&plane.shape.input, "the graph has no such input of this type"));
            }
        }
        self.graphs.push(Attached { binding: Binding::new(session)?, rows: 0..0, recordings: HashMap::new(), outlet: None });
        Ok(Graph(self.graphs.len() - 1))
    }

    /// Binds another input of a graph to the values that a tensor has now.
    pub fn bind_input(&mut self, graph: Graph, name: &str, tensor: Tensor) -> Result<(), Error> {
        self.attached(graph)?.binding.bind_input(name, tensor)
    }

    /// Lets the runtime allocate another output.
    pub fn bind_output(&mut self, graph: Graph, name: &str) -> Result<(), Error> {
        self.attached(graph)?.binding.bind_output(name)
    }

    /// Runs a graph over these rows. The caller says what the rows hold afterwards: see [`Self::hold`].
    pub fn run<'a>(&'a mut self, graph: Graph, session: &'a mut Session, rows: Range<usize>) -> Result<CacheOutputs<'a>, Error> {
        if rows.is_empty() || rows.end > self.rows {
            return Err(Error::tensor("rows", format!("{rows:?}: the cache has {}", self.rows)));
        }
        self.trusted()?;
        let attached = self.graphs.get_mut(graph.0).ok_or_else(|| Error::tensor("graph", "it is not attached"))?;
        if attached.rows != rows {
            bind_rows(&mut self.memory, &self.planes, rows.clone(), self.capacity, &mut attached.binding)?;
            if let Some(inputs) = &mut self.inputs {
                bind_rows(&mut inputs.memory, &inputs.planes, rows.clone(), inputs.capacity, &mut attached.binding)?;
            }
            attached.rows = rows;
        }
        attached.binding.run(session).map(CacheOutputs)
    }

    /// Runs a graph over the first `rows` rows as a recording, and gives the output of this name, `[rows, width]`. The session records
    /// ([`Session::records`]), all other inputs are given, of the same shapes each time, and those of no dimension of the same value.
    pub fn play<'a>(
        &'a mut self,
        graph: Graph,
        session: &mut Session,
        rows: usize,
        inputs: &[(&str, Tensor)],
        (output, width): (&str, usize),
    ) -> Result<&'a [f32], Error> {
        self.trusted()?;
        let attached = self.graphs.get_mut(graph.0).ok_or_else(|| Error::tensor("graph", "it is not attached"))?;
        let gpu = session.gpu().filter(|_| session.records() && (1..=self.rows).contains(&rows));
        let gpu = gpu.ok_or_else(|| Error::tensor("rows", format!("{rows}: the session does not record, or the cache has {}", self.rows)))?;
        let outlet = match &mut attached.outlet {
            Some(outlet) => outlet,
            none => none.insert(Outlet::new(gpu, self.rows * width)?),
        };
        let recording = match attached.recordings.entry(rows) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let mut recording = Recording::new(session, rows, gpu, inputs, (output, [rows, width]), outlet)?;
                bind_rows(&mut self.memory, &self.planes, 0..rows, self.capacity, recording.binding())?;
                if let Some(inputs) = &mut self.inputs {
                    bind_rows(&mut inputs.memory, &inputs.planes, 0..rows, inputs.capacity, recording.binding())?;
                }
                entry.insert(recording)
            }
        };
        recording.play(session, inputs, outlet)
    }

    fn trusted(&self) -> Result<(), Error> {
        match self.fault.get().or_else(|| self.inputs.as_ref()?.fault.get()) {
            Some(fault) => Err(Error::Runtime { doing: "copy keys and values".to_owned(), message: fault.clone() }),
            None => Ok(()),
        }
    }

    fn attached(&mut self, graph: Graph) -> Result<&mut Attached, Error> {
        self.graphs.get_mut(graph.0).ok_or_else(|| Error::tensor("graph", "it is not attached"))
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The most tokens of a row.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The bytes of a token's keys and values.
    pub fn token_bytes(&self) -> usize {
        self.planes.iter().map(|plane| plane.shape.token_bytes()).sum()
    }

    /// Notes that a row holds so many tokens now.
    pub fn hold(&mut self, row: usize, tokens: usize) {
        if let Some(held) = self.held.get_mut(row) {
            *held = tokens.max(*held);
        }
    }

    /// The tokens whose memory is committed, in all rows together.
    pub fn committed_tokens(&self) -> usize {
        self.held.iter().sum()
    }

    /// The tokens whose memory is committed in a row.
    pub fn committed(&self, row: usize) -> usize {
        self.held.get(row).copied().unwrap_or(0)
    }

    /// The bytes whose memory is committed, in all rows together, those of the inputs among them.
    pub fn committed_bytes(&self) -> usize {
        self.committed_tokens() * self.token_bytes() + self.inputs.as_ref().map_or(0, |inputs| inputs.committed_bytes())
    }

    /// The bytes that an input's token takes.
    pub fn input_token_bytes(&self) -> usize {
        self.inputs.as_ref().map_or(0, |inputs| inputs.token_bytes())
    }

    /// The input's tokens whose memory is committed in a row.
    pub fn committed_input(&self, row: usize) -> usize {
        self.inputs.as_ref().map_or(0, |inputs| inputs.committed(row))
    }

    /// Keeps an input's keys and values in a row, as an encoder gave them: `present.N.encoder.…`, `[1, heads, tokens, head size]`.
    /// Graphs write one token more behind them.
    pub fn keep_input(&mut self, row: usize, tokens: usize, outputs: &Outputs<'_>) -> Result<(), Error> {
        let inputs = self.inputs.as_mut().ok_or_else(|| Error::tensor(format!("{PAST}…{INPUTS}…"), "the cache keeps no inputs"))?;
        if tokens >= inputs.capacity {
            return Err(Error::tensor("input_ids", format!("{tokens} tokens: the cache has room for {}", inputs.capacity - 1)));
        }
        inputs.keep(row, 0, tokens, outputs)?;
        inputs.hold(row, tokens + 1);
        Ok(())
    }

    /// Copies a row's input of so many tokens to another row.
    pub fn copy_input(&mut self, from: usize, to: usize, tokens: usize) {
        if let Some(inputs) = &mut self.inputs {
            inputs.copy_row(from, to, tokens);
            inputs.hold(to, tokens + 1);
        }
    }

    /// Gives a row's memory back to the system. What it held is lost.
    pub fn release(&mut self, row: usize) {
        if let Some(inputs) = &mut self.inputs {
            inputs.release(row);
        }
        let Some(held) = self.held.get_mut(row).filter(|held| **held > 0) else { return };
        *held = 0;
        for plane in &self.planes {
            self.memory.give_back(plane.rows(row..row + 1, self.capacity));
        }
    }

    /// Gives what a row holds behind its first `tokens` tokens back to the system, as far as that is whole pages. What it held there is
    /// lost.
    pub fn trim(&mut self, row: usize, tokens: usize) {
        let Some(held) = self.held.get_mut(row).filter(|held| **held > tokens) else { return };
        *held = tokens;
        for plane in &self.planes {
            let heads = plane.tokens(row, tokens..self.capacity, self.capacity);
            for head in 0..heads.count {
                let start = heads.start + head * heads.stride;
                self.memory.give_back(start..start + heads.length);
            }
        }
    }

    /// The same for what a row holds behind an input of so many tokens and the one that graphs write there.
    pub fn trim_input(&mut self, row: usize, tokens: usize) {
        if let Some(inputs) = &mut self.inputs {
            inputs.trim(row, tokens + 1);
        }
    }

    /// Copies the first `tokens` tokens of a row to another.
    pub fn copy_row(&mut self, from: usize, to: usize, tokens: usize) {
        if from == to || from >= self.rows || to >= self.rows || tokens > self.capacity {
            return;
        }
        for (from, to) in self.tokens(from, 0..tokens).into_iter().zip(self.tokens(to, 0..tokens)) {
            note(&self.fault, self.memory.copy(from, to));
        }
        self.hold(to, tokens);
    }

    /// The keys and values of these tokens of a row: for each layer's keys and values and each head the tokens one after the
    /// other.
    pub fn read(&self, row: usize, tokens: Range<usize>) -> Vec<u8> {
        let mut bytes = vec![0; tokens.len() * self.token_bytes()];
        let mut rest = bytes.as_mut_slice();
        for blocks in self.tokens(row, tokens) {
            let Some((part, left)) = rest.split_at_mut_checked(blocks.bytes()) else { break };
            note(&self.fault, self.memory.read(blocks, part));
            rest = left;
        }
        bytes
    }

    /// Writes what [`Self::read`] gave into a row, from the token `at` on. The tokens must fit the row.
    pub fn write(&mut self, row: usize, at: usize, bytes: &[u8]) {
        let tokens = bytes.len() / self.token_bytes();
        if row >= self.rows || at + tokens > self.capacity {
            return;
        }
        let mut rest = bytes;
        for blocks in self.tokens(row, at..at + tokens) {
            let Some((part, left)) = rest.split_at_checked(blocks.bytes()) else { return };
            note(&self.fault, self.memory.write(blocks, part));
            rest = left;
        }
        self.hold(row, at + tokens);
    }

    /// The inputs' names with a tensor of each one's first `tokens` tokens of a row, `[1, heads, tokens, head size]`: for graphs
    /// that take the past as it is and give a longer present.
    pub fn past(&self, row: usize, tokens: usize) -> Result<Vec<(&str, Tensor)>, Error> {
        let tensor = |plane: &Plane| {
            let shape = &plane.shape;
            let mut bytes = vec![0; tokens * shape.token_bytes()];
            note(&self.fault, self.memory.read(plane.tokens(row, 0..tokens, self.capacity), &mut bytes));
            Tensor::from_le_bytes(&shape.input, shape.element, &[1, shape.heads, tokens, shape.head_size], &bytes)
        };
        self.planes.iter().map(|plane| Ok((plane.shape.input.as_str(), tensor(plane)?))).collect()
    }

    /// Takes the tokens from `past` on from the presents `[1, heads, past + new, head size]` that such a graph gave.
    pub fn keep(&mut self, row: usize, past: usize, new: usize, outputs: &Outputs<'_>) -> Result<(), Error> {
        for plane in &self.planes {
            let (element, shape, bytes) = outputs.le_bytes(&plane.shape.output)?;
            let expected = [1, plane.shape.heads, past + new, plane.shape.head_size];
            if element != plane.shape.element || shape != expected || past + new > self.capacity {
                return Err(Error::tensor(&plane.shape.output, format!("{shape:?}: it is not the past with {new} tokens behind {past}")));
            }
            let token = plane.shape.head_size * element.size();
            let fresh: Vec<u8> = bytes.chunks_exact((past + new) * token).flat_map(|head| head.iter().skip(past * token).copied()).collect();
            note(&self.fault, self.memory.write(plane.tokens(row, past..past + new, self.capacity), &fresh));
        }
        self.hold(row, past + new);
        Ok(())
    }

    /// Where these tokens of a row lie in all planes, in their order: for planes of one shape at once.
    fn tokens(&self, row: usize, tokens: Range<usize>) -> Vec<Blocks> {
        let alike = self.planes.chunk_by(|a, b| a.shape.is_like(&b.shape));
        let blocks = alike.filter_map(|planes| {
            let first = planes.first()?;
            let layer_stride = first.row_bytes(self.capacity) * self.rows;
            Some(Blocks { layer_stride, layers: planes.len(), ..first.tokens(row, tokens.clone(), self.capacity) })
        });
        blocks.collect()
    }
}

/// Binds rows of each plane as past and as present. The binding is freed before the memory, and runs only in functions of the cache,
/// which have it to themselves.
fn bind_rows(memory: &mut Memory, planes: &[Plane], rows: Range<usize>, capacity: usize, binding: &mut Binding) -> Result<(), Error> {
    for plane in planes {
        let shape = [rows.len(), plane.shape.heads, capacity, plane.shape.head_size];
        let tensor = memory.tensor(plane.shape.element, &shape, plane.rows(rows.clone(), capacity));
        binding.bind_in_place(&plane.shape.input, &plane.shape.output, tensor.map_err(Error::runtime("bind a cache"))?)?;
    }
    Ok(())
}

/// Keeps the first fault of a copy for the next run, which fails with it.
fn note(fault: &OnceCell<String>, copied: Result<(), String>) {
    if let Err(error) = copied {
        tracing::error!(error, "keys and values cannot be copied");
        let _ = fault.set(error);
    }
}
