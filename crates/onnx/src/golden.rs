//! Golden pairs: inputs with the outputs that the reference implementation gave for them.
//!
//! They lie in a folder's `golden.npz` as `GRAPH/in/NAME` and `GRAPH/out/NAME`. Running them at load proves
//! that this library on this machine computes what was trained, and warms the session up.

use std::{collections::BTreeSet, fs::File};

use ndarray::{ArrayD, IxDyn};
use ndarray_npy::{NpzReader, ReadNpzError, ReadableElement};

use crate::{ElementType, Error, ModelFolder, Session, Tensor, npz};

/// The file that holds a folder's golden pairs.
pub const FILE: &str = "golden.npz";

/// Runs the graph's golden pair and compares its outputs. A folder that has none for the graph is an error:
/// nothing would show that the graph is right.
pub fn verify(folder: &ModelFolder, session: &mut Session) -> Result<(), Error> {
    let stem = session.graph().trim_end_matches(".onnx").to_owned();
    let broken = |reason: String| folder.broken(FILE, reason);
    let mut archive = npz::open(&folder.file(FILE)?).map_err(broken)?;
    let names: BTreeSet<String> =
        archive.names().map_err(|error| broken(error.to_string()))?.into_iter().map(|name| name.trim_end_matches(".npy").to_owned()).collect();

    let mut inputs = Vec::new();
    for info in session.inputs() {
        let entry = format!("{stem}/in/{}", info.name);
        if !names.contains(&entry) {
            return Err(broken(format!("the entry {entry} is missing")));
        }
        let tensor = read(&mut archive, &entry, info.element).map_err(|error| broken(format!("{entry}: {error}")))?;
        inputs.push((info.name.clone(), tensor));
    }
    let prefix = format!("{stem}/out/");
    let expected: Vec<String> = names.iter().filter_map(|name| name.strip_prefix(&prefix)).map(str::to_owned).collect();
    if expected.is_empty() {
        return Err(broken(format!("no entry {prefix}… says what the graph should give")));
    }

    for rows in &folder.manifest.serving.warm_up_rows {
        let repeated: Result<Vec<(&str, Tensor)>, Error> =
            inputs.iter().map(|(name, tensor)| tensor.repeated(*rows).map(|tensor| (name.as_str(), tensor))).collect();
        let repeated = repeated.map_err(|error| broken(format!("serving.warm_up_rows: {error}")))?;
        session.run(&repeated.iter().map(|(name, tensor)| (*name, tensor)).collect::<Vec<_>>())?;
    }
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let graph = session.graph().to_owned();
    let outputs = session.run(&inputs)?;
    for name in expected {
        let entry = format!("{prefix}{name}");
        let golden: ArrayD<f32> = archive.by_name(&entry).map_err(|error| broken(format!("{entry}: {error}")))?;
        let actual = outputs.f32(&name)?;
        if golden.shape() != actual.shape() {
            return Err(Error::tensor(name, format!("its shape is {:?}, the golden pair says {:?}", actual.shape(), golden.shape())));
        }
        let difference = golden.iter().zip(actual.iter()).map(|(a, b)| difference(f64::from(*a), f64::from(*b))).fold(0.0, f64::max);
        let limit = folder.manifest.golden_tolerance;
        if difference > limit {
            return Err(Error::GoldenMismatch { graph: format!("{}/{graph}", folder.name), output: name, difference, limit });
        }
    }
    Ok(())
}

/// Absolute below 1, relative above; infinite where one of the two is not a number.
fn difference(a: f64, b: f64) -> f64 {
    let difference = (a - b).abs() / a.abs().max(1.0);
    if difference.is_nan() { f64::INFINITY } else { difference }
}

fn read(archive: &mut NpzReader<File>, entry: &str, element: ElementType) -> Result<Tensor, ReadNpzError> {
    fn array<T: ReadableElement>(archive: &mut NpzReader<File>, entry: &str) -> Result<Tensor, ReadNpzError>
    where
        Tensor: From<ArrayD<T>>,
    {
        archive.by_name::<ndarray::OwnedRepr<T>, IxDyn>(entry).map(Tensor::from)
    }
    match element {
        ElementType::Bool => array::<bool>(archive, entry),
        ElementType::U8 => array::<u8>(archive, entry),
        ElementType::U16 => array::<u16>(archive, entry),
        ElementType::U32 => array::<u32>(archive, entry),
        ElementType::U64 => array::<u64>(archive, entry),
        ElementType::I8 => array::<i8>(archive, entry),
        ElementType::I16 => array::<i16>(archive, entry),
        ElementType::I32 => array::<i32>(archive, entry),
        ElementType::I64 => array::<i64>(archive, entry),
        ElementType::F64 => array::<f64>(archive, entry),
        // The .npy format has no 16-bit types that ndarray-npy reads; a graph with such inputs keeps its golden
        // values as 32-bit floats.
        ElementType::F32 => array::<f32>(archive, entry),
        ElementType::Text => Err(ReadNpzError::Zip(zip::result::ZipError::UnsupportedArchive("texts have no .npy form here"))),
        ElementType::F16 => archive.by_name::<ndarray::OwnedRepr<f32>, IxDyn>(entry).map(|array| Tensor::F16(array.mapv(half::f16::from_f32))),
        ElementType::Bf16 => archive.by_name::<ndarray::OwnedRepr<f32>, IxDyn>(entry).map(|array| Tensor::Bf16(array.mapv(half::bf16::from_f32))),
    }
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn differences_are_absolute_below_one_and_relative_above() {
        assert!((difference(0.5, 0.6) - 0.1).abs() < 1e-12);
        assert!((difference(200.0, 202.0) - 0.01).abs() < 1e-12);
        assert!(difference(f64::NAN, 1.0).is_infinite());
        assert!(difference(1.0, f64::INFINITY).is_infinite());
    }
}
