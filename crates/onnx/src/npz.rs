//! `NumPy` archives, opened with bounds: a small archive can unpack to more than any memory holds.

use std::{fs::File, path::Path};

use ndarray_npy::NpzReader;

/// The most bytes that an archive may unpack to.
const MAX_UNPACKED: u64 = 1 << 31;

/// Opens an archive, unless it would unpack to more than 2 GiB.
pub fn open(path: &Path) -> Result<NpzReader<File>, String> {
    let file = || File::open(path).map_err(|error| error.to_string());
    let mut archive = zip::ZipArchive::new(file()?).map_err(|error| error.to_string())?;
    let mut unpacked = 0u64;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|error| error.to_string())?;
        unpacked = unpacked.saturating_add(entry.size());
    }
    if unpacked > MAX_UNPACKED {
        return Err(format!("it unpacks to {unpacked} bytes: at most {MAX_UNPACKED}"));
    }
    NpzReader::new(file()?).map_err(|error| error.to_string())
}
