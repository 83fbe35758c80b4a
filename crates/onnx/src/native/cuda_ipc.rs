//! Memory of an NVIDIA GPU that another process of this machine has allocated and shares (CUDA's interprocess communication).

use std::ffi::c_char;

use cudarc::driver::{
    result::{self, stream::StreamKind},
    sys::{self, CUdeviceptr, CUipcMem_flags_enum, CUipcMemHandle, CUstream, CUstreamCaptureMode},
};

use super::cuda::{PrimaryContext, spelled, start_driver};

/// What `cudaIpcGetMemHandle` gives for an allocation.
pub type CudaIpcHandle = [u8; 64];

/// How many GPUs the driver gives; an error where there is no driver or none that it can use.
pub fn cuda_gpus() -> Result<u16, String> {
    start_driver()?;
    match result::device::get_count().map_err(spelled)? {
        ..=0 => Err("the GPU's driver finds no GPU".to_owned()),
        count => Ok(u16::try_from(count).unwrap_or(u16::MAX)),
    }
}

/// Why memory could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CudaIpcFault {
    /// The GPU could not be used at all.
    #[error("the GPU cannot be used: {0}")]
    Gpu(String),
    /// The driver does not take the handle.
    #[error("the driver does not open it: {0}")]
    Handle(String),
}

/// An allocation of another process, open here as long as this lives. It may be used from any thread; a call waits for the copy.
///
/// Another process writes and reads it at any time: what is read may be torn, and is never more than bytes.
#[derive(Debug)]
pub struct CudaIpcMemory(Opened<Gpu>);

impl CudaIpcMemory {
    /// Opens what a handle of the GPU with this index stands for. A process cannot open its own handles. One handle may be open several
    /// times: the driver counts.
    pub fn open(gpu: u16, handle: &CudaIpcHandle) -> Result<Self, CudaIpcFault> {
        let gpu = Gpu::new(gpu).map_err(CudaIpcFault::Gpu)?;
        Opened::new(gpu, handle).map(Self).map_err(CudaIpcFault::Handle)
    }

    /// Bytes from its beginning to the end of the allocation, as the driver tells. It may share more than the other process asked it
    /// for: small allocations are parts of a block, which is shared whole.
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Copies from so many bytes after its beginning to the processor's memory.
    pub fn read(&self, start: u64, into: &mut [u8]) -> Result<(), String> {
        self.0.read(start, into)
    }

    /// Copies to so many bytes after its beginning. When this returns, other processes see it.
    pub fn write(&self, start: u64, from: &[u8]) -> Result<(), String> {
        self.0.write(start, from)
    }
}

/// What is asked of a GPU's driver here.
trait Driver {
    /// The address, in this process, of what a handle stands for.
    fn open(&self, handle: &CudaIpcHandle) -> Result<CUdeviceptr, String>;

    /// Gives an address back.
    ///
    /// # Safety
    ///
    /// `open` gave it, and for each time that it did, it is given back once and not used afterwards.
    unsafe fn close(&self, address: CUdeviceptr) -> Result<(), String>;

    /// Where the allocation that holds an address begins, and its bytes.
    fn allocation(&self, address: CUdeviceptr) -> Result<(CUdeviceptr, usize), String>;

    /// Copies from the GPU.
    ///
    /// # Safety
    ///
    /// The memory from the address on is open, and has as many bytes.
    unsafe fn copy_out(&self, address: CUdeviceptr, into: &mut [u8]) -> Result<(), String>;

    /// Copies to the GPU.
    ///
    /// # Safety
    ///
    /// As with [`copy_out`](Self::copy_out).
    unsafe fn copy_in(&self, address: CUdeviceptr, from: &[u8]) -> Result<(), String>;
}

#[derive(Debug)]
struct Opened<D: Driver> {
    address: CUdeviceptr,
    bytes: u64,
    driver: D,
}

impl<D: Driver> Opened<D> {
    fn new(driver: D, handle: &CudaIpcHandle) -> Result<Self, String> {
        let address = driver.open(handle)?;
        // From here on dropping it closes it.
        let mut opened = Self { address, bytes: 0, driver };
        let (start, bytes) = opened.driver.allocation(address)?;
        let end = start.saturating_add(bytes as u64);
        opened.bytes = end.checked_sub(address).ok_or_else(|| "it lies outside of its own allocation".to_owned())?;
        Ok(opened)
    }

    /// The address of so many bytes from `start` on, if they are there.
    fn within(&self, start: u64, length: usize) -> Result<CUdeviceptr, String> {
        let fits = start.checked_add(length as u64).is_some_and(|end| end <= self.bytes);
        fits.then(|| self.address + start).ok_or_else(|| format!("{length} bytes from {start} on: it has {}", self.bytes))
    }

    fn read(&self, start: u64, into: &mut [u8]) -> Result<(), String> {
        let address = self.within(start, into.len())?;
        // SAFETY: it is open as long as this lives, and the range lies within, by the check above.
        unsafe { self.driver.copy_out(address, into) }
    }

    fn write(&self, start: u64, from: &[u8]) -> Result<(), String> {
        let address = self.within(start, from.len())?;
        // SAFETY: as in `read`.
        unsafe { self.driver.copy_in(address, from) }
    }
}

impl<D: Driver> Drop for Opened<D> {
    fn drop(&mut self) {
        // SAFETY: `open` gave the address once for this value, which is not used after this.
        if let Err(error) = unsafe { self.driver.close(self.address) } {
            tracing::warn!(error, "shared memory of a GPU cannot be closed");
        }
    }
}

/// A GPU, and the stream in which its copies are made: apart from all others, so that a copy waits for no run and no run for a copy.
#[derive(Debug)]
struct Gpu {
    stream: CUstream,
    context: PrimaryContext,
}

// SAFETY: the driver's calls may come from any thread, several at once; each enters the context on its own thread first.
unsafe impl Send for Gpu {}
// SAFETY: as above.
unsafe impl Sync for Gpu {}

impl Gpu {
    fn new(index: u16) -> Result<Self, String> {
        let context = PrimaryContext::retain(index)?;
        let _entered = Entered::new(&context)?;
        let stream = result::stream::create(StreamKind::NonBlocking).map_err(spelled)?;
        Ok(Self { stream, context })
    }

    fn wait(&self) -> Result<(), String> {
        // SAFETY: the stream is there as long as this lives.
        unsafe { result::stream::synchronize(self.stream) }.map_err(spelled)
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: the stream is this value's own, and every copy in it is over.
        let destroyed = Entered::new(&self.context).and_then(|_entered| unsafe { result::stream::destroy(self.stream) }.map_err(spelled));
        if let Err(error) = destroyed {
            tracing::warn!(error, "a GPU's stream cannot be given back");
        }
    }
}

impl Driver for Gpu {
    fn open(&self, handle: &CudaIpcHandle) -> Result<CUdeviceptr, String> {
        let _entered = Entered::new(&self.context)?;
        let handle = CUipcMemHandle { reserved: handle.map(|byte| c_char::from_ne_bytes([byte])) };
        // Where the memory is another GPU's, the driver reaches it if these two can reach each other.
        let flags = CUipcMem_flags_enum::CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS as u32;
        let mut address = 0;
        // SAFETY: the driver checks the handle, whatever bytes it has, and writes an address.
        unsafe { sys::cuIpcOpenMemHandle_v2(&raw mut address, handle, flags) }.result().map_err(spelled)?;
        Ok(address)
    }

    unsafe fn close(&self, address: CUdeviceptr) -> Result<(), String> {
        let _entered = Entered::new(&self.context)?;
        // SAFETY: the caller promises that the address is one to give back.
        unsafe { sys::cuIpcCloseMemHandle(address) }.result().map_err(spelled)
    }

    fn allocation(&self, address: CUdeviceptr) -> Result<(CUdeviceptr, usize), String> {
        let _entered = Entered::new(&self.context)?;
        let (mut start, mut bytes) = (0, 0);
        // SAFETY: the driver looks the address up among its own, and writes two numbers.
        unsafe { sys::cuMemGetAddressRange_v2(&raw mut start, &raw mut bytes, address) }.result().map_err(spelled)?;
        Ok((start, bytes))
    }

    unsafe fn copy_out(&self, address: CUdeviceptr, into: &mut [u8]) -> Result<(), String> {
        if into.is_empty() {
            return Ok(());
        }
        let _entered = Entered::new(&self.context)?;
        // SAFETY: the caller promises the GPU's side; the processor's is borrowed until the copy is over, which `wait` waits for.
        unsafe { result::memcpy_dtoh_async(into, address, self.stream) }.map_err(spelled)?;
        self.wait()
    }

    unsafe fn copy_in(&self, address: CUdeviceptr, from: &[u8]) -> Result<(), String> {
        if from.is_empty() {
            return Ok(());
        }
        let _entered = Entered::new(&self.context)?;
        // SAFETY: as above.
        unsafe { result::memcpy_htod_async(address, from, self.stream) }.map_err(spelled)?;
        self.wait()
    }
}

/// A context as this thread's current one. When it is dropped, the thread, which is lent to others afterwards, is as it was.
struct Entered {
    /// How the thread was restricted before.
    mode: Option<CUstreamCaptureMode>,
}

impl Entered {
    fn new(context: &PrimaryContext) -> Result<Self, String> {
        // SAFETY: the context is retained as long as `context` lives.
        unsafe { sys::cuCtxPushCurrent_v2(context.context) }.result().map_err(spelled)?;
        let mut entered = Self { mode: None };
        // While another thread records a graph, what is done here would be refused, and spoil the recording; they have nothing in common.
        let mut mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the driver takes the mode and writes the one before.
        unsafe { sys::cuThreadExchangeStreamCaptureMode(&raw mut mode) }.result().map_err(spelled)?;
        entered.mode = Some(mode);
        Ok(entered)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(mode) = &mut self.mode {
            // SAFETY: the mode is the one that the driver gave.
            let _ = unsafe { sys::cuThreadExchangeStreamCaptureMode(&raw mut *mode) };
        }
        let mut context = std::ptr::null_mut();
        // SAFETY: `new` pushed a context, and whatever was pushed since has been popped.
        let _ = unsafe { sys::cuCtxPopCurrent_v2(&raw mut context) };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// Where the stand-in's allocation begins, and where in it the handle's memory does.
    const START: CUdeviceptr = 4096;
    const ADDRESS: CUdeviceptr = 4100;

    /// A driver over memory of this process.
    #[derive(Default)]
    struct Stand {
        memory: RefCell<Vec<u8>>,
        open: Cell<u32>,
        is_lost: bool,
    }

    impl Driver for &Stand {
        fn open(&self, handle: &CudaIpcHandle) -> Result<CUdeviceptr, String> {
            if handle[0] != 7 {
                return Err("invalid resource handle".to_owned());
            }
            self.open.set(self.open.get() + 1);
            Ok(ADDRESS)
        }

        unsafe fn close(&self, address: CUdeviceptr) -> Result<(), String> {
            assert_eq!(address, ADDRESS);
            self.open.set(self.open.get() - 1);
            Ok(())
        }

        fn allocation(&self, address: CUdeviceptr) -> Result<(CUdeviceptr, usize), String> {
            assert_eq!(address, ADDRESS);
            if self.is_lost { Err("lost".to_owned()) } else { Ok((START, self.memory.borrow().len())) }
        }

        unsafe fn copy_out(&self, address: CUdeviceptr, into: &mut [u8]) -> Result<(), String> {
            let start = (address - START) as usize;
            into.copy_from_slice(&self.memory.borrow()[start..start + into.len()]);
            Ok(())
        }

        unsafe fn copy_in(&self, address: CUdeviceptr, from: &[u8]) -> Result<(), String> {
            let start = (address - START) as usize;
            self.memory.borrow_mut()[start..start + from.len()].copy_from_slice(from);
            Ok(())
        }
    }

    #[test]
    fn memory_is_open_as_long_as_it_is_held_and_used_within_its_allocation() {
        let stand = Stand { memory: RefCell::new((0..16).collect()), ..Stand::default() };
        let (one, other) = (Opened::new(&stand, &[7; 64]).unwrap(), Opened::new(&stand, &[7; 64]).unwrap());
        assert_eq!((one.bytes, stand.open.get()), (12, 2));
        let mut bytes = [0; 3];
        one.read(9, &mut bytes).unwrap();
        assert_eq!(bytes, [13, 14, 15]);
        other.write(0, &[50, 51]).unwrap();
        assert_eq!(stand.memory.borrow()[3..7], [3, 50, 51, 6]);
        one.read(12, &mut []).unwrap();
        for (start, length) in [(10, 3), (12, 1), (u64::MAX, 2), (13, 0)] {
            let error = one.read(start, &mut vec![0; length]).unwrap_err();
            assert!(error.contains("12"), "{error}");
            assert_eq!(one.write(start, &vec![0; length]).unwrap_err(), error);
        }
        drop(one);
        assert_eq!(stand.open.get(), 1);
        drop(other);
        assert_eq!(stand.open.get(), 0);
    }

    #[test]
    fn what_fails_half_way_is_closed() {
        let refused = Stand::default();
        assert_eq!(Opened::new(&refused, &[0; 64]).err().unwrap(), "invalid resource handle");
        let lost = Stand { is_lost: true, ..Stand::default() };
        assert_eq!(Opened::new(&lost, &[7; 64]).err().unwrap(), "lost");
        // An allocation that ends before what it should hold.
        let short = Stand { memory: RefCell::new(vec![0; 3]), ..Stand::default() };
        assert!(Opened::new(&short, &[7; 64]).is_err());
        assert_eq!((refused.open.get(), lost.open.get(), short.open.get()), (0, 0, 0));
    }

    #[test]
    fn a_gpu_that_is_not_there_is_refused() {
        // Wherever this runs: no machine has so many.
        let fault = CudaIpcMemory::open(u16::MAX, &[0; 64]).unwrap_err();
        assert!(matches!(fault, CudaIpcFault::Gpu(ref reason) if !reason.is_empty()), "{fault}");
    }
}
