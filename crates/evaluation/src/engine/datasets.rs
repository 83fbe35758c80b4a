//! The data sets that evaluations compare with.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use ndarray::{Array1, Array3, ArrayD, Axis};
use ndarray_npy::NpzReader;
use sha2::{Digest, Sha256};

use crate::Error;

/// A data set.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// How many images, samples or documents.
    pub size: usize,
    /// SHA-256 of its file, in hexadecimal.
    pub sha256: String,
    path: PathBuf,
}

/// What a data set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grey images with labels: `images.npz`.
    Images,
    /// Documents apart by blank lines: `text.txt`.
    Text,
    /// Samples, of which some are anomalies: `rows.npz`.
    LabelledSamples,
}

/// The file of each kind.
const FILES: [(&str, Kind); 3] = [("images.npz", Kind::Images), ("text.txt", Kind::Text), ("rows.npz", Kind::LabelledSamples)];

/// Finds the data sets in a folder, in order of name. A broken one is an error, or, with `keep_going`, left out.
pub fn scan(folder: &Path, keep_going: bool) -> Result<Vec<Dataset>, Error> {
    let unreadable = |error: std::io::Error| Error::Dataset { path: folder.to_owned(), reason: error.to_string() };
    let mut datasets = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        for (file, kind) in FILES {
            let path = entry.path().join(file);
            if !path.is_file() {
                continue;
            }
            match open(name.clone(), kind, path) {
                Ok(dataset) => datasets.push(dataset),
                Err(error) if keep_going => tracing::error!(%error, "a data set is left out"),
                Err(error) => return Err(error),
            }
        }
    }
    datasets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(datasets)
}

fn open(name: String, kind: Kind, path: PathBuf) -> Result<Dataset, Error> {
    let broken = |reason: String| Error::Dataset { path: path.clone(), reason };
    let mut hasher = Sha256::new();
    let mut file = File::open(&path).map_err(|error| broken(error.to_string()))?;
    let mut piece = vec![0; 1 << 16];
    loop {
        let length = file.read(&mut piece).map_err(|error| broken(error.to_string()))?;
        if length == 0 {
            break;
        }
        hasher.update(piece.get(..length).unwrap_or_default());
    }
    let mut dataset = Dataset { name, kind, size: 0, sha256: hex::encode(hasher.finalize()), path };
    dataset.size = match kind {
        Kind::Images => dataset.images()?.len(),
        Kind::Text => dataset.documents()?.len(),
        Kind::LabelledSamples => dataset.samples()?.1.len(),
    };
    if dataset.size == 0 {
        return Err(Error::Dataset { path: dataset.path, reason: "it is empty".to_owned() });
    }
    Ok(dataset)
}

/// Grey images, each in rows from the top, one byte a pixel.
#[derive(Clone, Debug)]
pub struct Images {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// The images.
    pub pixels: Vec<Vec<u8>>,
}

impl Images {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.pixels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }
}

impl Dataset {
    fn broken(&self, reason: &impl ToString) -> Error {
        Error::Dataset { path: self.path.clone(), reason: reason.to_string() }
    }

    fn archive(&self) -> Result<NpzReader<File>, Error> {
        let file = File::open(&self.path).map_err(|error| self.broken(&error))?;
        NpzReader::new(file).map_err(|error| self.broken(&error))
    }

    /// The images: the array `images`, uint8 [n, height, width].
    pub fn images(&self) -> Result<Images, Error> {
        let images: Array3<u8> = self.archive()?.by_name("images").map_err(|error| self.broken(&format!("images: {error}")))?;
        let (_, height, width) = images.dim();
        Ok(Images { width, height, pixels: images.axis_iter(Axis(0)).map(|image| image.iter().copied().collect()).collect() })
    }

    /// The documents.
    pub fn documents(&self) -> Result<Vec<String>, Error> {
        let text = std::fs::read_to_string(&self.path).map_err(|error| self.broken(&error))?;
        Ok(text.split("\n\n").map(str::trim).filter(|document| !document.is_empty()).map(str::to_owned).collect())
    }

    /// The samples, and which of them are anomalies: the arrays `x`, float32 [n, …], and `labels`, int64 [n].
    pub fn samples(&self) -> Result<(Vec<Vec<f32>>, Vec<bool>), Error> {
        let mut archive = self.archive()?;
        let x: ArrayD<f32> = archive.by_name("x").map_err(|error| self.broken(&format!("x: {error}")))?;
        let labels: Array1<i64> = archive.by_name("labels").map_err(|error| self.broken(&format!("labels: {error}")))?;
        if x.shape().first() != Some(&labels.len()) {
            return Err(self.broken(&format!("x has the shape {:?}, but there are {} labels", x.shape(), labels.len())));
        }
        Ok((x.axis_iter(Axis(0)).map(|row| row.iter().copied().collect()).collect(), labels.iter().map(|label| *label == 1).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_data_sets_are_whole() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/datasets");
        let datasets = scan(&folder, false).unwrap();
        let names: Vec<&str> = datasets.iter().map(|dataset| dataset.name.as_str()).collect();
        assert_eq!(names, ["breast-cancer-heldout", "digits-heldout", "glyph-defects-heldout", "glyphs-heldout", "kjv-heldout"]);
        assert!(datasets.iter().all(|dataset| dataset.sha256.len() == 64));
        assert_eq!(datasets[4].size, 59);
    }

    #[test]
    fn a_broken_one_is_named_or_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [("good", "one\n\ntwo\n"), ("empty", "\n")] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join("text.txt"), content).unwrap();
        }
        let fault = scan(folder.path(), false).unwrap_err().to_string();
        assert!(fault.contains("empty"), "{fault}");
        let left = scan(folder.path(), true).unwrap();
        assert_eq!((left.len(), left[0].size), (1, 2));
    }
}
