//! Outputs to a response: sent raw, written to shared memory, or ranked.

use quintet_onnx::{ElementType, Tensor};
use quintet_proto::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse, infer_parameter::ParameterChoice as Choice,
    model_infer_request::InferRequestedOutputTensor, model_infer_response::InferOutputTensor,
};

use crate::{
    Error, Graph, datatype,
    memory::{Regions, Window},
    parameters,
    run::Output,
};

/// An output that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Its place among the graph's outputs.
    place: usize,
    /// Where it is to be written; `None`: it is sent.
    window: Option<Window>,
    /// How many of the highest values are asked for, in place of all.
    classes: Option<usize>,
}

/// The outputs asked for: all of the graph's where none is named.
pub(crate) fn wanted(graph: &Graph, request: &ModelInferRequest) -> Result<Vec<Wanted>, Error> {
    if request.outputs.is_empty() {
        return Ok((0..graph.info.outputs.len()).map(|place| Wanted { place, window: None, classes: None }).collect());
    }
    request.outputs.iter().enumerate().map(|(index, output)| one(graph, index, output)).collect()
}

fn one(graph: &Graph, index: usize, output: &InferRequestedOutputTensor) -> Result<Wanted, Error> {
    let Some(place) = graph.info.outputs.iter().position(|info| info.name == output.name) else {
        let known: Vec<&str> = graph.info.outputs.iter().map(|info| info.name.as_str()).collect();
        let description = format!("'{}' is not an output; there are: {}", output.name, known.join(", "));
        return Err(Error::invalid(format!("outputs[{index}].name"), description));
    };
    let classes = parameters::number(&output.parameters, "classification")?.filter(|classes| *classes > 0);
    Ok(Wanted { place, window: Window::of(&output.parameters)?, classes: classes.map(|classes| usize::try_from(classes).unwrap_or(usize::MAX)) })
}

/// Whether some are to be written to shared memory.
pub(crate) fn writes_regions(wanted: &[Wanted]) -> bool {
    wanted.iter().any(|wanted| wanted.window.is_some())
}

/// Bytes of what will be sent for so many rows, as far as the graph's shapes tell.
pub(crate) fn expected_bytes(graph: &Graph, wanted: &[Wanted], rows: usize) -> usize {
    let of = |wanted: &Wanted| {
        let info = graph.info.outputs.get(wanted.place).filter(|_| wanted.window.is_none() && wanted.classes.is_none())?;
        let first = info.shape.first().copied().flatten().unwrap_or(rows);
        let rest = info.shape.iter().skip(1).try_fold(1usize, |product, size| product.checked_mul((*size)?));
        first.checked_mul(rest?)?.checked_mul(info.element.size())
    };
    wanted.iter().filter_map(of).fold(0, usize::saturating_add)
}

/// The response, with what was asked for of a run's outputs.
pub(crate) fn response(
    graph: &Graph,
    request: &ModelInferRequest,
    wanted: &[Wanted],
    outputs: &[Output],
    regions: &Regions,
) -> Result<ModelInferResponse, Error> {
    let mut response = ModelInferResponse {
        model_name: request.model_name.clone(),
        model_version: graph.version.clone(),
        id: request.id.clone(),
        ..ModelInferResponse::default()
    };
    for Wanted { place, window, classes } in wanted {
        let (Some(info), Some(output)) = (graph.info.outputs.get(*place), outputs.get(*place)) else { return Err(Error::Ended) };
        let ranked = classes.map(|classes| ranked(&info.name, output, graph.batches, classes)).transpose()?;
        let output = ranked.as_ref().unwrap_or(output);
        let mut message = InferOutputTensor {
            name: info.name.clone(),
            datatype: datatype::name(output.element).to_owned(),
            shape: output.shape.iter().map(|size| *size as i64).collect(),
            ..InferOutputTensor::default()
        };
        // Clients count raw contents by output, so one that lies in shared memory has an empty one.
        let raw = match window {
            None => output.bytes.clone(),
            Some(window) => {
                regions.write(window, &output.bytes)?;
                let parameter = |choice| InferParameter { parameter_choice: Some(choice) };
                message.parameters.insert("shared_memory_region".into(), parameter(Choice::StringParam(window.region().to_owned())));
                message.parameters.insert("shared_memory_byte_size".into(), parameter(Choice::Int64Param(output.bytes.len() as i64)));
                if window.offset() > 0 {
                    message.parameters.insert("shared_memory_offset".into(), parameter(Choice::Int64Param(window.offset() as i64)));
                }
                bytes::Bytes::new()
            }
        };
        response.outputs.push(message);
        response.raw_output_contents.push(raw);
    }
    Ok(response)
}

/// The highest values of each row, or of the whole, as texts "VALUE:INDEX".
fn ranked(name: &str, output: &Output, by_rows: bool, classes: usize) -> Result<Output, Error> {
    let values = values(name, output)?;
    let rows = if by_rows { output.shape.first().copied().unwrap_or(1) } else { 1 };
    let length = values.len().checked_div(rows).unwrap_or(0);
    let classes = classes.min(length);
    let mut bytes = Vec::new();
    for row in values.chunks(length.max(1)).take(rows) {
        let mut order: Vec<usize> = (0..row.len()).collect();
        let value = |index: &usize| row.get(*index).copied().unwrap_or(f64::NEG_INFINITY);
        order.sort_by(|a, b| value(b).total_cmp(&value(a)).then(a.cmp(b)));
        for index in order.iter().take(classes) {
            let text = format!("{:.6}:{index}", value(index));
            bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    let shape = if by_rows { vec![rows, classes] } else { vec![classes] };
    Ok(Output { element: ElementType::Text, shape, bytes: bytes.into() })
}

fn values(name: &str, output: &Output) -> Result<Vec<f64>, Error> {
    let tensor = Tensor::from_le_bytes(name, output.element, &output.shape, &output.bytes).map_err(|error| Error::Run(error.into()))?;
    Ok(match tensor {
        Tensor::F32(array) => array.iter().map(|value| f64::from(*value)).collect(),
        Tensor::F64(array) => array.into_iter().collect(),
        Tensor::I64(array) => array.iter().map(|value| *value as f64).collect(),
        Tensor::I32(array) => array.iter().map(|value| f64::from(*value)).collect(),
        Tensor::U8(array) => array.iter().map(|value| f64::from(*value)).collect(),
        other => {
            let description = format!("'{name}' is of type {}: only numbers of 32 and 64 bits can be ranked", datatype::name(other.element_type()));
            return Err(Error::invalid("parameters[classification]", description));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_values_of_each_row_are_ranked() {
        let bytes = bytemuck::cast_slice::<f32, u8>(&[0.5, 2.0, 2.0, -1.0, f32::NAN, 7.0]).to_vec();
        let output = Output { element: ElementType::F32, shape: vec![2, 3], bytes: bytes.into() };
        let ranked = ranked("logits", &output, true, 2).unwrap();
        assert_eq!(ranked.shape, [2, 2]);
        let Tensor::Text(texts) = Tensor::from_le_bytes("x", ElementType::Text, &[2, 2], &ranked.bytes).unwrap() else { panic!() };
        assert_eq!(texts.into_iter().collect::<Vec<_>>(), ["2.000000:1", "2.000000:2", "NaN:1", "7.000000:2"]);
        let whole = super::ranked("logits", &output, false, 99).unwrap();
        assert_eq!(whole.shape, [6]);
    }
}
