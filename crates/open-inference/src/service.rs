use quintet_onnx::{Session, Tensor, TensorInfo};
use quintet_proto::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse, ServerLiveRequest,
    ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
    grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer},
    model_metadata_response::TensorMetadata,
};
use quintet_serving::{component::Component, error::status, server::ServerConfig};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use crate::{Error, Graph, datatype, infer};

/// The full name of the protocol's service.
const NAME: &str = "inference.GRPCInferenceService";

/// Serves graphs under the Open Inference Protocol.
pub fn component(config: &ServerConfig, graphs: Vec<Graph>) -> Component {
    let server = GrpcInferenceServiceServer::new(Service { graphs })
        .max_decoding_message_size(config.max_request_bytes)
        .max_encoding_message_size(config.max_response_bytes);
    Component::new(NAME).register(move |routes| {
        routes.add_service(server);
    })
}

struct Service {
    graphs: Vec<Graph>,
}

impl Service {
    /// The graph called `name`: "MODEL/GRAPH", or "MODEL" where the model has one graph.
    fn find(&self, name: &str, version: &str) -> Result<&Graph, Error> {
        let mut of_model = self.graphs.iter().filter(|graph| graph.model == name);
        let graph = match (of_model.next(), of_model.next()) {
            (Some(graph), None) => Some(graph),
            _ => self.graphs.iter().find(|graph| graph.name() == name),
        };
        let graph = graph.ok_or_else(|| Error::UnknownGraph { name: name.to_owned(), known: self.graphs.iter().map(Graph::name).collect() })?;
        if version.is_empty() || version == graph.version {
            Ok(graph)
        } else {
            Err(Error::UnknownVersion { name: name.to_owned(), asked: version.to_owned(), loaded: graph.version.clone() })
        }
    }

    async fn infer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, Error> {
        let graph = self.find(&request.model_name, &request.model_version)?;
        let inputs = infer::inputs(graph, &request)?;
        let names = infer::outputs(graph, &request)?;
        let (answer, answered) = oneshot::channel();
        let job = move |session: &mut Session| drop(answer.send(run(session, &inputs, names)));
        // Held until the answer is there: when the client goes away, dropping it cancels the run.
        let guard = (graph.submit)(Box::new(job)).map_err(|_| Error::Full)?;
        let outputs = answered.await.map_err(|_| Error::Ended)??;
        drop(guard);
        Ok(infer::response(graph, &request, &outputs))
    }
}

fn run(session: &mut Session, inputs: &[(String, Tensor)], names: Vec<String>) -> Result<Vec<(String, Tensor)>, quintet_onnx::Error> {
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let outputs = session.run(&inputs)?;
    names.into_iter().map(|name| outputs.tensor(&name).map(|tensor| (name, tensor))).collect()
}

fn metadata(tensors: &[TensorInfo]) -> Vec<TensorMetadata> {
    tensors
        .iter()
        .map(|info| TensorMetadata {
            name: info.name.clone(),
            datatype: datatype::name(info.element).to_owned(),
            shape: info.shape.iter().map(|size| size.map_or(-1, |size| size as i64)).collect(),
        })
        .collect()
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: !self.graphs.is_empty() }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Result<Response<ModelReadyResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(ModelReadyResponse { ready: self.find(&request.name, &request.version).is_ok() }))
    }

    async fn server_metadata(&self, _: Request<ServerMetadataRequest>) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse {
            name: "quintet".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: Vec::new(),
        }))
    }

    async fn model_metadata(&self, request: Request<ModelMetadataRequest>) -> Result<Response<ModelMetadataResponse>, Status> {
        let request = request.into_inner();
        let graph = self.find(&request.name, &request.version).map_err(|error| status(&error))?;
        Ok(Response::new(ModelMetadataResponse {
            name: request.name,
            versions: vec![graph.version.clone()],
            platform: "onnxruntime_onnx".to_owned(),
            inputs: metadata(&graph.inputs),
            outputs: metadata(&graph.outputs),
        }))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
        self.infer(request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }
}
