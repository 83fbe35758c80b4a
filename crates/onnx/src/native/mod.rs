//! What only the C interfaces of ONNX Runtime, of the C library and of GPUs' drivers give: the one place with unsafe code.
#![allow(unsafe_code)]

mod cuda;
mod cuda_ipc;

use std::{
    collections::BTreeMap,
    ffi::{CStr, c_void},
    ops::Range,
    ptr::{self, NonNull},
    slice,
};

use memmap2::{MmapMut, UncheckedAdvice};
use ort::{
    AsPointer,
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::Session,
    value::{DynValue, TensorElementType},
};

use crate::ElementType;
pub(crate) use cuda::{CudaMemory, PinnedMemory};
pub use cuda_ipc::{CudaIpcFault, CudaIpcHandle, CudaIpcMemory, cuda_gpus};

/// Counts the nodes that each provider runs. The session must have been opened with
/// `session.record_ep_graph_assignment_info`.
pub(crate) fn provider_nodes(session: &Session) -> Result<BTreeMap<String, u32>, ort::Error> {
    let api = ort::api();
    let mut counts = BTreeMap::new();
    let mut subgraphs = ptr::null();
    let mut subgraph_count = 0;
    // SAFETY: the session pointer lives as long as `session`; the runtime writes a pointer to an array that it
    // keeps with the session, and its length. A null status means success, and `result_from_status` takes over
    // any other.
    unsafe {
        ort::Error::result_from_status((api.Session_GetEpGraphAssignmentInfo)(session.ptr(), &raw mut subgraphs, &raw mut subgraph_count))?;
    }
    if subgraphs.is_null() {
        return Ok(counts);
    }
    // SAFETY: the runtime gave this pointer and length together just now.
    for &subgraph in unsafe { slice::from_raw_parts(subgraphs, subgraph_count) } {
        let mut name = ptr::null();
        let mut nodes = ptr::null();
        let mut node_count = 0usize;
        // SAFETY: `subgraph` comes from the array above; the runtime keeps the name and the nodes with the session.
        let provider = unsafe {
            ort::Error::result_from_status((api.EpAssignedSubgraph_GetEpName)(subgraph, &raw mut name))?;
            ort::Error::result_from_status((api.EpAssignedSubgraph_GetNodes)(subgraph, &raw mut nodes, &raw mut node_count))?;
            if name.is_null() {
                continue;
            }
            CStr::from_ptr(name).to_string_lossy().into_owned()
        };
        *counts.entry(provider).or_default() += u32::try_from(node_count).unwrap_or(u32::MAX);
    }
    Ok(counts)
}

/// Gives the memory that freed sessions, loading one, and large runs left with the C library's allocator back to the operating system.
/// Later runs fetch theirs anew: for moments in which nothing waits.
pub fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` may be called at any time from any thread, and has no argument that could be wrong.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A tensor over memory that is not the runtime's. Whoever holds it must see to it that the memory lives as long, does not move,
/// and is not used by others while a run reads and writes it: [`KvCache`](crate::KvCache) does.
pub(crate) fn tensor_over(element: ElementType, shape: &[usize], bytes: &mut [u8]) -> Result<DynValue, ort::Error> {
    if shape.iter().product::<usize>() * element.size() != bytes.len() || bytes.as_ptr().align_offset(element.size()) != 0 {
        return Err(ort::Error::new("the memory does not fit the shape"));
    }
    let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)?;
    // SAFETY: the pointer is valid for as many elements as the shape has, by the check above; for how long is the caller's promise.
    unsafe { value_over(&memory, element, shape, bytes.as_mut_ptr().cast(), bytes.len()) }
}

/// A tensor over the memory at an address, of this process or of a device.
///
/// # Safety
///
/// There are so many bytes at the address, as many as the shape needs, as long as the value lives.
unsafe fn value_over(memory: &MemoryInfo, element: ElementType, shape: &[usize], address: *mut c_void, bytes: usize) -> Result<DynValue, ort::Error> {
    let ty = match element {
        ElementType::F32 => TensorElementType::Float32,
        ElementType::F16 => TensorElementType::Float16,
        ElementType::I8 => TensorElementType::Int8,
        ElementType::I32 => TensorElementType::Int32,
        ElementType::I64 => TensorElementType::Int64,
        other => return Err(ort::Error::new(format!("no tensor of {other:?} can be made over memory"))),
    };
    let shape: Vec<i64> = shape.iter().map(|size| *size as i64).collect();
    let mut value = ptr::null_mut();
    // SAFETY: the caller promises the memory. The runtime copies the shape, and gives a value that is ours to release.
    // (`TensorRefMut::from_raw` makes the same, but `bind_input` would copy its data.)
    unsafe {
        ort::Error::result_from_status((ort::api().CreateTensorWithDataAsOrtValue)(
            memory.ptr(),
            address,
            bytes,
            shape.as_ptr(),
            shape.len(),
            ty.into(),
            &raw mut value,
        ))?;
        Ok(DynValue::from_ptr(NonNull::new(value).ok_or_else(|| ort::Error::new("no tensor was made"))?, Some(&Allocator::default())))
    }
}

/// Gives the whole pages within a range of memory back to the system; they read as zeros afterwards.
pub(crate) fn give_pages_back(memory: &mut MmapMut, range: Range<usize>) {
    let start = range.start.next_multiple_of(4096);
    if let Some(length) = range.end.checked_sub(start).map(|length| length & !4095).filter(|length| *length > 0) {
        // SAFETY: the memory is anonymous and private, and borrowed by nobody else here: its pages become zeros, which are values
        // like any other.
        if let Err(error) = unsafe { memory.unchecked_advise_range(UncheckedAdvice::DontNeed, start, length) } {
            tracing::warn!(%error, "memory of a cache cannot be given back");
        }
    }
}

/// Keeps the C library's allocator to one arena for each processor. A program calls it first of all: threads that run already keep the
/// arenas that they have. Left alone the allocator makes eight times as many, and what one model leaves behind in an arena is of no use
/// to another in the next: after a thousand loads that was a sixth of all memory. What Rust allocates in the programs is not there:
/// this is for ONNX Runtime.
pub fn few_arenas() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    let arenas = std::thread::available_parallelism().map_or(2, |processors| processors.get().max(2));
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` may be called at any time from any thread; a value that it does not take changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, libc::c_int::try_from(arenas).unwrap_or(libc::c_int::MAX));
    }
}

/// The memory of this process that is in use, in bytes; 0 where the system does not tell.
pub(crate) fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
