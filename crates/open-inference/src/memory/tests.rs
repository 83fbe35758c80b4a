use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use quintet_onnx::{CudaIpcFault, CudaIpcHandle};
use tempfile::TempDir;

use super::*;

/// GPUs in this process's memory: each handle of one repeated byte from 1 on stands for as many bytes of GPU 0.
#[derive(Debug, Default)]
struct Stand {
    /// How many there are; none stands for a machine without a driver.
    gpus: u16,
    open: Arc<AtomicUsize>,
    /// Whether copies fail.
    is_lost: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Allocation {
    bytes: Mutex<Vec<u8>>,
    open: Arc<AtomicUsize>,
    is_lost: Arc<AtomicBool>,
}

impl Gpus for Stand {
    fn count(&self) -> Result<u16, String> {
        if self.gpus == 0 { Err("the GPU's driver is not there".to_owned()) } else { Ok(self.gpus) }
    }

    fn open(&self, gpu: u16, handle: &CudaIpcHandle) -> Result<(Arc<dyn Memory>, u64), CudaIpcFault> {
        if gpu > 0 {
            return Err(CudaIpcFault::Gpu("out of memory".to_owned()));
        }
        if handle[0] == 0 || handle.iter().any(|byte| *byte != handle[0]) {
            return Err(CudaIpcFault::Handle("invalid resource handle".to_owned()));
        }
        self.open.fetch_add(1, Ordering::SeqCst);
        let bytes = Mutex::new((0..handle[0]).collect());
        let allocation = Allocation { bytes, open: Arc::clone(&self.open), is_lost: Arc::clone(&self.is_lost) };
        Ok((Arc::new(allocation), u64::from(handle[0])))
    }
}

impl Allocation {
    fn check(&self) -> Result<(), Fault> {
        if self.is_lost.load(Ordering::SeqCst) { Err(Fault::Machine("the GPU has fallen off the bus".to_owned())) } else { Ok(()) }
    }
}

impl Memory for Allocation {
    fn read(&self, start: u64, into: &mut [u8]) -> Result<(), Fault> {
        self.check()?;
        into.copy_from_slice(&self.bytes.lock().unwrap()[start as usize..][..into.len()]);
        Ok(())
    }

    fn write(&self, start: u64, from: &[u8]) -> Result<(), Fault> {
        self.check()?;
        self.bytes.lock().unwrap()[start as usize..][..from.len()].copy_from_slice(from);
        Ok(())
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Regions over a folder with an object of 8 bytes, and over these GPUs.
fn regions(gpus: Stand) -> (TempDir, Regions) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("object"), [1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    let regions = Regions { folder: folder.path().into(), gpus: Arc::new(gpus), by_name: Arc::default() };
    (folder, regions)
}

fn window(region: &str, offset: u64, size: u64) -> Window {
    Window { region: region.into(), offset, size }
}

fn field(error: &Error) -> &str {
    match error {
        Error::Invalid { field, .. } => field,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_region_holds_is_read_and_written_within_it() {
    let (folder, regions) = regions(Stand::default());
    regions.register_system("r", "/object", 2, 6).unwrap();
    assert_eq!(&regions.read(&window("r", 1, 3), Some(3)).unwrap()[..], [4, 5, 6]);
    regions.write(&window("r", 0, 2), &[9, 9]).unwrap();
    assert_eq!(std::fs::read(folder.path().join("object")).unwrap(), [1, 2, 9, 9, 5, 6, 7, 8]);
    assert!(regions.write(&window("r", 0, 2), &[9; 3]).is_err());
    assert!(regions.read(&window("r", 0, 3), Some(4)).is_err());
    for outside in [window("r", 4, 3), window("r", u64::MAX, 2), window("r", 7, 0), window("s", 0, 1)] {
        assert!(regions.read(&outside, None).is_err(), "{outside:?}");
    }
    assert!(matches!(regions.register_system("r", "object", 0, 1), Err(Error::Exists(_))));
    // The client may shrink its object at any time.
    std::fs::write(folder.path().join("object"), [1]).unwrap();
    assert_eq!(field(&regions.read(&window("r", 0, 6), Some(6)).unwrap_err()), "shared_memory_region");
    regions.unregister(Kind::System, "");
    assert!(regions.status(Kind::System, "").unwrap().is_empty() && regions.status(Kind::System, "r").is_err());
}

#[test]
fn a_gpus_memory_is_read_and_written_within_the_region() {
    let gpus = Stand { gpus: 1, ..Stand::default() };
    let (open, is_lost) = (Arc::clone(&gpus.open), Arc::clone(&gpus.is_lost));
    let (_folder, regions) = regions(gpus);
    // Less than what the handle stands for: the rest is not the region's.
    regions.register_cuda("g", &[10; 64], 0, 8).unwrap();
    assert_eq!(&regions.read(&window("g", 5, 3), Some(3)).unwrap()[..], [5, 6, 7]);
    regions.write(&window("g", 6, 2), &[60, 70]).unwrap();
    assert_eq!(&regions.read(&window("g", 4, 4), None).unwrap()[..], [4, 5, 60, 70]);
    for (offset, size) in [(0, 9), (8, 1), (7, 2), (u64::MAX, 2)] {
        assert_eq!(field(&regions.read(&window("g", offset, size), None).unwrap_err()), "shared_memory_byte_size");
        assert_eq!(field(&regions.write(&window("g", offset, size), &[1]).unwrap_err()), "shared_memory_byte_size");
    }
    assert_eq!(field(&regions.write(&window("g", 0, 2), &[1; 3]).unwrap_err()), "shared_memory_byte_size");
    assert_eq!(&regions.read(&window("g", 0, 8), None).unwrap()[..], [0, 1, 2, 3, 4, 5, 60, 70]);
    is_lost.store(true, Ordering::SeqCst);
    for error in [regions.read(&window("g", 0, 1), None).unwrap_err(), regions.write(&window("g", 0, 1), &[1]).unwrap_err()] {
        assert!(matches!(&error, Error::SharedMemory(text) if text.contains("'g'") && text.contains("bus")), "{error}");
    }
    assert_eq!(open.load(Ordering::SeqCst), 1);
}

#[test]
fn what_is_not_a_gpus_memory_is_refused_and_stays_closed() {
    let gpus = Stand { gpus: 2, ..Stand::default() };
    let open = Arc::clone(&gpus.open);
    let (_folder, regions) = regions(gpus);
    let half = [[4; 32], [5; 32]].concat();
    for (name, handle, device, size, wrong) in [
        ("", &[9; 64][..], 0, 1, "name"),
        ("g", &[9; 63], 0, 1, "raw_handle"),
        ("g", &[], 0, 1, "raw_handle"),
        ("g", &half, 0, 1, "raw_handle"),
        ("g", &[9; 64], -1, 1, "device_id"),
        ("g", &[9; 64], 2, 1, "device_id"),
        ("g", &[9; 64], i64::MAX, 1, "device_id"),
        ("g", &[9; 64], 0, 0, "byte_size"),
        ("g", &[9; 64], 0, 10, "byte_size"),
        ("g", &[9; 64], 0, u64::MAX, "byte_size"),
    ] {
        assert_eq!(field(&regions.register_cuda(name, handle, device, size).unwrap_err()), wrong, "{device} {size}");
    }
    assert!(matches!(regions.register_cuda("g", &[9; 64], 1, 1), Err(Error::SharedMemory(text)) if text.contains("out of memory")));
    assert!(regions.status(Kind::Cuda, "").unwrap().is_empty());
    assert_eq!(open.load(Ordering::SeqCst), 0);
}

#[test]
fn without_a_driver_there_is_a_way_out() {
    let (_folder, regions) = regions(Stand::default());
    let Err(Error::Unsupported(text)) = regions.register_cuda("g", &[9; 64], 0, 1) else { panic!("it must be refused") };
    assert!(text.contains("driver is not there") && text.contains("system shared memory"), "{text}");
    assert!(!regions.take_cuda());
}

#[test]
fn both_kinds_share_their_names_and_are_listed_and_forgotten_apart() {
    let gpus = Stand { gpus: 1, ..Stand::default() };
    let open = Arc::clone(&gpus.open);
    let (_folder, regions) = regions(gpus);
    assert!(regions.take_cuda());
    regions.register_system("s", "object", 2, 4).unwrap();
    regions.register_cuda("g", &[9; 64], 0, 5).unwrap();
    regions.register_cuda("same memory", &[9; 64], 0, 9).unwrap();
    assert!(matches!(regions.register_cuda("s", &[9; 64], 0, 1), Err(Error::Exists(_))));
    assert!(matches!(regions.register_cuda("g", &[9; 64], 0, 1), Err(Error::Exists(_))));
    assert!(matches!(regions.register_system("g", "object", 0, 1), Err(Error::Exists(_))));
    assert_eq!(open.load(Ordering::SeqCst), 2, "what is refused is not held open");
    let system = Listed { place: Place::System { key: "object".into(), offset: 2 }, size: 4 };
    assert_eq!(regions.status(Kind::System, "").unwrap(), BTreeMap::from([("s".to_owned(), system)]));
    let cuda = Listed { place: Place::Cuda { gpu: 0 }, size: 5 };
    assert_eq!(regions.status(Kind::Cuda, "g").unwrap(), BTreeMap::from([("g".to_owned(), cuda)]));
    assert_eq!(regions.status(Kind::Cuda, "").unwrap().len(), 2);
    assert!(regions.status(Kind::Cuda, "s").is_err() && regions.status(Kind::System, "g").is_err());
    regions.unregister(Kind::System, "g");
    assert!(regions.status(Kind::Cuda, "g").is_ok(), "it is of the other kind");
    regions.unregister(Kind::Cuda, "g");
    assert_eq!(open.load(Ordering::SeqCst), 1);
    assert_eq!(field(&regions.read(&window("g", 0, 1), None).unwrap_err()), "shared_memory_region");
    regions.unregister(Kind::Cuda, "");
    assert_eq!(open.load(Ordering::SeqCst), 0);
    assert!(regions.status(Kind::Cuda, "").unwrap().is_empty() && regions.status(Kind::System, "s").is_ok());
}

#[test]
fn memory_stays_open_for_who_uses_it() {
    let gpus = Stand { gpus: 1, ..Stand::default() };
    let open = Arc::clone(&gpus.open);
    let (_folder, regions) = regions(gpus);
    regions.register_cuda("g", &[9; 64], 0, 9).unwrap();
    let in_use = regions.find(&window("g", 0, 9)).unwrap();
    regions.unregister(Kind::Cuda, "g");
    assert_eq!(open.load(Ordering::SeqCst), 1);
    in_use.memory.write(0, &[1]).unwrap();
    drop(in_use);
    assert_eq!(open.load(Ordering::SeqCst), 0);
}

#[test]
fn the_list_is_bounded() {
    let (_folder, regions) = regions(Stand { gpus: 1, ..Stand::default() });
    for index in 0..MAX_REGIONS {
        regions.register_cuda(&index.to_string(), &[1; 64], 0, 1).unwrap();
    }
    assert!(matches!(regions.register_cuda("more", &[1; 64], 0, 1), Err(Error::Regions { limit: MAX_REGIONS })));
    assert!(matches!(regions.register_system("more", "object", 0, 1), Err(Error::Regions { .. })));
    regions.unregister(Kind::Cuda, "7");
    regions.register_system("more", "object", 0, 1).unwrap();
}
