use std::ops::Range;

use memmap2::{MmapMut, MmapOptions};
use ndarray::ArrayViewD;

use crate::{ElementType, Error, Outputs, Session, Tensor, binding::Binding, native};

/// A decoder's key–value cache: rows of up to `capacity` tokens, and the graphs that read and write them.
///
/// A graph sees its rows as one tensor `[rows, heads, capacity, head size]` for the keys and one for the values of each layer,
/// bound as past and as present, so that it writes in place and nothing is copied. A run sees any rows that lie side by side.
///
/// The memory is reserved whole and committed by the system page by page as tokens are written: what a row costs is what it
/// has held, not its capacity. [`Self::release`] gives a row's memory back.
#[derive(Debug)]
pub struct KvCache {
    // Before the memory: bindings point into it, and fields are dropped in order.
    graphs: Vec<Attached>,
    planes: Vec<Plane>,
    rows: usize,
    capacity: usize,
    /// The most tokens that each row has held since it was released.
    held: Vec<usize>,
}

/// A graph that is attached to a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Graph(usize);

#[derive(Debug)]
struct Attached {
    binding: Binding,
    /// The rows that are bound.
    rows: Range<usize>,
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

/// The keys or the values of one layer.
#[derive(Debug)]
struct Plane {
    input: String,
    output: String,
    heads: usize,
    head_size: usize,
    element: ElementType,
    memory: MmapMut,
}

/// The prefix of the inputs, and what stands in its place in the outputs.
const PAST: &str = "past_key_values.";
const PRESENT: &str = "present.";

impl KvCache {
    /// A cache for the inputs `past_key_values.…` of a graph. Where the graph leaves the size of its heads open, it is `head_size`.
    pub fn new(session: &Session, rows: usize, capacity: usize, head_size: Option<usize>) -> Result<Self, Error> {
        let mut planes = Vec::new();
        for input in session.inputs().iter().filter(|input| input.name.starts_with(PAST)) {
            let &[_, Some(heads), _, size] = input.shape.as_slice() else {
                return Err(Error::tensor(&input.name, "it is not [rows, heads, tokens, head size] with known heads"));
            };
            let head_size = size.or(head_size).ok_or_else(|| Error::tensor(&input.name, "nothing says how large its heads are"))?;
            if !matches!(input.element, ElementType::F32 | ElementType::F16) {
                return Err(Error::tensor(&input.name, format!("a cache of {:?} is not supported: F32 and F16 are", input.element)));
            }
            let bytes = [rows, heads, capacity, head_size].iter().try_fold(input.element.size(), |bytes, size| bytes.checked_mul(*size));
            let bytes = bytes.filter(|bytes| *bytes > 0).ok_or_else(|| Error::tensor(&input.name, "its size is not a number of bytes"))?;
            let memory = MmapOptions::new().len(bytes).no_reserve_swap().map_anon();
            let memory = memory.map_err(|error| Error::tensor(&input.name, format!("{bytes} bytes cannot be reserved: {error}")))?;
            planes.push(Plane {
                input: input.name.clone(),
                output: input.name.replace(PAST, PRESENT),
                heads,
                head_size,
                element: input.element,
                memory,
            });
        }
        if planes.is_empty() {
            return Err(Error::tensor(format!("{PAST}…"), "the graph has no such input: it keeps no keys and values"));
        }
        Ok(Self { graphs: Vec::new(), planes, rows, capacity, held: vec![0; rows] })
    }

    /// Attaches a graph that reads and writes this cache.
    pub fn attach(&mut self, session: &Session) -> Result<Graph, Error> {
        for plane in &self.planes {
            let fits = |info: &&crate::TensorInfo| info.name == plane.input && info.element == plane.element;
            if !session.inputs().iter().any(|info| fits(&info)) {
                return Err(Error::tensor(&plane.input, "the graph has no such input of this type"));
            }
        }
        self.graphs.push(Attached { binding: Binding::new(session)?, rows: 0..0 });
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
        let capacity = self.capacity;
        let attached = self.graphs.get_mut(graph.0).ok_or_else(|| Error::tensor("graph", "it is not attached"))?;
        if attached.rows != rows {
            for plane in &mut self.planes {
                let stride = plane.row_bytes(capacity);
                let shape = [rows.len(), plane.heads, capacity, plane.head_size];
                let bytes = plane.memory.get_mut(rows.start * stride..rows.end * stride).unwrap_or_default();
                // The binding is freed before the memory, and runs only in this function, which has the cache to itself.
                let tensor = native::tensor_over(plane.element, shape, bytes).map_err(Error::runtime("bind a cache"))?;
                attached.binding.bind_in_place(&plane.input, &plane.output, tensor)?;
            }
            attached.rows = rows;
        }
        attached.binding.run(session).map(CacheOutputs)
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
        self.planes.iter().map(|plane| plane.heads * plane.head_size * plane.element.size()).sum()
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

    /// Gives a row's memory back to the system. What it held is lost.
    pub fn release(&mut self, row: usize) {
        let Some(held) = self.held.get_mut(row).filter(|held| **held > 0) else { return };
        *held = 0;
        for plane in &mut self.planes {
            let stride = plane.row_bytes(self.capacity);
            native::give_pages_back(&mut plane.memory, row * stride..(row + 1) * stride);
        }
    }

    /// Copies the first `tokens` tokens of a row to another.
    pub fn copy_row(&mut self, from: usize, to: usize, tokens: usize) {
        if from == to || from >= self.rows || to >= self.rows || tokens > self.capacity {
            return;
        }
        let capacity = self.capacity;
        for plane in &mut self.planes {
            for head in 0..plane.heads {
                let source = plane.tokens(from, head, 0..tokens, capacity);
                let target = plane.tokens(to, head, 0..0, capacity).start;
                plane.memory.copy_within(source, target);
            }
        }
        self.hold(to, tokens);
    }

    /// The keys and values of these tokens of a row: for each layer's keys and values and each head the tokens one after the
    /// other.
    pub fn read(&self, row: usize, tokens: Range<usize>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(tokens.len() * self.token_bytes());
        for plane in &self.planes {
            for head in 0..plane.heads {
                bytes.extend_from_slice(plane.memory.get(plane.tokens(row, head, tokens.clone(), self.capacity)).unwrap_or_default());
            }
        }
        bytes
    }

    /// Writes what [`Self::read`] gave into a row, from the token `at` on. The tokens must fit the row.
    pub fn write(&mut self, row: usize, at: usize, bytes: &[u8]) {
        let tokens = bytes.len() / self.token_bytes();
        if row >= self.rows || at + tokens > self.capacity {
            return;
        }
        let (mut rest, capacity) = (bytes, self.capacity);
        for plane in &mut self.planes {
            for head in 0..plane.heads {
                let range = plane.tokens(row, head, at..at + tokens, capacity);
                let Some((part, left)) = rest.split_at_checked(range.len()) else { return };
                if let Some(target) = plane.memory.get_mut(range) {
                    target.copy_from_slice(part);
                }
                rest = left;
            }
        }
        self.hold(row, at + tokens);
    }

    /// The inputs' names with a tensor of each one's first `tokens` tokens of a row, `[1, heads, tokens, head size]`: for graphs
    /// that take the past as it is and give a longer present.
    pub fn past(&self, row: usize, tokens: usize) -> Result<Vec<(&str, Tensor)>, Error> {
        let tensor = |plane: &Plane| {
            let mut bytes = Vec::with_capacity(plane.heads * tokens * plane.head_size * plane.element.size());
            for head in 0..plane.heads {
                bytes.extend_from_slice(plane.memory.get(plane.tokens(row, head, 0..tokens, self.capacity)).unwrap_or_default());
            }
            Tensor::from_le_bytes(&plane.input, plane.element, &[1, plane.heads, tokens, plane.head_size], &bytes)
        };
        self.planes.iter().map(|plane| Ok((plane.input.as_str(), tensor(plane)?))).collect()
    }

    /// Takes the tokens from `past` on from the presents `[1, heads, past + new, head size]` that such a graph gave.
    pub fn keep(&mut self, row: usize, past: usize, new: usize, outputs: &Outputs<'_>) -> Result<(), Error> {
        let capacity = self.capacity;
        for plane in &mut self.planes {
            let (element, shape, bytes) = outputs.le_bytes(&plane.output)?;
            if element != plane.element || shape != [1, plane.heads, past + new, plane.head_size] || past + new > capacity {
                return Err(Error::tensor(&plane.output, format!("{shape:?}: it is not the past with {new} tokens behind {past}")));
            }
            let token = plane.head_size * plane.element.size();
            for (head, present) in bytes.chunks_exact((past + new) * token).enumerate() {
                let range = plane.tokens(row, head, past..past + new, capacity);
                if let (Some(target), Some(source)) = (plane.memory.get_mut(range), present.get(past * token..)) {
                    target.copy_from_slice(source);
                }
            }
        }
        self.hold(row, past + new);
        Ok(())
    }
}

impl Plane {
    fn row_bytes(&self, capacity: usize) -> usize {
        self.heads * capacity * self.head_size * self.element.size()
    }

    /// Where the tokens of a row's head lie.
    fn tokens(&self, row: usize, head: usize, tokens: Range<usize>, capacity: usize) -> Range<usize> {
        let token = self.head_size * self.element.size();
        let start = row * self.row_bytes(capacity) + head * capacity * token;
        start + tokens.start * token..start + tokens.end * token
    }
}
