//! The data sets that evaluations compare with: `NAME/images.npz`, `NAME/text.txt` or `NAME/rows.npz`.

use std::{
    fmt,
    io::Cursor,
    path::{Path, PathBuf},
    sync::Arc,
};

use ndarray::{ArrayD, IxDyn, OwnedRepr};
use ndarray_npy::{NpzReader, ReadableElement};
use sha2::{Digest, Sha256};

use crate::Error;

/// A data set, read and ready.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Its name: its folder's.
    pub name: String,
    /// The SHA-256 of its file, in hexadecimal.
    pub sha256: String,
    /// What is in it.
    pub data: Data,
}

/// What a data set holds.
#[derive(Clone, Debug)]
pub enum Data {
    /// Images, each with a class.
    Images(Arc<Images>),
    /// Documents of text.
    Text(Arc<Vec<String>>),
    /// Samples labelled normal or anomalous.
    Rows(Arc<Rows>),
}

/// What kind of data a data set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Images, each with a class.
    Images,
    /// Documents of text.
    Text,
    /// Samples labelled normal or anomalous.
    Rows,
}

/// Images of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// How many.
    pub count: usize,
    /// Channels, height and width.
    pub shape: [usize; 3],
    /// A byte for each pixel and channel: image by image, rows from the top, channels interleaved.
    pub pixels: Vec<u8>,
}

/// Labelled samples of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// How many numbers a sample has.
    pub width: usize,
    /// Sample by sample, in the client's own units.
    pub values: Vec<f32>,
    /// Whether each sample is an anomaly.
    pub anomalous: Vec<bool>,
}

impl Kind {
    /// The name of the file that holds such data.
    pub fn file(self) -> &'static str {
        match self {
            Self::Images => "images.npz",
            Self::Text => "text.txt",
            Self::Rows => "rows.npz",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Images => "images",
            Self::Text => "text",
            Self::Rows => "labelled samples",
        })
    }
}

impl Dataset {
    /// What kind of data it holds.
    pub fn kind(&self) -> Kind {
        match self.data {
            Data::Images(_) => Kind::Images,
            Data::Text(_) => Kind::Text,
            Data::Rows(_) => Kind::Rows,
        }
    }

    /// How many images, documents or samples.
    pub fn size(&self) -> usize {
        match &self.data {
            Data::Images(images) => images.count,
            Data::Text(documents) => documents.len(),
            Data::Rows(rows) => rows.anomalous.len(),
        }
    }

    /// What metrics call it: "NAME/FILE".
    pub fn id(&self) -> String {
        format!("{}/{}", self.name, self.kind().file())
    }

    fn open(name: String, folder: &Path) -> Result<Self, Error> {
        let kinds = [Kind::Images, Kind::Text, Kind::Rows];
        let found: Vec<Kind> = kinds.into_iter().filter(|kind| folder.join(kind.file()).is_file()).collect();
        let [kind] = *found else {
            let reason = format!("it must hold exactly one of {}, and holds {}", kinds.map(Kind::file).join(", "), found.len());
            return Err(Error::Dataset { path: folder.to_owned(), reason });
        };
        let path = folder.join(kind.file());
        let broken = |reason: String| Error::Dataset { path: path.clone(), reason };
        let bytes = std::fs::read(&path).map_err(|error| broken(error.to_string()))?;
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let data = match kind {
            Kind::Images => images(bytes).map(|images| Data::Images(Arc::new(images))),
            Kind::Text => documents(bytes).map(|documents| Data::Text(Arc::new(documents))),
            Kind::Rows => rows(bytes).map(|rows| Data::Rows(Arc::new(rows))),
        };
        Ok(Self { name, sha256, data: data.map_err(broken)? })
    }
}

/// The data sets of a folder.
#[derive(Clone, Debug)]
pub struct Catalog {
    datasets: Vec<Dataset>,
}

impl Catalog {
    /// Reads every data set of the folder. A broken one ends the whole, or, with `keep_going`, is reported and left out.
    pub fn open(path: &Path, keep_going: bool) -> Result<Self, Error> {
        let mut datasets = Vec::new();
        let folders = match subfolders(path) {
            Ok(folders) => folders,
            Err(error) if keep_going => {
                tracing::error!(path = %path.display(), %error, "there are no data sets");
                Vec::new()
            }
            Err(error) => return Err(Error::Dataset { path: path.to_owned(), reason: error.to_string() }),
        };
        for (name, folder) in folders {
            match Dataset::open(name, &folder) {
                Ok(dataset) => datasets.push(dataset),
                Err(error) if keep_going => tracing::error!(%error, "a data set is left out"),
                Err(error) => return Err(error),
            }
        }
        Ok(Self { datasets })
    }

    /// All data sets, in order of name.
    pub fn all(&self) -> &[Dataset] {
        &self.datasets
    }

    /// The names of those of a kind.
    pub fn names(&self, kind: Kind) -> Vec<String> {
        self.datasets.iter().filter(|dataset| dataset.kind() == kind).map(|dataset| dataset.name.clone()).collect()
    }

    /// A data set of a kind; an empty name means the only one.
    pub fn find(&self, kind: Kind, name: &str) -> Result<&Dataset, Error> {
        let mut of_kind = self.datasets.iter().filter(|dataset| dataset.kind() == kind);
        let unknown = || Error::Unknown { what: kind_of(kind), name: name.to_owned(), known: self.names(kind) };
        if name.is_empty() {
            let first = of_kind.next().ok_or_else(unknown)?;
            return match of_kind.next() {
                None => Ok(first),
                Some(_) => Err(Error::invalid("dataset", format!("empty, and there are several: name one of {}", self.names(kind).join(", ")))),
            };
        }
        of_kind.find(|dataset| dataset.name == name).ok_or_else(unknown)
    }
}

fn kind_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Images => "data set of images",
        Kind::Text => "data set of text",
        Kind::Rows => "data set of labelled samples",
    }
}

fn subfolders(path: &Path) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.path().is_dir()
            && let Some(name) = entry.file_name().to_str()
            && !name.starts_with('.')
        {
            found.push((name.to_owned(), entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

type Archive = NpzReader<Cursor<Vec<u8>>>;

fn archive(bytes: Vec<u8>) -> Result<Archive, String> {
    NpzReader::new(Cursor::new(bytes)).map_err(|error| error.to_string())
}

fn entry<T: ReadableElement>(archive: &mut Archive, name: &str) -> Result<ArrayD<T>, String> {
    archive.by_name::<OwnedRepr<T>, IxDyn>(name).map_err(|error| format!("{name}: {error}"))
}

fn images(bytes: Vec<u8>) -> Result<Images, String> {
    let mut archive = archive(bytes)?;
    let images: ArrayD<u8> = entry(&mut archive, "images")?;
    let labels: ArrayD<i64> = entry(&mut archive, "labels")?;
    let (count, shape) = match *images.shape() {
        [count, height, width] => (count, [1, height, width]),
        [count, height, width, channels] => (count, [channels, height, width]),
        _ => return Err(format!("images: the shape is {:?}: must be [N, height, width] or [N, height, width, channels]", images.shape())),
    };
    if count < 2 || shape.contains(&0) {
        return Err(format!("images: the shape is {:?}: at least 2 images with pixels are needed", images.shape()));
    }
    if labels.shape() != [count] {
        return Err(format!("labels: the shape is {:?}: must be [{count}], one for each image", labels.shape()));
    }
    Ok(Images { count, shape, pixels: images.iter().copied().collect() })
}

/// Documents are separated by blank lines.
fn documents(bytes: Vec<u8>) -> Result<Vec<String>, String> {
    let text = String::from_utf8(bytes).map_err(|error| error.to_string())?.replace("\r\n", "\n");
    let documents: Vec<String> =
        text.split("\n\n").map(|document| document.trim_matches('\n')).filter(|document| !document.trim().is_empty()).map(str::to_owned).collect();
    if documents.is_empty() { Err("there is no text".to_owned()) } else { Ok(documents) }
}

fn rows(bytes: Vec<u8>) -> Result<Rows, String> {
    let mut archive = archive(bytes)?;
    let samples: ArrayD<f32> = entry(&mut archive, "x")?;
    let labels: ArrayD<i64> = entry(&mut archive, "labels")?;
    let count = samples.shape().first().copied().unwrap_or_default();
    if count == 0 || samples.is_empty() {
        return Err(format!("x: the shape is {:?}: there are no samples", samples.shape()));
    }
    if labels.shape() != [count] {
        return Err(format!("labels: the shape is {:?}: must be [{count}], one for each sample", labels.shape()));
    }
    if let Some(label) = labels.iter().find(|label| !matches!(**label, 0 | 1)) {
        return Err(format!("labels: {label}: must be 0 for a normal, 1 for an anomaly"));
    }
    if samples.iter().any(|value| !value.is_finite()) {
        return Err("x: a value is not finite".to_owned());
    }
    let anomalous: Vec<bool> = labels.iter().map(|label| *label == 1).collect();
    if anomalous.iter().all(|label| *label) || !anomalous.contains(&true) {
        return Err("labels: there must be normals and anomalies".to_owned());
    }
    Ok(Rows { width: samples.len() / count, values: samples.iter().copied().collect(), anomalous })
}

#[cfg(test)]
mod tests;
