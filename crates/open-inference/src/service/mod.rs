//! The protocol's rpcs.

mod infer;
mod logs;
mod repository;
mod sharing;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::Stream;
use quintet_onnx::{Control, Error as OnnxError, Fleet, Hosting, Repository, Runtime, TensorInfo};
use quintet_proto::inference::{
    CudaSharedMemoryRegisterRequest, CudaSharedMemoryRegisterResponse, CudaSharedMemoryStatusRequest, CudaSharedMemoryStatusResponse,
    CudaSharedMemoryUnregisterRequest, CudaSharedMemoryUnregisterResponse, LogSettingsRequest, LogSettingsResponse, ModelConfigRequest,
    ModelConfigResponse, ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
    ModelStatistics, ModelStatisticsRequest, ModelStatisticsResponse, ModelStreamInferResponse, RepositoryIndexRequest, RepositoryIndexResponse,
    RepositoryModelLoadRequest, RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse, ServerLiveRequest,
    ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse, SystemSharedMemoryRegisterRequest,
    SystemSharedMemoryRegisterResponse, SystemSharedMemoryStatusRequest, SystemSharedMemoryStatusResponse, SystemSharedMemoryUnregisterRequest,
    SystemSharedMemoryUnregisterResponse, TraceSettingRequest, TraceSettingResponse,
    grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer},
    model_metadata_response::TensorMetadata,
};
use quintet_serving::{
    component::Component,
    config::TracesConfig,
    error::status,
    server::{Server, ServerConfig},
};
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status, Streaming, codec::CompressionEncoding};

use self::{repository::Management, sharing::Sharing};
use crate::{
    Error, Host, config, datatype,
    host::{Found, Hosts},
    plain_models,
};

/// The full name of the protocol's service.
const NAME: &str = "inference.GRPCInferenceService";

/// The rpcs that change what the process is, or reach into the machine.
const ADMIN: [&str; 8] = [
    "RepositoryModelLoad",
    "RepositoryModelUnload",
    "SystemSharedMemoryRegister",
    "SystemSharedMemoryUnregister",
    "CudaSharedMemoryRegister",
    "CudaSharedMemoryUnregister",
    "TraceSetting",
    "LogSettings",
];

/// The protocol's extensions, in the names that clients know; with [`CUDA_EXTENSION`] where there is a GPU.
const EXTENSIONS: [&str; 11] = [
    "classification",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
];

/// The extension that is there where this process can use a GPU, whatever its models run on.
const CUDA_EXTENSION: &str = "cuda_shared_memory";

/// Serves the models of `hosts` under the protocol, and with a `runtime` the repository's plain models too; lets operators
/// manage all services' models, which are `services`, each after those that it calls. Where the repository is to be polled,
/// it is, until the process stops.
pub fn component(
    server: &Server,
    runtime: Option<&Runtime>,
    repository: &Repository,
    mut services: Vec<Arc<dyn Hosting>>,
    mut hosts: Vec<Arc<dyn Host>>,
) -> Result<Component, OnnxError> {
    if let Some(runtime) = runtime {
        let plain = plain_models(runtime, repository)?;
        services.push(Arc::new(plain.clone()));
        hosts.push(Arc::new(plain));
    }
    let fleet = Fleet::new(repository, services);
    let settings = repository.config();
    let poller = match settings.control {
        Control::Poll => Some(fleet.poll(Duration::from_secs(settings.poll_seconds))?),
        Control::None | Control::Explicit => None,
    };
    // Without a cache folder, what clients hand over lives in the system's folder for temporary files.
    let uploads = if settings.cache.as_os_str().is_empty() { std::env::temp_dir() } else { settings.cache.join("uploads") };
    let ServerConfig { max_request_bytes, max_response_bytes, traces, .. } = server.config();
    let management = Management::new(fleet, uploads, server.tasks().clone());
    let service = Service {
        hosts: Hosts(hosts.into()),
        management,
        sharing: Sharing::new(server.tasks().clone()),
        traces: Arc::new(traces.clone()),
        max_response_bytes: *max_response_bytes,
    };
    let grpc = GrpcInferenceServiceServer::new(service)
        .max_decoding_message_size(*max_request_bytes)
        .max_encoding_message_size(*max_response_bytes)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate);
    let component = Component::new(NAME).admin(&ADMIN).register(move |routes| {
        routes.add_service(grpc);
    });
    Ok(component.on_stop(move || async move { drop(poller) }))
}

#[derive(Clone)]
struct Service {
    hosts: Hosts,
    management: Management,
    sharing: Sharing,
    traces: Arc<TracesConfig>,
    max_response_bytes: usize,
}

fn answer<T>(result: Result<T, Error>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| status(&error))
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

fn statistics(name: String, graph: &Found) -> ModelStatistics {
    let snapshot = graph.statistics.snapshot();
    ModelStatistics {
        name,
        version: graph.version.clone(),
        last_inference: snapshot.last_inference,
        inference_count: snapshot.rows,
        execution_count: snapshot.runs,
        inference_stats: Some(snapshot.requests),
        batch_stats: snapshot.batches,
        ..ModelStatistics::default()
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    type ModelStreamInferStream = Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Result<Response<ServerLiveResponse>, Status> {
        answer(Ok(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Result<Response<ServerReadyResponse>, Status> {
        // Where models come on demand, none is needed to be ready.
        answer(Ok(ServerReadyResponse { ready: self.management.is_explicit() || !self.hosts.is_empty() }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Result<Response<ModelReadyResponse>, Status> {
        let request = request.into_inner();
        answer(Ok(ModelReadyResponse { ready: self.hosts.is_ready(&request.name, &request.version) }))
    }

    async fn server_metadata(&self, _: Request<ServerMetadataRequest>) -> Result<Response<ServerMetadataResponse>, Status> {
        let cuda = self.sharing.takes_cuda().await.then_some(CUDA_EXTENSION);
        let extensions = EXTENSIONS.into_iter().chain(cuda).map(str::to_owned).collect();
        answer(Ok(ServerMetadataResponse { name: "quintet".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned(), extensions }))
    }

    async fn model_metadata(&self, request: Request<ModelMetadataRequest>) -> Result<Response<ModelMetadataResponse>, Status> {
        let request = request.into_inner();
        answer(self.hosts.graph(&request.name, &request.version).map(|graph| ModelMetadataResponse {
            versions: self.hosts.versions(&graph),
            name: request.name,
            platform: config::PLATFORM.to_owned(),
            inputs: metadata(&graph.info.inputs),
            outputs: metadata(&graph.info.outputs),
        }))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
        answer(self.infer(request.into_inner()).await)
    }

    async fn model_stream_infer(&self, request: Request<Streaming<ModelInferRequest>>) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        Ok(Response::new(Box::pin(self.clone().infer_each(request.into_inner()))))
    }

    async fn model_config(&self, request: Request<ModelConfigRequest>) -> Result<Response<ModelConfigResponse>, Status> {
        let request = request.into_inner();
        answer(
            self.hosts
                .graph(&request.name, &request.version)
                .map(|graph| ModelConfigResponse { config: Some(config::config(&request.name, &graph)) }),
        )
    }

    async fn model_statistics(&self, request: Request<ModelStatisticsRequest>) -> Result<Response<ModelStatisticsResponse>, Status> {
        let request = request.into_inner();
        let model_stats = if request.name.is_empty() {
            Ok(self.hosts.all().iter().map(|graph| statistics(graph.name(), graph)).collect())
        } else {
            self.hosts.graph(&request.name, &request.version).map(|graph| vec![statistics(request.name, &graph)])
        };
        answer(model_stats.map(|model_stats| ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(&self, request: Request<RepositoryIndexRequest>) -> Result<Response<RepositoryIndexResponse>, Status> {
        answer(self.management.index(&request.into_inner()).await)
    }

    async fn repository_model_load(&self, request: Request<RepositoryModelLoadRequest>) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        answer(self.management.load(request.into_inner()).await)
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        answer(self.management.unload(request.into_inner()).await)
    }

    async fn system_shared_memory_status(
        &self,
        request: Request<SystemSharedMemoryStatusRequest>,
    ) -> Result<Response<SystemSharedMemoryStatusResponse>, Status> {
        answer(self.sharing.system_status(&request.into_inner()))
    }

    async fn system_shared_memory_register(
        &self,
        request: Request<SystemSharedMemoryRegisterRequest>,
    ) -> Result<Response<SystemSharedMemoryRegisterResponse>, Status> {
        answer(self.sharing.register_system(request.into_inner()).await)
    }

    async fn system_shared_memory_unregister(
        &self,
        request: Request<SystemSharedMemoryUnregisterRequest>,
    ) -> Result<Response<SystemSharedMemoryUnregisterResponse>, Status> {
        answer(self.sharing.unregister_system(request.into_inner()).await)
    }

    async fn cuda_shared_memory_status(
        &self,
        request: Request<CudaSharedMemoryStatusRequest>,
    ) -> Result<Response<CudaSharedMemoryStatusResponse>, Status> {
        answer(self.sharing.cuda_status(&request.into_inner()))
    }

    async fn cuda_shared_memory_register(
        &self,
        request: Request<CudaSharedMemoryRegisterRequest>,
    ) -> Result<Response<CudaSharedMemoryRegisterResponse>, Status> {
        answer(self.sharing.register_cuda(request.into_inner()).await)
    }

    async fn cuda_shared_memory_unregister(
        &self,
        request: Request<CudaSharedMemoryUnregisterRequest>,
    ) -> Result<Response<CudaSharedMemoryUnregisterResponse>, Status> {
        answer(self.sharing.unregister_cuda(request.into_inner()).await)
    }

    async fn trace_setting(&self, request: Request<TraceSettingRequest>) -> Result<Response<TraceSettingResponse>, Status> {
        answer(logs::traces(&self.traces, &request.into_inner()))
    }

    async fn log_settings(&self, request: Request<LogSettingsRequest>) -> Result<Response<LogSettingsResponse>, Status> {
        answer(logs::settings(request.into_inner()))
    }
}

impl Service {
    fn infer_each(self, requests: Streaming<ModelInferRequest>) -> impl Stream<Item = Result<ModelStreamInferResponse, Status>> + Send {
        let answers = requests.map(move |request| {
            let service = self.clone();
            async move {
                let request = request?;
                Ok(service.infer_one_of_many(request).await)
            }
        });
        futures_util::StreamExt::buffer_unordered(answers, infer::AT_ONCE)
    }
}
