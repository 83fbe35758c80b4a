//! A graph's configuration, as Triton's clients read it: derived from the graph and its settings.

use quintet_onnx::TensorInfo;
use quintet_proto::inference::{
    ModelConfig, ModelDynamicBatching, ModelInput, ModelInstanceGroup, ModelOutput, ModelParameter, ModelResponseCache, ModelTransactionPolicy,
    ModelVersionPolicy,
    model_config::SchedulingChoice,
    model_instance_group::Kind,
    model_version_policy::{PolicyChoice, Specific},
};

use crate::{Graph, datatype};

/// The name of what runs the graphs.
pub(crate) const PLATFORM: &str = "onnxruntime_onnx";

pub(crate) fn config(name: &str, graph: &Graph) -> ModelConfig {
    let dims = |tensor: &TensorInfo| {
        let skipped = usize::from(graph.batches);
        tensor.shape.iter().skip(skipped).map(|size| size.map_or(-1, |size| size as i64)).collect::<Vec<i64>>()
    };
    let element = |tensor: &TensorInfo| i32::from(datatype::number(tensor.element));
    let limits = &graph.limits;
    let on_gpu = graph.info.provider_nodes.keys().any(|provider| provider.starts_with("CUDA"));
    let nodes = graph.info.provider_nodes.iter().map(|(provider, count)| (format!("nodes.{provider}"), count.to_string()));
    let about = graph.about.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
    ModelConfig {
        name: name.to_owned(),
        platform: PLATFORM.to_owned(),
        backend: "onnxruntime".to_owned(),
        version_policy: graph
            .version
            .parse()
            .ok()
            .map(|version| ModelVersionPolicy { policy_choice: Some(PolicyChoice::Specific(Specific { versions: vec![version] })) }),
        max_batch_size: if graph.batches { i32::try_from(limits.max_batch_cost).unwrap_or(i32::MAX) } else { 0 },
        input: graph.info.inputs.iter().map(|info| ModelInput { name: info.name.clone(), data_type: element(info), dims: dims(info) }).collect(),
        output: graph.info.outputs.iter().map(|info| ModelOutput { name: info.name.clone(), data_type: element(info), dims: dims(info) }).collect(),
        instance_group: vec![ModelInstanceGroup {
            name: graph.stem.clone(),
            count: i32::try_from(limits.instances).unwrap_or(i32::MAX),
            gpus: Vec::new(),
            kind: if on_gpu { Kind::Gpu } else { Kind::Cpu }.into(),
        }],
        default_model_filename: graph.info.file.clone(),
        scheduling_choice: graph.batches.then(|| {
            SchedulingChoice::DynamicBatching(ModelDynamicBatching {
                preferred_batch_size: limits.preferred_rows.iter().map(|rows| i32::try_from(*rows).unwrap_or(i32::MAX)).collect(),
                max_queue_delay_microseconds: u64::try_from(limits.max_delay.as_micros()).unwrap_or(u64::MAX),
                preserve_ordering: false,
                priority_levels: 9,
                default_priority_level: u64::from(quintet_serving::context::ORDINARY),
            })
        }),
        parameters: nodes.chain(about).map(|(key, string_value)| (key, ModelParameter { string_value })).collect(),
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: false }),
        response_cache: Some(ModelResponseCache { enable: false }),
    }
}
