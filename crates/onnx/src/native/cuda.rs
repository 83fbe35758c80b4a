//! Memory of an NVIDIA GPU, as its driver gives it.

use std::{
    ffi::c_void,
    ops::Range,
    ptr::{self, NonNull},
    slice,
};

use cudarc::driver::{
    DriverError, result,
    sys::{self, CUDA_MEMCPY3D, CUcontext, CUdevice, CUdeviceptr, CUmemorytype},
};
use ort::{
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    value::DynValue,
};

use super::value_over;
use crate::{ElementType, memory::Blocks};

/// Memory of a GPU, zeros at first.
///
/// Every call returns when what it does is done, so that a run that follows, which is in a stream of its own, sees it.
#[derive(Debug)]
pub(crate) struct CudaMemory {
    pointer: CUdeviceptr,
    bytes: usize,
    context: PrimaryContext,
}

/// The context of a GPU that ONNX Runtime works in too.
#[derive(Debug)]
pub(super) struct PrimaryContext {
    index: u16,
    device: CUdevice,
    pub(super) context: CUcontext,
}

// SAFETY: a context may be made current on any thread, and is made so before each use.
unsafe impl Send for PrimaryContext {}

impl CudaMemory {
    /// So many bytes of the GPU with this index.
    pub(crate) fn new(index: u16, bytes: usize) -> Result<Self, String> {
        let context = PrimaryContext::retain(index)?;
        context.enter()?;
        let wanted = |error: DriverError| format!("{bytes} bytes of GPU {index} cannot be had: {}", spelled(error));
        // SAFETY: the context is current on this thread, and the memory set is the memory just given.
        let pointer = unsafe { result::malloc_sync(bytes) }.map_err(wanted)?;
        let memory = Self { pointer, bytes, context };
        // SAFETY: as above.
        unsafe { result::memset_d8_sync(pointer, 0, bytes) }.and_then(|()| result::ctx::synchronize()).map_err(wanted)?;
        Ok(memory)
    }

    /// A tensor over a part of the memory. Whoever holds it sees to it that the memory outlives it.
    pub(crate) fn tensor(&mut self, element: ElementType, shape: &[usize], range: Range<usize>) -> Result<DynValue, ort::Error> {
        if range.end > self.bytes || range.len() != shape.iter().product::<usize>() * element.size() {
            return Err(ort::Error::new("the memory does not fit the shape"));
        }
        let place = MemoryInfo::new(AllocationDevice::CUDA, i32::from(self.context.index), AllocatorType::Device, MemoryType::Default)?;
        let address = self.pointer + range.start as u64;
        // SAFETY: the range lies within the memory, by the check above; for how long is the caller's promise.
        unsafe { value_over(&place, element, shape, address as *mut c_void, range.len()) }
    }

    /// Copies blocks out, one behind the other.
    pub(crate) fn read(&self, blocks: Blocks, into: &mut [u8]) -> Result<(), String> {
        if into.len() != blocks.bytes() {
            return Err("the memory to read into has another size".to_owned());
        }
        self.copy_blocks(&CUDA_MEMCPY3D { dstHost: into.as_mut_ptr().cast(), ..copy(blocks, self.source(blocks)?, to_host(blocks)) })
    }

    /// Copies blocks in that lie one behind the other.
    pub(crate) fn write(&mut self, blocks: Blocks, from: &[u8]) -> Result<(), String> {
        if from.len() != blocks.bytes() {
            return Err("the memory to write from has another size".to_owned());
        }
        self.copy_blocks(&CUDA_MEMCPY3D { srcHost: from.as_ptr().cast(), ..copy(blocks, from_host(blocks), self.target(blocks)?) })
    }

    /// Copies blocks to others of the same size and number that do not overlap them.
    pub(crate) fn copy(&mut self, from: Blocks, to: Blocks) -> Result<(), String> {
        if (from.length, from.count, from.layers) != (to.length, to.count, to.layers) {
            return Err("the blocks to copy to are others than those to copy from".to_owned());
        }
        self.copy_blocks(&copy(from, self.source(from)?, self.target(to)?))
    }

    fn copy_blocks(&self, copy: &CUDA_MEMCPY3D) -> Result<(), String> {
        if [copy.WidthInBytes, copy.Height, copy.Depth].contains(&0) {
            return Ok(());
        }
        self.context.enter()?;
        // What other streams do with the memory must be done, too: they do not wait for this one.
        result::ctx::synchronize().map_err(spelled)?;
        // SAFETY: `source` and `target` have checked the device's side, `read` and `write` the host's. The host's memory is borrowed
        // until the copy is over, which `synchronize` waits for.
        unsafe { sys::cuMemcpy3D_v2(copy) }.result().and_then(|()| result::ctx::synchronize()).map_err(spelled)
    }

    fn source(&self, blocks: Blocks) -> Result<CUDA_MEMCPY3D, String> {
        let (start, pitch, height) = self.pitched(blocks)?;
        let from = CUmemorytype::CU_MEMORYTYPE_DEVICE;
        Ok(CUDA_MEMCPY3D { srcMemoryType: from, srcDevice: start, srcPitch: pitch, srcHeight: height, ..nothing() })
    }

    fn target(&self, blocks: Blocks) -> Result<CUDA_MEMCPY3D, String> {
        let (start, pitch, height) = self.pitched(blocks)?;
        let to = CUmemorytype::CU_MEMORYTYPE_DEVICE;
        Ok(CUDA_MEMCPY3D { dstMemoryType: to, dstDevice: start, dstPitch: pitch, dstHeight: height, ..nothing() })
    }

    /// Where blocks begin, from one to the next, and how many of these distances from one layer to the next.
    fn pitched(&self, blocks: Blocks) -> Result<(CUdeviceptr, usize, usize), String> {
        if blocks.end() > self.bytes || blocks.length > blocks.stride || !blocks.layer_stride.is_multiple_of(blocks.stride.max(1)) {
            return Err(format!("{blocks:?} do not lie in {} bytes", self.bytes));
        }
        Ok((self.pointer + blocks.start as u64, blocks.stride, blocks.layer_stride / blocks.stride.max(1)))
    }
}

impl Drop for CudaMemory {
    fn drop(&mut self) {
        // SAFETY: the memory is this value's own, and whoever made a tensor over it has dropped that by its promise.
        let freed = self.context.enter().and_then(|()| unsafe { result::free_sync(self.pointer) }.map_err(spelled));
        if let Err(error) = freed {
            tracing::warn!(error, "memory of a GPU cannot be given back");
        }
    }
}

/// Loads the driver and has it look for GPUs; once it has, this costs next to nothing.
pub(super) fn start_driver() -> Result<(), String> {
    // SAFETY: looking for a library has no precondition.
    if !unsafe { sys::is_culib_present() } {
        return Err("the GPU's driver (libcuda) is not on this machine".to_owned());
    }
    result::init().map_err(spelled)
}

impl PrimaryContext {
    /// The context is there as long as this lives; [`enter`](Self::enter) makes it current.
    pub(super) fn retain(index: u16) -> Result<Self, String> {
        start_driver()?;
        let device = result::device::get(i32::from(index)).map_err(spelled)?;
        // SAFETY: the device is one that the driver gave just now.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(spelled)?;
        Ok(Self { index, device, context })
    }

    /// Makes it the current one of this thread.
    fn enter(&self) -> Result<(), String> {
        // SAFETY: the context is retained as long as this value lives.
        unsafe { result::ctx::set_current(self.context) }.map_err(spelled)
    }
}

impl Drop for PrimaryContext {
    fn drop(&mut self) {
        // SAFETY: it was retained once, by `retain`.
        if let Err(error) = unsafe { result::primary_ctx::release(self.device) } {
            tracing::warn!(error = spelled(error), "a GPU's context cannot be released");
        }
    }
}

/// A copy of these blocks from the source's fields of one description to the target's of another.
fn copy(blocks: Blocks, source: CUDA_MEMCPY3D, target: CUDA_MEMCPY3D) -> CUDA_MEMCPY3D {
    CUDA_MEMCPY3D {
        srcMemoryType: source.srcMemoryType,
        srcDevice: source.srcDevice,
        srcPitch: source.srcPitch,
        srcHeight: source.srcHeight,
        WidthInBytes: blocks.length,
        Height: blocks.count,
        Depth: blocks.layers,
        ..target
    }
}

fn from_host(blocks: Blocks) -> CUDA_MEMCPY3D {
    CUDA_MEMCPY3D { srcPitch: blocks.length, srcHeight: blocks.count, ..nothing() }
}

fn to_host(blocks: Blocks) -> CUDA_MEMCPY3D {
    CUDA_MEMCPY3D { dstPitch: blocks.length, dstHeight: blocks.count, ..nothing() }
}

fn nothing() -> CUDA_MEMCPY3D {
    CUDA_MEMCPY3D {
        srcXInBytes: 0,
        srcY: 0,
        srcZ: 0,
        srcLOD: 0,
        srcMemoryType: CUmemorytype::CU_MEMORYTYPE_HOST,
        srcHost: ptr::null(),
        srcDevice: 0,
        srcArray: ptr::null_mut(),
        reserved0: ptr::null_mut(),
        srcPitch: 0,
        srcHeight: 0,
        dstXInBytes: 0,
        dstY: 0,
        dstZ: 0,
        dstLOD: 0,
        dstMemoryType: CUmemorytype::CU_MEMORYTYPE_HOST,
        dstHost: ptr::null_mut(),
        dstDevice: 0,
        dstArray: ptr::null_mut(),
        reserved1: ptr::null_mut(),
        dstPitch: 0,
        dstHeight: 0,
        WidthInBytes: 0,
        Height: 0,
        Depth: 0,
    }
}

/// Memory of this process that a GPU reads and writes by itself, which is several times as quick as memory that the system may move.
#[derive(Debug)]
pub(crate) struct PinnedMemory {
    pointer: NonNull<u8>,
    bytes: usize,
    context: PrimaryContext,
}

// SAFETY: the memory is this value's own, and of this process like any other.
unsafe impl Send for PinnedMemory {}

impl PinnedMemory {
    /// So many bytes, zeros at first, for the GPU with this index.
    pub(crate) fn new(index: u16, bytes: usize) -> Result<Self, String> {
        let context = PrimaryContext::retain(index)?;
        context.enter()?;
        // SAFETY: the context is current on this thread.
        let pointer = unsafe { result::malloc_host(bytes.max(1), 0) }.map_err(spelled)?.cast::<u8>();
        let pointer = NonNull::new(pointer).ok_or_else(|| format!("{bytes} bytes cannot be had"))?;
        // SAFETY: the memory was given just now, for so many bytes.
        unsafe { pointer.as_ptr().write_bytes(0, bytes) };
        Ok(Self { pointer, bytes, context })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is this value's own, has so many bytes, and all were written when it was made.
        unsafe { slice::from_raw_parts(self.pointer.as_ptr(), self.bytes) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and nobody else has a reference to it.
        unsafe { slice::from_raw_parts_mut(self.pointer.as_ptr(), self.bytes) }
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        // SAFETY: the memory is this value's own, and no copy is under way: each is over when its call returns.
        let freed = self.context.enter().and_then(|()| unsafe { result::free_host(self.pointer.as_ptr().cast()) }.map_err(spelled));
        if let Err(error) = freed {
            tracing::warn!(error, "memory for a GPU cannot be given back");
        }
    }
}

/// What went wrong, in the driver's words.
pub(super) fn spelled(error: DriverError) -> String {
    let text = error.error_string().ok().map(|text| text.to_string_lossy().into_owned());
    text.unwrap_or_else(|| format!("{:?}", error.0))
}
