use std::{fmt, ops::Range};

use ort::session::{NoSelectedOutputs, RunOptions};

use crate::{
    ElementType, Error, Session, Tensor,
    binding::Binding,
    memory::{Blocks, Memory},
    native::PinnedMemory,
};

/// A run of fixed shapes on a GPU: recorded when it is first run, and from then on played as a whole (a CUDA graph), so that the
/// processor does not launch its kernels one by one, which takes longer than many of them do.
///
/// Everything that it reads and writes lies where it lay when it was recorded.
pub(crate) struct Recording {
    // Before the memory that it points into: fields are dropped in order.
    binding: Binding,
    options: RunOptions<NoSelectedOutputs>,
    inputs: Memory,
    places: Vec<Range<usize>>,
    staged: PinnedMemory,
    values: usize,
}

/// GPUs read numbers that lie at multiples of this best.
const ALIGNMENT: usize = 256;

/// Where the recordings of a graph leave their output: one at a time, so that they share it.
#[derive(Debug)]
pub(crate) struct Outlet {
    memory: Memory,
    seen: PinnedMemory,
}

impl Outlet {
    /// Room for so many floats.
    pub(crate) fn new(gpu: u16, values: usize) -> Result<Self, Error> {
        let bytes = values * size_of::<f32>();
        let lacking = |reason: String| Error::Runtime { doing: "make room for a recorded run".to_owned(), message: reason };
        Ok(Self { memory: Memory::new(bytes, Some(gpu)).map_err(lacking)?, seen: PinnedMemory::new(gpu, bytes).map_err(lacking)? })
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("binding", &self.binding).finish_non_exhaustive()
    }
}

impl Recording {
    /// Prepares a run of these inputs with an output of floats of this name and shape, for which the outlet has room. Inputs of no
    /// dimension are for the processor, and stay what they are now. `number` tells the recordings of a session apart: 1 or more.
    pub(crate) fn new(
        session: &Session,
        number: usize,
        gpu: u16,
        inputs: &[(&str, Tensor)],
        (name, shape): (&str, [usize; 2]),
        outlet: &mut Outlet,
    ) -> Result<Self, Error> {
        let mut binding = Binding::new(session)?;
        let mut places = Vec::new();
        let mut end = 0usize;
        for (_, tensor) in inputs {
            let bytes = if tensor.shape().is_empty() { 0 } else { tensor.shape().iter().product::<usize>() * tensor.element_type().size() };
            places.push(end..end + bytes);
            end = (end + bytes).next_multiple_of(ALIGNMENT);
        }
        let lacking = |reason: String| Error::Runtime { doing: "make room for a recorded run".to_owned(), message: reason };
        let mut memory = Memory::new(end.max(1), Some(gpu)).map_err(lacking)?;
        for ((name, tensor), place) in inputs.iter().zip(&places) {
            if tensor.shape().is_empty() {
                binding.bind_input(name, tensor.clone())?;
            } else {
                let over = memory.tensor(tensor.element_type(), tensor.shape(), place.clone());
                binding.bind_value(name, &over.map_err(Error::runtime("bind an input"))?)?;
            }
        }
        let values = shape.iter().product();
        let over = outlet.memory.tensor(ElementType::F32, &shape, 0..values * size_of::<f32>());
        binding.bind_output_value(name, over.map_err(Error::runtime("bind an output"))?)?;
        let mut options = RunOptions::new().map_err(Error::runtime("make run options"))?;
        options.set("gpu_graph_id", number.to_string()).map_err(Error::runtime("make run options"))?;
        let staged = PinnedMemory::new(gpu, end).map_err(lacking)?;
        Ok(Self { binding, options, inputs: memory, places, staged, values })
    }

    /// Binds a part of a cache, which the run reads and writes in place.
    pub(crate) fn binding(&mut self) -> &mut Binding {
        &mut self.binding
    }

    /// Runs it on inputs of the same shapes, and gives its output.
    pub(crate) fn play<'a>(&mut self, session: &mut Session, inputs: &[(&str, Tensor)], outlet: &'a mut Outlet) -> Result<&'a [f32], Error> {
        for ((name, tensor), place) in inputs.iter().zip(&self.places).filter(|((_, tensor), _)| !tensor.shape().is_empty()) {
            let bytes = tensor.to_le_bytes();
            let staged = self.staged.bytes_mut().get_mut(place.clone()).filter(|staged| staged.len() == bytes.len());
            staged.ok_or_else(|| Error::tensor(*name, "it has another shape than the recorded run"))?.copy_from_slice(&bytes);
        }
        let copied = |reason: String| Error::Runtime { doing: "copy to and from the GPU".to_owned(), message: reason };
        let staged = self.staged.bytes();
        self.inputs.write(Blocks::one(0..staged.len()), staged).map_err(copied)?;
        self.binding.run_with(session, &self.options)?;
        let output = 0..self.values * size_of::<f32>();
        let seen = outlet.seen.bytes_mut().get_mut(output.clone()).unwrap_or_default();
        outlet.memory.read(Blocks::one(output), seen).map_err(copied)?;
        bytemuck::try_cast_slice(seen).map_err(|error| copied(error.to_string()))
    }
}
