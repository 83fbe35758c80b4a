//! System shared memory: POSIX shared memory objects of this machine.
//!
//! An object is read and written through its file, not mapped: a client that shrinks it meanwhile gets an error, where a mapping
//! would end the process.

use std::{
    fs::File,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use super::{Fault, Memory};
use crate::Error;

/// Where the system keeps POSIX shared memory objects.
pub(super) const FOLDER: &str = "/dev/shm";

/// An object, from an offset on.
#[derive(Debug)]
pub(super) struct Object {
    file: File,
    offset: u64,
}

impl Object {
    /// Opens the object of this key, which must have so many bytes from the offset on.
    pub(super) fn open(folder: &Path, key: &str, offset: u64, size: u64) -> Result<Self, Error> {
        // As shm_open has it: a slash, and none after it.
        let plain = key.strip_prefix('/').unwrap_or(key);
        if plain.is_empty() || plain.len() > 255 || plain.starts_with('.') || plain.contains(['/', '\\', '\0']) {
            return Err(Error::invalid("key", format!("'{key}' is not the key of a shared memory object")));
        }
        let path = folder.join(plain);
        let unusable = |reason: String| Error::invalid("key", format!("'{key}': {reason}"));
        let kind = std::fs::symlink_metadata(&path).map_err(|error| unusable(error.to_string()))?;
        if !kind.is_file() {
            return Err(unusable("it is not a shared memory object".to_owned()));
        }
        // Whoever puts a link in the object's place after the look at it gets an error.
        let file = File::options().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(&path);
        let file = file.map_err(|error| unusable(error.to_string()))?;
        let length = file.metadata().map_err(|error| unusable(error.to_string()))?.len();
        if size == 0 || offset.checked_add(size).is_none_or(|end| end > length) {
            return Err(Error::invalid("byte_size", format!("{size} from {offset} on: the object '{key}' has {length} bytes")));
        }
        Ok(Self { file, offset })
    }
}

impl Memory for Object {
    fn read(&self, start: u64, into: &mut [u8]) -> Result<(), Fault> {
        self.file.read_exact_at(into, self.offset + start).map_err(|error| gone(&error))
    }

    fn write(&self, start: u64, from: &[u8]) -> Result<(), Fault> {
        self.file.write_all_at(from, self.offset + start).map_err(|error| gone(&error))
    }
}

fn gone(error: &std::io::Error) -> Fault {
    Fault::Client(format!("the object behind it has shrunk or gone: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_nothing_but_a_shared_memory_object() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("object"), [0; 8]).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        for (key, offset, size) in [
            ("../object", 0, 1),
            ("/a/b", 0, 1),
            ("", 0, 1),
            ("/", 0, 1),
            (".hidden", 0, 1),
            ("link", 0, 1),
            ("none", 0, 1),
            ("object", 0, 9),
            ("object", u64::MAX, 2),
            ("object", 0, 0),
        ] {
            assert!(Object::open(folder.path(), key, offset, size).is_err(), "{key} {offset} {size}");
        }
        assert!(Object::open(folder.path(), "/object", 2, 6).is_ok());
    }
}
