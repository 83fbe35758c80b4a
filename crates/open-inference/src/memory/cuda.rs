//! CUDA shared memory: allocations on this machine's GPUs that clients hand over by their handles.
//!
//! What a tensor needs is copied between the GPU's memory and the processor's, whatever its graph runs on: requests are batched
//! there. A copy is over when its call returns.

use std::{fmt, sync::Arc};

use quintet_onnx::{CudaIpcFault, CudaIpcHandle, CudaIpcMemory, cuda_gpus};

use super::{Fault, Memory};
use crate::Error;

/// This machine's GPUs. What they are asked may take its time.
pub(super) trait Gpus: fmt::Debug + Send + Sync {
    /// How many there are; an error where none can be used.
    fn count(&self) -> Result<u16, String>;

    /// Opens what a handle stands for on a GPU, and says how many bytes it has. It is closed when the last holder drops it.
    fn open(&self, gpu: u16, handle: &CudaIpcHandle) -> Result<(Arc<dyn Memory>, u64), CudaIpcFault>;
}

/// The GPUs of NVIDIA's driver.
#[derive(Debug)]
pub(super) struct Nvidia;

impl Gpus for Nvidia {
    fn count(&self) -> Result<u16, String> {
        cuda_gpus()
    }

    fn open(&self, gpu: u16, handle: &CudaIpcHandle) -> Result<(Arc<dyn Memory>, u64), CudaIpcFault> {
        let memory = CudaIpcMemory::open(gpu, handle)?;
        let bytes = memory.bytes();
        Ok((Arc::new(memory), bytes))
    }
}

impl Memory for CudaIpcMemory {
    fn read(&self, start: u64, into: &mut [u8]) -> Result<(), Fault> {
        Self::read(self, start, into).map_err(Fault::Machine)
    }

    fn write(&self, start: u64, from: &[u8]) -> Result<(), Fault> {
        Self::write(self, start, from).map_err(Fault::Machine)
    }
}

/// Opens what a client says: its GPU's index, and the memory, which has at least so many bytes.
pub(super) fn open(gpus: &dyn Gpus, handle: &[u8], device: i64, size: u64) -> Result<(u16, Arc<dyn Memory>), Error> {
    let count = gpus.count().map_err(|reason| {
        let way_out = "register system shared memory, or send tensors with the request";
        Error::Unsupported(format!("CUDA shared memory is not taken by this server, since {reason}: {way_out}"))
    })?;
    let gpu = u16::try_from(device).ok().filter(|gpu| *gpu < count).ok_or_else(|| {
        let last = count.saturating_sub(1);
        Error::invalid("device_id", format!("{device}: this server has the GPUs 0 to {last}"))
    })?;
    let handle: &CudaIpcHandle = handle.try_into().map_err(|_| {
        let description = format!("{} bytes: must be the {} of cudaIpcGetMemHandle", handle.len(), size_of::<CudaIpcHandle>());
        Error::invalid("raw_handle", description)
    })?;
    let (memory, bytes) = gpus.open(gpu, handle).map_err(|fault| match fault {
        CudaIpcFault::Gpu(_) => Error::SharedMemory(format!("GPU {gpu}: {fault}")),
        CudaIpcFault::Handle(_) => {
            Error::invalid("raw_handle", format!("{fault}; it must be of another process of this machine, and its memory not freed"))
        }
    })?;
    if size == 0 || size > bytes {
        return Err(Error::invalid("byte_size", format!("{size}: the memory behind the handle has {bytes} bytes")));
    }
    Ok((gpu, memory))
}
