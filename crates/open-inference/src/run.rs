//! One run of a graph for a batch of requests: rows together, answers apart.

use std::{ops::Range, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use quintet_batching::apart;
use quintet_onnx::{ElementType, Error as OnnxError, GraphInfo, Session, Tensor, TensorInfo};

use crate::{
    Error, RawInput,
    graph::{Answer, Call},
    statistics::{Statistics, Timing},
};

/// An output of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Output {
    pub(crate) element: ElementType,
    pub(crate) shape: Vec<usize>,
    /// Its elements as little-endian bytes, row by row; texts each after their length.
    pub(crate) bytes: Bytes,
}

/// Runs the calls together; where that fails, each by itself, so that each has its own outcome.
pub(crate) fn batch(session: &mut Session, info: &GraphInfo, calls: &[Call], statistics: &Statistics) -> Vec<Answer> {
    let begun = Instant::now();
    statistics.queued(calls.iter().map(|call| begun.saturating_duration_since(call.since)));
    let run = |calls: &[Call]| together(session, info, calls, statistics).map_err(Arc::new);
    apart(calls, run, |error| matches!(**error, OnnxError::Cancelled))
}

fn together(session: &mut Session, info: &GraphInfo, calls: &[Call], statistics: &Statistics) -> Result<Vec<Vec<Output>>, OnnxError> {
    let begun = Instant::now();
    let rows: usize = calls.iter().map(|call| call.rows).sum();
    let tensors: Vec<(&str, Tensor)> = info
        .inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            stacked(input, calls.iter().filter_map(|call| call.inputs.get(index)), rows).map(|tensor| (input.name.as_str(), tensor))
        })
        .collect::<Result<_, _>>()?;
    let inputs: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let prepared = Instant::now();
    let outputs = session.run(&inputs)?;
    let ran = Instant::now();
    let mut answers: Vec<Vec<Output>> = calls.iter().map(|_| Vec::with_capacity(info.outputs.len())).collect();
    for output in &info.outputs {
        let (element, shape, bytes) = outputs.le_bytes(&output.name)?;
        let whole = Output { element, shape, bytes: bytes.into() };
        if let [only] = answers.as_mut_slice() {
            only.push(whole);
            continue;
        }
        // A graph that does not keep rows apart is run for each request by itself.
        if whole.shape.first() != Some(&rows) {
            let reason = format!("its shape is {:?} for {rows} rows", whole.shape);
            return Err(OnnxError::Tensor { name: output.name.clone(), reason });
        }
        let sizes: Vec<usize> = calls.iter().map(|call| call.rows).collect();
        let broken = || OnnxError::Tensor { name: output.name.clone(), reason: "its rows cannot be told apart".to_owned() };
        let parts = apart_by_rows(&whole, &sizes).ok_or_else(broken)?;
        answers.iter_mut().zip(parts).for_each(|(answer, part)| answer.push(part));
    }
    statistics.ran(rows, calls.len(), Timing { input: prepared - begun, infer: ran - prepared, output: ran.elapsed() });
    Ok(answers)
}

/// The requests' values of one input, one after the other.
fn stacked<'a>(info: &TensorInfo, mut inputs: impl Iterator<Item = &'a RawInput>, rows: usize) -> Result<Tensor, OnnxError> {
    let missing = || OnnxError::Tensor { name: info.name.clone(), reason: "it is missing".to_owned() };
    let first = inputs.next().ok_or_else(missing)?;
    let Some(second) = inputs.next() else {
        return Tensor::from_le_bytes(&info.name, info.element, &first.shape, &first.bytes);
    };
    let mut shape = first.shape.clone();
    if let Some(size) = shape.first_mut() {
        *size = rows;
    }
    let mut bytes = Vec::with_capacity(first.bytes.len() * rows);
    [first, second].into_iter().chain(inputs).for_each(|input| bytes.extend_from_slice(&input.bytes));
    Tensor::from_le_bytes(&info.name, info.element, &shape, &bytes)
}

/// An input in pieces of so many rows, without a copy.
pub(crate) fn pieces(info: &TensorInfo, input: &RawInput, rows_each: usize) -> Result<Vec<RawInput>, Error> {
    let rows = input.shape.first().copied().unwrap_or(0);
    let sizes: Vec<usize> = (0..rows).step_by(rows_each.max(1)).map(|start| rows_each.min(rows - start)).collect();
    let broken = || Error::invalid(info.name.clone(), "its values do not fill its shape");
    let ranges = byte_ranges(info.element, &input.shape, &input.bytes, &sizes).ok_or_else(broken)?;
    let piece = |(range, rows): (Range<usize>, usize)| RawInput { shape: with_rows(&input.shape, rows), bytes: input.bytes.slice(range) };
    Ok(ranges.into_iter().zip(sizes).map(piece).collect())
}

/// An output apart, without a copy: so many rows for each.
fn apart_by_rows(whole: &Output, sizes: &[usize]) -> Option<Vec<Output>> {
    let ranges = byte_ranges(whole.element, &whole.shape, &whole.bytes, sizes)?;
    let part = |(range, rows): (Range<usize>, &usize)| Output {
        element: whole.element,
        shape: with_rows(&whole.shape, *rows),
        bytes: whole.bytes.slice(range),
    };
    Some(ranges.into_iter().zip(sizes).map(part).collect())
}

fn with_rows(shape: &[usize], rows: usize) -> Vec<usize> {
    std::iter::once(rows).chain(shape.iter().skip(1).copied()).collect()
}

/// Where rows lie among a tensor's bytes: so many after so many. In one pass, since texts must be walked through.
fn byte_ranges(element: ElementType, shape: &[usize], bytes: &[u8], sizes: &[usize]) -> Option<Vec<Range<usize>>> {
    let row = shape.get(1..)?.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
    let mut start = 0usize;
    sizes
        .iter()
        .map(|rows| {
            let elements = row.checked_mul(*rows)?;
            let end = if element == ElementType::Text {
                (0..elements).try_fold(start, |at, _| {
                    let (length, _) = bytes.get(at..)?.split_first_chunk::<4>()?;
                    at.checked_add(4)?.checked_add(u32::from_le_bytes(*length) as usize)
                })?
            } else {
                start.checked_add(elements.checked_mul(element.size())?)?
            };
            let range = start..end;
            start = end;
            (end <= bytes.len()).then_some(range)
        })
        .collect()
}

/// Puts the answers of a request's pieces together.
pub(crate) fn join(pieces: Vec<Vec<Output>>) -> Result<Vec<Output>, Error> {
    let mut pieces = pieces.into_iter();
    let mut whole = pieces.next().ok_or(Error::Ended)?;
    let rest: Vec<Vec<Output>> = pieces.collect();
    for (index, output) in whole.iter_mut().enumerate() {
        let parts = || rest.iter().filter_map(|piece| piece.get(index));
        let mut bytes = BytesMut::with_capacity(output.bytes.len() + parts().map(|part| part.bytes.len()).sum::<usize>());
        bytes.extend_from_slice(&output.bytes);
        parts().for_each(|part| bytes.extend_from_slice(&part.bytes));
        if let Some(rows) = output.shape.first_mut() {
            *rows += parts().filter_map(|part| part.shape.first()).sum::<usize>();
        }
        output.bytes = bytes.freeze();
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f32], shape: &[usize]) -> Output {
        Output { element: ElementType::F32, shape: shape.to_vec(), bytes: bytemuck::cast_slice::<f32, u8>(values).to_vec().into() }
    }

    #[test]
    fn rows_come_apart_and_together_again() {
        let whole = floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[3, 2]);
        let parts = apart_by_rows(&whole, &[1, 2]).unwrap();
        assert_eq!((parts[0].clone(), parts[1].shape.as_slice()), (floats(&[1.0, 2.0], &[1, 2]), &[2, 2][..]));
        assert_eq!(join(parts.into_iter().map(|part| vec![part]).collect()).unwrap(), std::slice::from_ref(&whole));
        assert!(apart_by_rows(&whole, &[2, 2]).is_none());
    }

    #[test]
    fn an_input_is_cut_into_pieces() {
        let info = TensorInfo { name: "x".into(), element: ElementType::U8, shape: vec![None], symbols: Vec::new() };
        let input = RawInput { shape: vec![5], bytes: Bytes::from_static(&[1, 2, 3, 4, 5]) };
        let cut: Vec<Vec<u8>> = pieces(&info, &input, 2).unwrap().into_iter().map(|piece| piece.bytes.to_vec()).collect();
        assert_eq!(cut, [vec![1, 2], vec![3, 4], vec![5]]);
    }

    #[test]
    fn rows_of_texts_are_found_by_their_lengths() {
        let texts = [&b"\x01\0\0\0a"[..], b"\0\0\0\0", b"\x02\0\0\0bc", b"\x01\0\0\0d"].concat();
        let whole = Output { element: ElementType::Text, shape: vec![2, 2], bytes: texts.into() };
        let parts = apart_by_rows(&whole, &[1, 1]).unwrap();
        assert_eq!(&parts[0].bytes[..], b"\x01\0\0\0a\0\0\0\0");
        assert_eq!(&parts[1].bytes[..], b"\x02\0\0\0bc\x01\0\0\0d");
        let broken = Output { bytes: Bytes::from_static(b"\xff\0\0\0a"), ..whole };
        assert!(apart_by_rows(&broken, &[1]).is_none());
    }
}
