//! Raw runs of a packed graph, as clients of the Open Inference Protocol ask for them.

use quintet_onnx::{ElementType, GraphInfo};
use quintet_open_inference::RawInput;

/// Why an input is refused: its name, and what is wrong with it.
type Fault = (String, String);

/// Refuses inputs that the graph's attention would not check: it trusts lengths and places, and would read and write beyond
/// its buffers.
pub(super) fn check(info: &GraphInfo, inputs: &[RawInput]) -> Result<(), Fault> {
    let given = Given { info, inputs };
    let tokens = given.shape("input_ids")?.first().copied().unwrap_or(0) as i64;
    let &[slots, width] = given.shape("pad_index")? else { return Err(fault("pad_index", "must be [slots, width]")) };
    let (slots_count, width) = (slots, width as i64);
    if tokens == 0 || slots == 0 || width == 0 {
        return Err(fault("input_ids", "a run needs a token, a slot and a width of one at least"));
    }
    let mut capacity = i64::MAX;
    for (input, raw) in info.inputs.iter().zip(inputs).filter(|(input, _)| input.name.starts_with("past_key_values.")) {
        let &[buffers, _, length, _] = raw.shape.as_slice() else { return Err(fault(&input.name, "must be [slots, heads, capacity, head size]")) };
        if buffers != slots_count || (capacity != i64::MAX && capacity != length as i64) {
            return Err(fault(&input.name, &format!("{:?}: must have {slots_count} slots, and the capacity of the others", raw.shape)));
        }
        capacity = length as i64;
    }
    given.within("pad_index", 0, tokens - 1)?;
    given.within("logit_index", 0, tokens - 1)?;
    given.within("unpad_index", 0, slots_count as i64 * width - 1)?;
    let lengths = given.values("seqlens_k")?;
    // Without this input, every slot has as many new tokens as the run is wide.
    let is_ragged = info.inputs.iter().any(|input| input.name == "query_seqlens");
    let new = if is_ragged { given.values("query_seqlens")? } else { vec![width; slots_count] };
    if lengths.len() != slots_count || new.len() != slots_count || given.values("unpad_index")?.len() as i64 != tokens {
        return Err(fault(
            "seqlens_k",
            &format!("it and query_seqlens need a value for each of {slots_count} slots, unpad_index one for each token"),
        ));
    }
    let mut longest = width;
    for (length, new) in lengths.iter().zip(&new) {
        // An idle slot counts one token.
        let total = length + 1;
        let past = total - new;
        if !(0..=width).contains(new) || past < 0 || past + width > capacity {
            let description = format!("{length} with {new} new tokens: past and width {width} must fit the capacity {capacity}");
            return Err(fault("seqlens_k", &description));
        }
        longest = longest.max(total);
    }
    given.within("total_sequence_length", longest, capacity)
}

/// Refuses every run of a graph whose lengths lie in its mask: nothing says how they reach the attention, which trusts them.
pub(super) fn refuse(_: &GraphInfo, _: &[RawInput]) -> Result<(), Fault> {
    Err(fault("attention_mask", "raw runs of a graph of onnxruntime-genai's builder are not served: ask the text service"))
}

struct Given<'a> {
    info: &'a GraphInfo,
    inputs: &'a [RawInput],
}

impl Given<'_> {
    fn find(&self, name: &str) -> Result<(ElementType, &RawInput), Fault> {
        let mut named = self.info.inputs.iter().zip(self.inputs);
        named.find(|(info, _)| info.name == name).map(|(info, raw)| (info.element, raw)).ok_or_else(|| fault(name, "it is missing"))
    }

    fn shape(&self, name: &str) -> Result<&[usize], Fault> {
        self.find(name).map(|(_, raw)| raw.shape.as_slice())
    }

    fn values(&self, name: &str) -> Result<Vec<i64>, Fault> {
        let (element, raw) = self.find(name)?;
        match element {
            ElementType::I64 => Ok(raw.bytes.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()),
            ElementType::I32 => Ok(raw.bytes.as_chunks::<4>().0.iter().map(|bytes| i64::from(i32::from_le_bytes(*bytes))).collect()),
            _ => Err(fault(name, "must hold whole numbers")),
        }
    }

    fn within(&self, name: &str, least: i64, most: i64) -> Result<(), Fault> {
        match self.values(name)?.iter().find(|value| !(least..=most).contains(*value)) {
            Some(value) => Err(fault(name, &format!("{value}: must be {least} to {most}"))),
            None => Ok(()),
        }
    }
}

fn fault(name: &str, description: &str) -> Fault {
    (name.to_owned(), description.to_owned())
}

#[cfg(test)]
mod tests {
    use quintet_onnx::TensorInfo;

    use super::*;

    /// One slot of capacity 8, two tokens of which one is new.
    fn run(change: &[(&str, &[i64])]) -> Result<(), Fault> {
        let tensors: [(&str, &[usize], &[i64]); 8] = [
            ("input_ids", &[1], &[5]),
            ("pad_index", &[1, 2], &[0, 0]),
            ("unpad_index", &[1], &[0]),
            ("logit_index", &[1], &[0]),
            ("seqlens_k", &[1], &[1]),
            ("total_sequence_length", &[], &[2]),
            ("query_seqlens", &[1], &[1]),
            ("past_key_values.0.key", &[1, 1, 8, 1], &[0; 8]),
        ];
        let (mut inputs, mut raw) = (Vec::new(), Vec::new());
        for (name, shape, values) in tensors {
            let values = change.iter().find(|(changed, _)| *changed == name).map_or(values, |(_, values)| values);
            inputs.push(TensorInfo { name: name.into(), element: ElementType::I64, shape: Vec::new(), symbols: Vec::new() });
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            raw.push(RawInput { shape: shape.to_vec(), bytes: bytes.into() });
        }
        check(&GraphInfo { file: "model.onnx".into(), inputs, outputs: Vec::new(), provider_nodes: std::collections::BTreeMap::new() }, &raw)
    }

    #[test]
    fn places_and_lengths_beyond_the_buffers_are_refused() {
        assert_eq!(run(&[]), Ok(()));
        assert_eq!(run(&[("seqlens_k", &[6]), ("total_sequence_length", &[7])]), Ok(()));
        for (name, value) in [
            ("pad_index", &[0, 1][..]),
            ("pad_index", &[-1, 0]),
            ("unpad_index", &[2]),
            ("logit_index", &[1]),
            ("seqlens_k", &[7]),
            ("seqlens_k", &[i64::from(i32::MAX)]),
            ("seqlens_k", &[-2]),
            ("query_seqlens", &[3]),
            ("query_seqlens", &[-1]),
            ("total_sequence_length", &[9]),
            ("total_sequence_length", &[1]),
        ] {
            assert!(run(&[(name, value)]).is_err(), "{name} {value:?}");
        }
    }
}
