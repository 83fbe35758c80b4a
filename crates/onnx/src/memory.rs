use std::ops::Range;

use memmap2::{MmapMut, MmapOptions};
use ort::value::DynValue;

use crate::{ElementType, native};

/// Memory that graphs read and write in place: of this process, or of the GPU that a graph runs on.
#[derive(Debug)]
pub(crate) enum Memory {
    /// Reserved whole, and committed by the system page by page as it is written.
    Host(MmapMut),
    /// Committed whole.
    Cuda(native::CudaMemory),
}

/// Equally long pieces of memory at equal distances, in layers at equal distances; all in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) start: usize,
    pub(crate) length: usize,
    /// From one's start to the next one's.
    pub(crate) stride: usize,
    pub(crate) count: usize,
    /// From one layer's start to the next one's: a multiple of `stride`.
    pub(crate) layer_stride: usize,
    pub(crate) layers: usize,
}

impl Blocks {
    /// One piece.
    pub(crate) fn one(range: Range<usize>) -> Self {
        let length = range.len();
        Self { start: range.start, length, stride: length, count: 1, layer_stride: length, layers: 1 }
    }

    /// All of their bytes.
    pub(crate) fn bytes(self) -> usize {
        self.length * self.count * self.layers
    }

    /// Where the last one ends.
    pub(crate) fn end(self) -> usize {
        self.start + self.layers.saturating_sub(1) * self.layer_stride + self.count.saturating_sub(1) * self.stride + self.length
    }

    fn ranges(self) -> impl Iterator<Item = Range<usize>> {
        let starts = (0..self.layers).flat_map(move |layer| (0..self.count).map(move |index| layer * self.layer_stride + index * self.stride));
        starts.map(move |offset| self.start + offset..self.start + offset + self.length)
    }
}

impl Memory {
    /// So many bytes, zeros at first; of the GPU with this index, else of this process.
    pub(crate) fn new(bytes: usize, gpu: Option<u16>) -> Result<Self, String> {
        if let Some(gpu) = gpu {
            return native::CudaMemory::new(gpu, bytes).map(Self::Cuda);
        }
        let memory = MmapOptions::new().len(bytes).no_reserve_swap().map_anon();
        memory.map(Self::Host).map_err(|error| format!("{bytes} bytes cannot be reserved: {error}"))
    }

    /// A tensor over a part of it. The caller frees it before the memory, and lets nobody else use that part while a graph runs.
    pub(crate) fn tensor(&mut self, element: ElementType, shape: &[usize], range: Range<usize>) -> Result<DynValue, ort::Error> {
        match self {
            Self::Host(memory) => native::tensor_over(element, shape, memory.get_mut(range).unwrap_or_default()),
            Self::Cuda(memory) => memory.tensor(element, shape, range),
        }
    }

    /// Copies blocks out, one behind the other.
    pub(crate) fn read(&self, blocks: Blocks, into: &mut [u8]) -> Result<(), String> {
        match self {
            Self::Host(memory) => {
                for (range, target) in blocks.ranges().zip(into.chunks_exact_mut(blocks.length.max(1))) {
                    if let Some(source) = memory.get(range) {
                        target.copy_from_slice(source);
                    }
                }
                Ok(())
            }
            Self::Cuda(memory) => memory.read(blocks, into),
        }
    }

    /// Copies blocks in that lie one behind the other in `from`.
    pub(crate) fn write(&mut self, blocks: Blocks, from: &[u8]) -> Result<(), String> {
        match self {
            Self::Host(memory) => {
                for (range, source) in blocks.ranges().zip(from.chunks_exact(blocks.length.max(1))) {
                    if let Some(target) = memory.get_mut(range) {
                        target.copy_from_slice(source);
                    }
                }
                Ok(())
            }
            Self::Cuda(memory) => memory.write(blocks, from),
        }
    }

    /// Copies blocks to others of the same size and number that do not overlap them.
    pub(crate) fn copy(&mut self, from: Blocks, to: Blocks) -> Result<(), String> {
        match self {
            Self::Host(memory) => {
                from.ranges().zip(to.ranges()).for_each(|(from, to)| memory.copy_within(from, to.start));
                Ok(())
            }
            Self::Cuda(memory) => memory.copy(from, to),
        }
    }

    /// Gives a part of it back to the system, where that can be; what it held is lost.
    pub(crate) fn give_back(&mut self, range: Range<usize>) {
        if let Self::Host(memory) = self {
            native::give_pages_back(memory, range);
        }
    }
}
