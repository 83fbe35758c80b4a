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
    calls.iter().for_each(|call| statistics.queued(begun.saturating_duration_since(call.since)));
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
        let mut start = 0;
        for (answer, call) in answers.iter_mut().zip(calls) {
            answer.push(slice(&whole, start..start + call.rows)?);
            start += call.rows;
        }
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

/// Some rows of an output, without a copy.
fn slice(whole: &Output, rows: Range<usize>) -> Result<Output, OnnxError> {
    let broken = || OnnxError::Tensor { name: "output".to_owned(), reason: "its rows cannot be told apart".to_owned() };
    let bytes = byte_range(whole.element, &whole.shape, &whole.bytes, &rows).ok_or_else(broken)?;
    let mut shape = whole.shape.clone();
    if let Some(size) = shape.first_mut() {
        *size = rows.len();
    }
    Ok(Output { element: whole.element, shape, bytes: whole.bytes.slice(bytes) })
}

/// Some rows of an input, without a copy.
pub(crate) fn rows_of(info: &TensorInfo, input: &RawInput, rows: Range<usize>) -> Result<RawInput, Error> {
    let broken = || Error::invalid(info.name.clone(), "its values do not fill its shape");
    let bytes = byte_range(info.element, &input.shape, &input.bytes, &rows).ok_or_else(broken)?;
    let mut shape = input.shape.clone();
    if let Some(size) = shape.first_mut() {
        *size = rows.len();
    }
    Ok(RawInput { shape, bytes: input.bytes.slice(bytes) })
}

/// Where some rows of a tensor lie among its bytes.
fn byte_range(element: ElementType, shape: &[usize], bytes: &[u8], rows: &Range<usize>) -> Option<Range<usize>> {
    let row = shape.get(1..)?.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
    if element != ElementType::Text {
        let row = row.checked_mul(element.size())?;
        let range = row.checked_mul(rows.start)?..row.checked_mul(rows.end)?;
        return (range.end <= bytes.len()).then_some(range);
    }
    let (mut at, mut start) = (0usize, 0usize);
    for text in 0..row.checked_mul(rows.end)? {
        if text == row * rows.start {
            start = at;
        }
        let (length, _) = bytes.get(at..)?.split_first_chunk::<4>()?;
        at = at.checked_add(4)?.checked_add(u32::from_le_bytes(*length) as usize)?;
    }
    (at <= bytes.len()).then(|| if rows.is_empty() || row == 0 { at..at } else { start..at })
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
        let (head, tail) = (slice(&whole, 0..1).unwrap(), slice(&whole, 1..3).unwrap());
        assert_eq!((head.clone(), tail.shape.as_slice()), (floats(&[1.0, 2.0], &[1, 2]), &[2, 2][..]));
        assert_eq!(join(vec![vec![head], vec![tail]]).unwrap(), [whole.clone()]);
        assert!(slice(&whole, 2..4).is_err());
    }

    #[test]
    fn rows_of_texts_are_found_by_their_lengths() {
        let texts = [&b"\x01\0\0\0a"[..], b"\0\0\0\0", b"\x02\0\0\0bc", b"\x01\0\0\0d"].concat();
        let whole = Output { element: ElementType::Text, shape: vec![2, 2], bytes: texts.into() };
        assert_eq!(&slice(&whole, 0..1).unwrap().bytes[..], b"\x01\0\0\0a\0\0\0\0");
        assert_eq!(&slice(&whole, 1..2).unwrap().bytes[..], b"\x02\0\0\0bc\x01\0\0\0d");
        let broken = Output { bytes: Bytes::from_static(b"\xff\0\0\0a"), ..whole };
        assert!(slice(&broken, 0..1).is_err());
    }
}
