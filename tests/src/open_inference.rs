//! The Open Inference Protocol over the models' graphs.

use quintet_proto::inference::{
    InferTensorContents, ModelInferRequest, ModelMetadataRequest, ModelReadyRequest, ServerLiveRequest, ServerReadyRequest,
    grpc_inference_service_client::GrpcInferenceServiceClient, model_infer_request::InferInputTensor,
};
use tonic::Code;

use crate::harness::{Process, fields};

#[tokio::test(flavor = "multi_thread")]
async fn raw_and_typed_tensors_run_any_graph() {
    let process = Process::up(&[]);
    let mut client = GrpcInferenceServiceClient::new(process.channel().await);
    assert!(client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let name = "glyph-gan/generator";
    assert!(client.model_ready(ModelReadyRequest { name: name.into(), ..Default::default() }).await.unwrap().into_inner().ready);
    let metadata = client.model_metadata(ModelMetadataRequest { name: name.into(), ..Default::default() }).await.unwrap().into_inner();
    assert_eq!(metadata.inputs[0].shape, [-1, 64]);
    assert_eq!((metadata.inputs[1].datatype.as_str(), metadata.outputs[0].shape.as_slice()), ("INT64", &[-1, 1, 32, 32][..]));

    let input = |name: &str, datatype: &str, shape: &[i64]| InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        ..Default::default()
    };
    let z: Vec<f32> = (0..128).map(|index| (index as f32 * 0.37).sin()).collect();
    let raw = ModelInferRequest {
        model_name: name.into(),
        id: "7".into(),
        inputs: vec![input("z", "FP32", &[2, 64]), input("class", "INT64", &[2])],
        raw_input_contents: vec![
            z.iter().flat_map(|value| value.to_le_bytes()).collect(),
            [3i64, 9].iter().flat_map(|class| class.to_le_bytes()).collect(),
        ],
        ..Default::default()
    };
    let answer = client.model_infer(raw.clone()).await.unwrap().into_inner();
    assert_eq!(
        (answer.id.as_str(), answer.outputs[0].shape.as_slice(), answer.raw_output_contents[0].len()),
        ("7", &[2, 1, 32, 32][..], 2 * 32 * 32 * 4)
    );
    let mut typed = ModelInferRequest { raw_input_contents: Vec::new(), ..raw.clone() };
    typed.inputs[0].contents = Some(InferTensorContents { fp32_contents: z, ..Default::default() });
    typed.inputs[1].contents = Some(InferTensorContents { int64_contents: vec![3, 9], ..Default::default() });
    assert_eq!(client.model_infer(typed).await.unwrap().into_inner().raw_output_contents, answer.raw_output_contents);

    for (change, field) in [
        (ModelInferRequest { raw_input_contents: vec![vec![0; 8].into()], ..raw.clone() }, "raw_input_contents"),
        (ModelInferRequest { inputs: vec![input("z", "FP64", &[2, 64]), raw.inputs[1].clone()], ..raw.clone() }, "inputs[0].datatype"),
        (ModelInferRequest { inputs: vec![input("z", "FP32", &[2, 63]), raw.inputs[1].clone()], ..raw.clone() }, "inputs[0].shape"),
        (
            ModelInferRequest { inputs: vec![raw.inputs[0].clone()], raw_input_contents: raw.raw_input_contents[..1].to_vec(), ..raw.clone() },
            "inputs",
        ),
    ] {
        assert_eq!(fields(&client.model_infer(change).await.unwrap_err()), [field]);
    }
    let unknown = client.model_infer(ModelInferRequest { model_name: "glyph-gan".into(), ..raw }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("glyph-gan/generator"), "{unknown}");
    // Every service's graphs are there, the decoder's among them.
    for name in ["gpt-english", "restore-case/decoder_model", "all-minilm-l6-v2", "vae-digits/encoder", "glyph-classifier"] {
        assert!(client.model_ready(ModelReadyRequest { name: name.into(), ..Default::default() }).await.unwrap().into_inner().ready, "{name}");
    }
}
