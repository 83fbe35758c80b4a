//! What only the C interfaces of ONNX Runtime and of the C library give: the one place with unsafe code.
#![allow(unsafe_code)]

use std::{collections::BTreeMap, ffi::CStr, ptr, slice};

use ort::{AsPointer, session::Session};

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

/// Gives the memory that freed sessions left with the C library's allocator back to the operating system.
pub(crate) fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` may be called at any time from any thread, and has no argument that could be wrong.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Keeps the C library's allocator to one arena for each of `processors`. Left alone it makes eight times as many, and what one
/// model leaves behind in an arena is of no use to another in the next: after a thousand loads that was a sixth of all memory.
pub(crate) fn few_arenas(processors: usize) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` may be called at any time from any thread; a value that it does not take changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, libc::c_int::try_from(processors.max(2)).unwrap_or(libc::c_int::MAX));
    }
}

/// The memory of this process that is in use, in bytes; 0 where the system does not tell.
pub(crate) fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
