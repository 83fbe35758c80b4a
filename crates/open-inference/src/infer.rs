//! Requests to tensors and tensors to responses.

use ndarray::{ArrayD, IxDyn};
use quintet_onnx::{ElementType, Tensor};
use quintet_proto::inference::{
    InferTensorContents, ModelInferRequest, ModelInferResponse, model_infer_request::InferInputTensor, model_infer_response::InferOutputTensor,
};

use crate::{Error, Graph, datatype};

/// The request's inputs, checked against what the graph says of its own.
pub(crate) fn inputs(graph: &Graph, request: &ModelInferRequest) -> Result<Vec<(String, Tensor)>, Error> {
    let raw = &request.raw_input_contents;
    if !raw.is_empty() && raw.len() != request.inputs.len() {
        let description = format!("{} raw contents for {} inputs: all inputs are raw or none is", raw.len(), request.inputs.len());
        return Err(Error::invalid("raw_input_contents", description));
    }
    let mut tensors: Vec<(String, Tensor)> = Vec::with_capacity(request.inputs.len());
    for (index, input) in request.inputs.iter().enumerate() {
        let field = format!("inputs[{index}]");
        let Some(info) = graph.inputs.iter().find(|info| info.name == input.name) else {
            let known: Vec<&str> = graph.inputs.iter().map(|info| info.name.as_str()).collect();
            return Err(Error::invalid(format!("{field}.name"), format!("'{}' is not an input; there are: {}", input.name, known.join(", "))));
        };
        if tensors.iter().any(|(name, _)| *name == input.name) {
            return Err(Error::invalid(format!("{field}.name"), format!("'{}' is given twice", input.name)));
        }
        let element = datatype::parse(&input.datatype)
            .ok_or_else(|| Error::invalid(format!("{field}.datatype"), format!("'{}' is not a type that graphs use here", input.datatype)))?;
        if element != info.element {
            let description = format!("'{}', but the input is of type {}", input.datatype, datatype::name(info.element));
            return Err(Error::invalid(format!("{field}.datatype"), description));
        }
        let shape = shape(&field, input, &info.shape)?;
        let tensor = match raw.get(index) {
            Some(bytes) => Tensor::from_le_bytes(&input.name, element, &shape, bytes)?,
            None => typed(&field, element, &shape, input.contents.as_ref())?,
        };
        tensors.push((input.name.clone(), tensor));
    }
    for info in &graph.inputs {
        if !tensors.iter().any(|(name, _)| *name == info.name) {
            return Err(Error::invalid("inputs", format!("the input '{}' is missing", info.name)));
        }
    }
    Ok(tensors)
}

fn shape(field: &str, input: &InferInputTensor, expected: &[Option<usize>]) -> Result<Vec<usize>, Error> {
    let shape: Option<Vec<usize>> = input.shape.iter().map(|size| usize::try_from(*size).ok()).collect();
    shape
        .filter(|shape| {
            shape.len() == expected.len() && shape.iter().zip(expected).all(|(size, expected)| expected.is_none_or(|expected| *size == expected))
        })
        .ok_or_else(|| {
            let expected: Vec<i64> = expected.iter().map(|size| size.map_or(-1, |size| size as i64)).collect();
            Error::invalid(format!("{field}.shape"), format!("{:?} does not fit {expected:?}, where -1 is any size", input.shape))
        })
}

/// A tensor from typed contents: the field of its type holds all its values.
fn typed(field: &str, element: ElementType, shape: &[usize], contents: Option<&InferTensorContents>) -> Result<Tensor, Error> {
    let empty = InferTensorContents::default();
    let contents = contents.unwrap_or(&empty);
    let fits = |given: usize| -> Result<(), Error> {
        let expected = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        if expected == Some(given) {
            Ok(())
        } else {
            Err(Error::invalid(format!("{field}.contents"), format!("{given} values do not fill the shape {shape:?}")))
        }
    };
    macro_rules! take {
        ($values:expr) => {{
            let values = $values;
            fits(values.len())?;
            Tensor::from(
                ArrayD::from_shape_vec(IxDyn(shape), values.clone()).map_err(|error| Error::invalid(format!("{field}.shape"), error.to_string()))?,
            )
        }};
    }
    macro_rules! narrow {
        ($values:expr, $type:ty) => {{
            let values: Result<Vec<$type>, _> = $values.iter().map(|value| <$type>::try_from(*value)).collect();
            let values = values
                .map_err(|_| Error::invalid(format!("{field}.contents"), format!("a value is outside {} to {}", <$type>::MIN, <$type>::MAX)))?;
            take!(&values)
        }};
    }
    Ok(match element {
        ElementType::Bool => take!(&contents.bool_contents),
        ElementType::I8 => narrow!(contents.int_contents, i8),
        ElementType::I16 => narrow!(contents.int_contents, i16),
        ElementType::I32 => take!(&contents.int_contents),
        ElementType::I64 => take!(&contents.int64_contents),
        ElementType::U8 => narrow!(contents.uint_contents, u8),
        ElementType::U16 => narrow!(contents.uint_contents, u16),
        ElementType::U32 => take!(&contents.uint_contents),
        ElementType::U64 => take!(&contents.uint64_contents),
        ElementType::F32 => take!(&contents.fp32_contents),
        ElementType::F64 => take!(&contents.fp64_contents),
        ElementType::F16 | ElementType::Bf16 => {
            return Err(Error::invalid(format!("{field}.contents"), "16-bit floats can only be sent as raw_input_contents"));
        }
    })
}

/// The names of the outputs asked for: all of the graph's where none is named.
pub(crate) fn outputs(graph: &Graph, request: &ModelInferRequest) -> Result<Vec<String>, Error> {
    let all = || graph.outputs.iter().map(|info| info.name.clone());
    if request.outputs.is_empty() {
        return Ok(all().collect());
    }
    request
        .outputs
        .iter()
        .enumerate()
        .map(|(index, output)| {
            if graph.outputs.iter().any(|info| info.name == output.name) {
                Ok(output.name.clone())
            } else {
                let known: Vec<String> = all().collect();
                Err(Error::invalid(format!("outputs[{index}].name"), format!("'{}' is not an output; there are: {}", output.name, known.join(", "))))
            }
        })
        .collect()
}

/// A response with raw contents.
pub(crate) fn response(graph: &Graph, request: &ModelInferRequest, outputs: &[(String, Tensor)]) -> ModelInferResponse {
    ModelInferResponse {
        model_name: request.model_name.clone(),
        model_version: graph.version.clone(),
        id: request.id.clone(),
        outputs: outputs
            .iter()
            .map(|(name, tensor)| InferOutputTensor {
                name: name.clone(),
                datatype: datatype::name(tensor.element_type()).to_owned(),
                shape: tensor.shape().iter().map(|size| *size as i64).collect(),
                ..InferOutputTensor::default()
            })
            .collect(),
        raw_output_contents: outputs.iter().map(|(_, tensor)| tensor.to_le_bytes().into()).collect(),
        ..ModelInferResponse::default()
    }
}
