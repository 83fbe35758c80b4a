//! What a request says, checked against what the graph says of itself.

use bytes::Bytes;
use quintet_onnx::{ElementType, TensorInfo};
use quintet_proto::inference::{InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor};

use crate::{
    Error, Graph, RawInput, datatype,
    memory::{Regions, Window},
};

/// The largest size of a dimension: the runtime's own indices are signed, and some are of 32 bits.
const MAX_DIMENSION: i64 = i32::MAX as i64;

/// Whether inputs lie in shared memory.
pub(crate) fn reads_regions(request: &ModelInferRequest) -> bool {
    request.inputs.iter().any(lies_in_region)
}

fn lies_in_region(input: &InferInputTensor) -> bool {
    input.parameters.contains_key("shared_memory_region")
}

/// The request's inputs, in the order of the graph's.
pub(crate) fn inputs(graph: &Graph, request: &mut ModelInferRequest, regions: &Regions) -> Result<Vec<RawInput>, Error> {
    let raw = std::mem::take(&mut request.raw_input_contents);
    // Tensors in shared memory have no raw contents.
    let unfilled = request.inputs.iter().filter(|input| input.contents.is_none() && !lies_in_region(input)).count();
    if !raw.is_empty() && raw.len() != unfilled {
        let description = format!("{} raw contents for {unfilled} inputs that have no others", raw.len());
        return Err(Error::invalid("raw_input_contents", description));
    }
    let mut raw_left = raw.iter();
    let mut given: Vec<Option<RawInput>> = graph.info.inputs.iter().map(|_| None).collect();
    for (index, input) in request.inputs.iter_mut().enumerate() {
        let Some(place) = graph.info.inputs.iter().position(|info| info.name == input.name) else {
            let known: Vec<&str> = graph.info.inputs.iter().map(|info| info.name.as_str()).collect();
            let description = format!("'{}' is not an input; there are: {}", input.name, known.join(", "));
            return Err(Error::invalid(format!("inputs[{index}].name"), description));
        };
        let (Some(info), Some(slot)) = (graph.info.inputs.get(place), given.get_mut(place)) else { return Err(Error::Ended) };
        if slot.is_some() {
            return Err(Error::invalid(format!("inputs[{index}].name"), format!("'{}' is given twice", input.name)));
        }
        let element = datatype::parse(&input.datatype).filter(|element| *element == info.element).ok_or_else(|| {
            let description = format!("'{}', but the input is of type {}", input.datatype, datatype::name(info.element));
            Error::invalid(format!("inputs[{index}].datatype"), description)
        })?;
        let shape = shape(index, input, info)?;
        let contents = input.contents.take();
        let window = Window::of(&input.parameters)?;
        let (bytes, is_typed) = match (window, contents) {
            (Some(window), None) => (regions.read(&window, byte_count(element, &shape))?, false),
            (Some(_), Some(_)) => return Err(Error::invalid(format!("inputs[{index}]"), "has contents and a shared memory region: one of them")),
            (None, Some(contents)) => (typed(index, element, &contents)?, true),
            (None, None) => {
                let missing = || Error::invalid(format!("inputs[{index}]"), "no contents: neither raw, typed nor in shared memory");
                (raw_left.next().ok_or_else(missing)?.clone(), false)
            }
        };
        fits(index, element, &shape, &bytes, is_typed)?;
        *slot = Some(RawInput { shape, bytes });
    }
    let mut inputs = Vec::with_capacity(given.len());
    for (info, input) in graph.info.inputs.iter().zip(given) {
        inputs.push(input.ok_or_else(|| Error::invalid("inputs", format!("the input '{}' is missing", info.name)))?);
    }
    Ok(inputs)
}

fn shape(index: usize, input: &InferInputTensor, info: &TensorInfo) -> Result<Vec<usize>, Error> {
    let expected = &info.shape;
    let within = |size: &i64| (0..=MAX_DIMENSION).contains(size).then_some(*size as usize);
    let shape: Option<Vec<usize>> = input.shape.iter().map(within).collect();
    shape
        .filter(|shape| {
            shape.len() == expected.len() && shape.iter().zip(expected).all(|(size, expected)| expected.is_none_or(|expected| *size == expected))
        })
        .ok_or_else(|| {
            let expected: Vec<i64> = expected.iter().map(|size| size.map_or(-1, |size| size as i64)).collect();
            let description = format!("{:?} does not fit {expected:?}, where -1 is any size from 0 to {MAX_DIMENSION}", input.shape);
            Error::invalid(format!("inputs[{index}].shape"), description)
        })
}

/// Bytes of a tensor of this shape; `None` for texts, which have no fixed size, and where there is no such number.
fn byte_count(element: ElementType, shape: &[usize]) -> Option<usize> {
    let count = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
    if element == ElementType::Text { None } else { count.checked_mul(element.size()) }
}

/// The most elements that a shape without bytes may have in its other dimensions: kernels allocate by them.
const MAX_EMPTY: usize = 1 << 16;

/// Whether the bytes fill the shape.
fn fits(index: usize, element: ElementType, shape: &[usize], bytes: &[u8], is_typed: bool) -> Result<(), Error> {
    let others = shape.iter().filter(|size| **size > 0).try_fold(1usize, |product, size| product.checked_mul(*size));
    if bytes.is_empty() && shape.contains(&0) && others.is_none_or(|others| others > MAX_EMPTY) {
        return Err(Error::invalid(
            format!("inputs[{index}].shape"),
            format!("{shape:?}: an empty tensor may have dimensions of {MAX_EMPTY} together"),
        ));
    }
    let field = if is_typed { format!("inputs[{index}].contents") } else { format!("inputs[{index}]") };
    let count = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    if element == ElementType::Text {
        let mut rest = bytes;
        let mut texts = 0usize;
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            let Some((text, after)) = after.split_at_checked(length) else {
                return Err(Error::invalid(field, format!("element {texts} says it has {length} bytes, {} are left", after.len())));
            };
            if let Err(error) = std::str::from_utf8(text) {
                return Err(Error::invalid(field, format!("element {texts} is not UTF-8: {error}")));
            }
            // The runtime takes texts as C does.
            if text.contains(&0) {
                return Err(Error::invalid(field, format!("element {texts} holds a zero byte, which the runtime's texts cannot")));
            }
            (rest, texts) = (after, texts + 1);
        }
        if !rest.is_empty() || count != Some(texts) {
            return Err(Error::invalid(field, format!("{texts} texts do not fill the shape {shape:?}")));
        }
        return Ok(());
    }
    if byte_count(element, shape) != Some(bytes.len()) {
        let description = format!("{} values do not fill the shape {shape:?}", bytes.len() as f64 / element.size().max(1) as f64);
        return Err(Error::invalid(field, description));
    }
    Ok(())
}

/// The bytes of typed contents: the field of the type holds all values.
fn typed(index: usize, element: ElementType, contents: &InferTensorContents) -> Result<Bytes, Error> {
    let field = || format!("inputs[{index}].contents");
    macro_rules! narrow {
        ($values:expr, $type:ty) => {{
            let values: Result<Vec<$type>, _> = $values.iter().map(|value| <$type>::try_from(*value)).collect();
            let values = values.map_err(|_| Error::invalid(field(), format!("a value is outside {} to {}", <$type>::MIN, <$type>::MAX)))?;
            values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()
        }};
    }
    macro_rules! wide {
        ($values:expr) => {
            $values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()
        };
    }
    let bytes = match element {
        ElementType::Bool => contents.bool_contents.iter().map(|value| u8::from(*value)).collect(),
        ElementType::I8 => narrow!(contents.int_contents, i8),
        ElementType::I16 => narrow!(contents.int_contents, i16),
        ElementType::I32 => wide!(contents.int_contents),
        ElementType::I64 => wide!(contents.int64_contents),
        ElementType::U8 => narrow!(contents.uint_contents, u8),
        ElementType::U16 => narrow!(contents.uint_contents, u16),
        ElementType::U32 => wide!(contents.uint_contents),
        ElementType::U64 => wide!(contents.uint64_contents),
        ElementType::F32 => wide!(contents.fp32_contents),
        ElementType::F64 => wide!(contents.fp64_contents),
        ElementType::Text => {
            let mut bytes = Vec::new();
            for text in &contents.bytes_contents {
                let length = u32::try_from(text.len()).map_err(|_| Error::invalid(field(), format!("a text of {} bytes", text.len())))?;
                bytes.extend_from_slice(&length.to_le_bytes());
                bytes.extend_from_slice(text);
            }
            bytes
        }
        ElementType::F16 | ElementType::Bf16 => {
            return Err(Error::invalid(field(), "16-bit floats can only be sent as raw_input_contents or in shared memory"));
        }
    };
    Ok(bytes.into())
}
