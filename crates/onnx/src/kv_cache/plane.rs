use std::ops::Range;

use crate::{ElementType, Error, Session, TensorInfo, memory::Blocks};

/// The keys or the values of one layer.
#[derive(Debug)]
pub(super) struct Plane {
    pub(super) shape: PlaneShape,
    /// Where it begins in the cache's memory.
    pub(super) start: usize,
}

/// What a graph says of it.
#[derive(Debug)]
pub(super) struct PlaneShape {
    pub(super) input: String,
    pub(super) output: String,
    pub(super) heads: usize,
    pub(super) head_size: usize,
    pub(super) element: ElementType,
}

/// The prefix of the inputs, and what stands in its place in the outputs.
pub(super) const PAST: &str = "past_key_values.";
const PRESENT: &str = "present.";

impl Plane {
    pub(super) fn row_bytes(&self, capacity: usize) -> usize {
        self.shape.token_bytes() * capacity
    }

    /// Where these rows lie.
    pub(super) fn rows(&self, rows: Range<usize>, capacity: usize) -> Range<usize> {
        let stride = self.row_bytes(capacity);
        self.start + rows.start * stride..self.start + rows.end * stride
    }

    /// Where these tokens of a row lie: a block for each head.
    pub(super) fn tokens(&self, row: usize, tokens: Range<usize>, capacity: usize) -> Blocks {
        let token = self.shape.head_size * self.shape.element.size();
        let stride = capacity * token;
        let start = self.rows(row..row, capacity).start + tokens.start * token;
        Blocks { start, length: tokens.len() * token, stride, count: self.shape.heads, layer_stride: self.shape.heads * stride, layers: 1 }
    }
}

/// The bytes of a row of so many tokens.
pub(super) fn row_bytes(shapes: &[PlaneShape], capacity: usize) -> usize {
    shapes.iter().map(|shape| shape.token_bytes().saturating_mul(capacity)).fold(0, usize::saturating_add)
}

impl PlaneShape {
    /// Those of a graph's inputs `past_key_values.…` of these names.
    pub(super) fn all(session: &Session, head_size: Option<usize>, takes: fn(&str) -> bool) -> Result<Vec<Self>, Error> {
        let inputs = session.inputs().iter().filter(|input| input.name.starts_with(PAST) && takes(&input.name));
        let shapes = inputs.map(|input| Self::of(input, head_size)).collect::<Result<Vec<_>, _>>()?;
        if shapes.is_empty() {
            return Err(Error::tensor(format!("{PAST}…"), "the graph has no such input: it keeps no keys and values"));
        }
        Ok(shapes)
    }

    /// That of an input `[rows, heads, tokens, head size]`.
    pub(super) fn of(input: &TensorInfo, head_size: Option<usize>) -> Result<Self, Error> {
        let &[_, Some(heads), _, size] = input.shape.as_slice() else {
            return Err(Error::tensor(&input.name, "it is not [rows, heads, tokens, head size] with known heads"));
        };
        let head_size = size.or(head_size).ok_or_else(|| Error::tensor(&input.name, "nothing says how large its heads are"))?;
        // Those of 8 bits are rounded by scales that the graph holds.
        if !matches!(input.element, ElementType::F32 | ElementType::F16 | ElementType::I8) {
            return Err(Error::tensor(&input.name, format!("a cache of {:?} is not supported: F32, F16 and I8 are", input.element)));
        }
        let (element, name) = (input.element, &input.name);
        Ok(Self { input: name.clone(), output: name.replace(PAST, PRESENT), heads, head_size, element })
    }

    pub(super) fn token_bytes(&self) -> usize {
        self.heads * self.head_size * self.element.size()
    }

    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.heads, self.head_size, self.element) == (other.heads, other.head_size, other.element)
    }
}
