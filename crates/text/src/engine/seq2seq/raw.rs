//! Raw runs of a step's graph, as clients of the Open Inference Protocol ask for them.

use quintet_onnx::{ElementType, GraphInfo};
use quintet_open_inference::RawInput;

/// Why an input is refused: its name, and what is wrong with it.
type Fault = (String, String);

/// Refuses inputs that the graph's attention would not check: it trusts lengths, and would read and write beyond its buffers.
pub(super) fn check(info: &GraphInfo, inputs: &[RawInput]) -> Result<(), Fault> {
    let rows = find(info, inputs, "input_ids")?.1.shape.first().copied().unwrap_or(0);
    if rows == 0 {
        return Err(fault("input_ids", "a step needs a token at least"));
    }
    for (part, prefix) in [(".decoder.", ""), (".encoder.", "encoder_")] {
        let capacity = capacity(info, inputs, part, rows)?;
        let (lengths, total) = (format!("{prefix}seqlens_k"), format!("{prefix}total_sequence_length"));
        let held = numbers(info, inputs, &lengths)?;
        if held.len() != rows {
            return Err(fault(&lengths, &format!("{} values: each of {rows} rows needs one", held.len())));
        }
        if let Some(length) = held.iter().find(|length| !(0..capacity).contains(*length)) {
            return Err(fault(&lengths, &format!("{length}: must be 0 to {}, so that the new token fits the capacity", capacity - 1)));
        }
        let longest = held.iter().copied().max().unwrap_or(0) + 1;
        match numbers(info, inputs, &total)?.as_slice() {
            [value] if (longest..=capacity).contains(value) => (),
            values => return Err(fault(&total, &format!("{values:?}: must be one number of {longest} to {capacity}"))),
        }
    }
    Ok(())
}

/// The capacity that the buffers of a part have in common, of so many rows each.
fn capacity(info: &GraphInfo, inputs: &[RawInput], part: &str, rows: usize) -> Result<i64, Fault> {
    let mut capacity = None;
    for (input, raw) in info.inputs.iter().zip(inputs).filter(|(input, _)| input.name.contains(part)) {
        let &[buffers, _, length, _] = raw.shape.as_slice() else { return Err(fault(&input.name, "must be [rows, heads, capacity, head size]")) };
        if buffers != rows || length == 0 || capacity.is_some_and(|capacity| capacity != length) {
            return Err(fault(&input.name, &format!("{:?}: must have {rows} rows, and the capacity of the others", raw.shape)));
        }
        capacity = Some(length);
    }
    capacity.map(|capacity| capacity as i64).ok_or_else(|| fault(part, "the graph has no such buffers"))
}

fn find<'a>(info: &GraphInfo, inputs: &'a [RawInput], name: &str) -> Result<(ElementType, &'a RawInput), Fault> {
    let found = info.inputs.iter().zip(inputs).find(|(info, _)| info.name == name);
    found.map(|(info, raw)| (info.element, raw)).ok_or_else(|| fault(name, "it is missing"))
}

fn numbers(info: &GraphInfo, inputs: &[RawInput], name: &str) -> Result<Vec<i64>, Fault> {
    match find(info, inputs, name)? {
        (ElementType::I32, raw) => Ok(raw.bytes.as_chunks::<4>().0.iter().map(|bytes| i64::from(i32::from_le_bytes(*bytes))).collect()),
        _ => Err(fault(name, "must hold whole numbers of 32 bits")),
    }
}

fn fault(name: &str, description: &str) -> Fault {
    (name.to_owned(), description.to_owned())
}

#[cfg(test)]
mod tests {
    use quintet_onnx::TensorInfo;

    use super::*;

    /// Two rows of capacity 8, beside inputs of capacity 5.
    fn run(change: &[(&str, &[i32])]) -> Result<(), Fault> {
        let tensors: [(&str, &[usize], &[i32]); 7] = [
            ("input_ids", &[2], &[5, 6]),
            ("seqlens_k", &[2], &[0, 7]),
            ("total_sequence_length", &[], &[8]),
            ("encoder_seqlens_k", &[2], &[1, 4]),
            ("encoder_total_sequence_length", &[], &[5]),
            ("past_key_values.0.decoder.key", &[2, 1, 8, 1], &[0; 16]),
            ("past_key_values.0.encoder.key", &[2, 1, 5, 1], &[0; 10]),
        ];
        let (mut inputs, mut raw) = (Vec::new(), Vec::new());
        for (name, shape, values) in tensors {
            let values = change.iter().find(|(changed, _)| *changed == name).map_or(values, |(_, values)| values);
            inputs.push(TensorInfo { name: name.into(), element: ElementType::I32, shape: Vec::new(), symbols: Vec::new() });
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            raw.push(RawInput { shape: shape.to_vec(), bytes: bytes.into() });
        }
        check(&GraphInfo { file: "decoder_model.onnx".into(), inputs, outputs: Vec::new(), provider_nodes: std::collections::BTreeMap::new() }, &raw)
    }

    #[test]
    fn lengths_beyond_the_buffers_are_refused() {
        assert_eq!(run(&[]), Ok(()));
        for (name, value) in [
            ("seqlens_k", &[0, 8][..]),
            ("seqlens_k", &[-1, 0]),
            ("seqlens_k", &[0]),
            ("total_sequence_length", &[9]),
            ("total_sequence_length", &[7]),
            ("total_sequence_length", &[]),
            ("encoder_seqlens_k", &[1, 5]),
            ("encoder_total_sequence_length", &[4]),
            ("encoder_total_sequence_length", &[6]),
        ] {
            assert!(run(&[(name, value)]).is_err(), "{name} {value:?}");
        }
    }
}
