//! A download under way on the disk.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use sha2::{Digest, Sha256};

use crate::{
    Error,
    cache::{Cache, blocking},
};

/// So much is gathered before it is written.
const PIECE: usize = 1 << 20;

/// A download under way: its file, locked, and the hash of what is in it.
pub(crate) struct Partial {
    cache: Cache,
    hash: String,
    path: PathBuf,
    disk: Arc<Mutex<Disk>>,
    /// The bytes that are written.
    written: u64,
    /// Those that are not yet.
    pending: Vec<u8>,
    /// The bytes that there will be, as far as is known.
    pub(crate) declared: u64,
}

struct Disk {
    file: File,
    hasher: Sha256,
    length: u64,
}

impl Disk {
    /// Reads what is there.
    fn resume(mut file: File) -> std::io::Result<Self> {
        let (mut hasher, mut length, mut piece) = (Sha256::new(), 0, vec![0; PIECE]);
        file.seek(SeekFrom::Start(0))?;
        loop {
            let read = file.read(&mut piece)?;
            if read == 0 {
                return Ok(Self { file, hasher, length });
            }
            hasher.update(piece.get(..read).unwrap_or_default());
            length += read as u64;
        }
    }

    fn write(&mut self, piece: &[u8]) -> std::io::Result<()> {
        if let Err(error) = self.file.write_all(piece) {
            // A part of it may have been written: the file must stay what the hash is of.
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::End(0))?;
            return Err(error);
        }
        self.hasher.update(piece);
        self.length += piece.len() as u64;
        Ok(())
    }

    fn clear(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        (self.hasher, self.length) = (Sha256::new(), 0);
        Ok(())
    }
}

impl Partial {
    /// Goes on with what is in a file, which is locked.
    pub(crate) async fn resume(cache: &Cache, hash: &str, file: File) -> Result<Self, Error> {
        let path = cache.partial(hash);
        let disk = blocking(|| Disk::resume(file)).await.map_err(Error::cache("reading", &path))?;
        let written = disk.length;
        Ok(Self {
            cache: cache.clone(),
            hash: hash.to_owned(),
            path,
            disk: Arc::new(Mutex::new(disk)),
            written,
            pending: Vec::new(),
            declared: written,
        })
    }

    /// How many bytes there are.
    pub(crate) fn length(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Takes a piece. True: some of it was written to the disk.
    pub(crate) async fn push(&mut self, piece: &[u8]) -> Result<bool, Error> {
        self.pending.extend_from_slice(piece);
        let full = self.pending.len() >= PIECE;
        if full {
            self.flush().await?;
        }
        Ok(full)
    }

    /// Writes what is gathered.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        let piece = std::mem::take(&mut self.pending);
        let length = piece.len() as u64;
        let outcome = self.on_disk("writing", move |disk| disk.write(&piece)).await;
        let missing = self.declared.saturating_sub(self.written);
        outcome.map_err(|error| error.or_disk_full(self.cache.root(), missing))?;
        self.written += length;
        Ok(())
    }

    /// Starts over.
    pub(crate) async fn clear(&mut self) -> Result<(), Error> {
        (self.written, self.pending) = (0, Vec::new());
        self.on_disk("emptying", Disk::clear).await
    }

    /// The SHA-256 of what is written.
    pub(crate) fn hash(&self) -> String {
        let disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        hex::encode(disk.hasher.clone().finalize())
    }

    /// Makes it a blob.
    pub(crate) async fn adopt(self) -> Result<(), Error> {
        let adopt = move || self.cache.adopt(&self.hash, &self.disk.lock().unwrap_or_else(PoisonError::into_inner).file);
        blocking(adopt).await
    }

    /// Removes it.
    pub(crate) fn discard(self) -> Result<(), Error> {
        crate::cache::remove(&self.path)
    }

    async fn on_disk(&self, doing: &'static str, work: impl FnOnce(&mut Disk) -> std::io::Result<()> + Send + 'static) -> Result<(), Error> {
        let disk = self.disk.clone();
        blocking(move || work(&mut disk.lock().unwrap_or_else(PoisonError::into_inner))).await.map_err(Error::cache(doing, &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_disk_is_noticed_and_leaves_what_the_hash_is_of() {
        // A device that is always full.
        let mut disk = Disk { file: File::options().write(true).open("/dev/full").unwrap(), hasher: Sha256::new(), length: 0 };
        let error = disk.file.write_all(b"x").unwrap_err();
        let error = Error::cache("writing", "x")(error).or_disk_full("/cache", 1);
        assert!(matches!(error, Error::DiskFull { .. }), "{error}");
        assert!(disk.write(b"x").is_err());
        assert_eq!(hex::encode(disk.hasher.finalize()), hex::encode(Sha256::digest(b"")));
    }

    #[tokio::test]
    async fn what_is_there_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let hash = hex::encode(Sha256::digest(b"abcdef"));
        std::fs::write(cache.partial(&hash), "abc").unwrap();
        let file = crate::lock::try_exclusive(&cache.partial(&hash)).unwrap().unwrap();
        let mut partial = Partial::resume(&cache, &hash, file).await.unwrap();
        assert_eq!(partial.length(), 3);
        partial.push(b"def").await.unwrap();
        partial.flush().await.unwrap();
        assert_eq!(partial.hash(), hash);
        partial.adopt().await.unwrap();
        assert_eq!(cache.check(&hash).unwrap(), Some(6));
        assert!(!cache.partial(&hash).exists());
    }
}
