#![allow(clippy::disallowed_methods, reason = "each test awaits the server that it spawns")]

use std::sync::atomic::AtomicUsize;

use prost::Message as _;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};
use tonic::{Request, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus as Status, health_client::HealthClient};
use tonic_reflection::pb::{
    v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
        server_reflection_response::MessageResponse,
    },
    v1alpha,
};

use super::*;
use crate::config::server_defaults;

/// A health service under another name: it streams one answer, waits to be released, and streams a second.
mod slow {
    use std::{pin::Pin, sync::Arc};

    use tokio::sync::Notify;
    use tokio_stream::{Stream, StreamExt};
    use tonic::{Request, Response, Status};
    use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_server::Health};

    #[derive(Clone, Default)]
    pub(super) struct Slow {
        pub(super) release: Arc<Notify>,
    }

    #[tonic::async_trait]
    impl Health for Slow {
        type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

        async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
            self.release.notified().await;
            Ok(Response::new(HealthCheckResponse { status: 1 }))
        }

        async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
            let release = Arc::clone(&self.release);
            let stream = tokio_stream::iter([false, true]).then(move |wait| {
                let release = Arc::clone(&release);
                async move {
                    if wait {
                        release.notified().await;
                    }
                    Ok(HealthCheckResponse { status: 1 })
                }
            });
            Ok(Response::new(Box::pin(stream)))
        }
    }
}

/// The descriptors of `slow.Slow`: those of the health service under its name.
fn descriptors() -> &'static [u8] {
    static DESCRIPTORS: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    DESCRIPTORS.get_or_init(|| {
        let mut set = prost_types::FileDescriptorSet::decode(tonic_health::pb::FILE_DESCRIPTOR_SET).unwrap();
        for file in &mut set.file {
            (file.name, file.package) = (Some("slow.proto".into()), Some("slow".into()));
            for service in &mut file.service {
                service.name = Some("Slow".into());
                for method in &mut service.method {
                    let moved = |name: &mut Option<String>| *name = name.take().map(|name| name.replace(".grpc.health.v1.", ".slow."));
                    moved(&mut method.input_type);
                    moved(&mut method.output_type);
                }
            }
            for field in file.message_type.iter_mut().flat_map(|message| &mut message.field) {
                field.type_name = field.type_name.take().map(|name| name.replace(".grpc.health.v1.", ".slow."));
            }
        }
        set.encode_to_vec()
    })
}

struct Running {
    address: SocketAddr,
    channel: Channel,
    shutdown: CancellationToken,
    outcome: tokio::task::JoinHandle<Result<(), Error>>,
}

async fn start(config: ServerConfig, components: Vec<Component>) -> Running {
    telemetry::metrics();
    let server = Server::bind(&config).await.unwrap();
    let address = server.local_addr();
    let shutdown = CancellationToken::new();
    let outcome = tokio::spawn(server.serve(components, descriptors(), shutdown.clone()));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    Running { address, channel, shutdown, outcome }
}

fn config() -> ServerConfig {
    ServerConfig { listen: "127.0.0.1:0".parse().unwrap(), ..server_defaults() }
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn health<C>(channel: &C, service: &str) -> Result<Status, tonic::Code>
where
    C: tonic::client::GrpcService<tonic::body::Body> + Clone,
    C::Error: Into<tonic::codegen::StdError>,
    C::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <C::ResponseBody as http_body::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel.clone()).check(request).await;
    answer.map(|answer| answer.into_inner().status()).map_err(|status| status.code())
}

#[tokio::test]
async fn health_reflection_and_http_are_there() {
    let components = vec![Component::new("one.One"), Component::new("two.Two").ready(false)];
    let running = start(config(), components).await;
    assert_eq!(health(&running.channel, "one.One").await, Ok(Status::Serving));
    assert_eq!(health(&running.channel, "two.Two").await, Ok(Status::NotServing));
    assert_eq!(health(&running.channel, "").await, Ok(Status::NotServing));
    assert_eq!(health(&running.channel, "three.Three").await, Err(tonic::Code::NotFound));
    let watched = HealthCheckRequest { service: "three.Three".to_owned() };
    let mut watch = HealthClient::new(running.channel.clone()).watch(watched).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), Status::ServiceUnknown);

    let request = ServerReflectionRequest { message_request: Some(MessageRequest::ListServices(String::new())), ..Default::default() };
    let mut v1 = ServerReflectionClient::new(running.channel.clone());
    let mut answers = v1.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(names.contains(&"one.One".to_owned()) && names.contains(&"grpc.health.v1.Health".to_owned()), "{names:?}");

    let request = v1alpha::ServerReflectionRequest {
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut alpha = v1alpha::server_reflection_client::ServerReflectionClient::new(running.channel.clone());
    let mut answers = alpha.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());

    assert!(get(running.address, "/healthz").await.starts_with("HTTP/1.1 503"));
    assert!(get(running.address, "/metrics").await.starts_with("HTTP/1.1 200"));
    running.shutdown.cancel();
    running.outcome.await.unwrap().unwrap();
}

/// A component that serves [`slow::Slow`] where reflection's own health service would be: under a path of its own.
fn slow(service: slow::Slow) -> Component {
    Component::new("slow.Slow").register(move |routes| {
        routes.add_service(Renamed(tonic_health::pb::health_server::HealthServer::new(service)));
    })
}

#[derive(Clone)]
struct Renamed<S>(S);

impl<S> tonic::server::NamedService for Renamed<S> {
    const NAME: &'static str = "slow.Slow";
}

impl<S, B> tower::Service<http::Request<B>> for Renamed<S>
where
    S: tower::Service<http::Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> S::Future {
        let path = request.uri().path().replace("/slow.Slow/", "/grpc.health.v1.Health/");
        *request.uri_mut() = path.parse().unwrap();
        self.0.call(request)
    }
}

/// Calls a method of `slow.Slow`.
async fn watch(channel: &Channel) -> Result<tonic::Streaming<tonic_health::pb::HealthCheckResponse>, tonic::Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, tonic_health::pb::HealthCheckResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/slow.Slow/Watch");
    client.server_streaming(Request::new(HealthCheckRequest::default()), path, codec).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_stream_in_progress_finishes_during_the_drain() {
    let service = slow::Slow::default();
    let running = start(config(), vec![slow(service.clone())]).await;
    let mut stream = watch(&running.channel).await.unwrap();
    assert!(stream.message().await.unwrap().is_some());
    let mut health = HealthClient::new(running.channel.clone()).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(health.message().await.unwrap().unwrap().status(), Status::Serving);
    running.shutdown.cancel();
    // The drain has begun when health has turned.
    assert_eq!(health.message().await.unwrap().unwrap().status(), Status::NotServing);
    drop(health);
    assert!(!running.outcome.is_finished());
    service.release.notify_one();
    assert!(stream.message().await.unwrap().is_some());
    assert!(stream.message().await.unwrap().is_none());
    drop((stream, running.channel));
    running.outcome.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_does_not_finish_is_cut_with_a_reason() {
    let service = slow::Slow::default();
    let running = start(ServerConfig { drain_seconds: 0, ..config() }, vec![slow(service)]).await;
    let mut stream = watch(&running.channel).await.unwrap();
    assert!(stream.message().await.unwrap().is_some());
    running.shutdown.cancel();
    let error = stream.message().await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable, "{error}");
    drop((stream, running.channel));
    running.outcome.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_full_server_refuses_and_still_answers_operators() {
    let service = slow::Slow::default();
    let running = start(ServerConfig { max_concurrent_requests: 1, ..config() }, vec![slow(service.clone())]).await;
    let stream = watch(&running.channel).await.unwrap();
    let refused = watch(&running.channel).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    let retry = tonic_types::StatusExt::get_details_retry_info(&refused).unwrap();
    assert!(retry.retry_delay.is_some());
    assert_eq!(health(&running.channel, "slow.Slow").await, Ok(Status::Serving));
    // The place is free again when the client has gone.
    drop(stream);
    let page = loop {
        if watch(&running.channel).await.is_ok() {
            break get(running.address, "/metrics").await;
        }
    };
    assert!(page.contains(r#"quintet_rpc_requests_total{service="slow.Slow",method="Watch",code="RESOURCE_EXHAUSTED"}"#), "{page}");
    assert!(page.contains(r#"code="CANCELLED""#), "{page}");
    running.shutdown.cancel();
    running.outcome.await.unwrap().unwrap();
}

#[tokio::test]
async fn services_reach_each_other_and_hooks_run_in_order() {
    let order = Arc::new(AtomicUsize::new(0));
    let reached = Arc::new(Notify::new());
    let server = Server::bind(&config()).await.unwrap();
    let local = server.local_channel();
    let (drain, stop) = (Arc::clone(&order), Arc::clone(&order));
    let arrived = Arc::clone(&reached);
    let component = Component::new("one.One")
        .on_drain(move || async move {
            // Calls between services still work while the listener drains.
            assert_eq!(health(&local, "one.One").await, Ok(Status::NotServing));
            assert_eq!(drain.fetch_add(1, Ordering::SeqCst), 0);
            arrived.notify_one();
        })
        .on_stop(move || async move { assert_eq!(stop.fetch_add(1, Ordering::SeqCst), 1) });
    let channel = server.local_channel();
    let shutdown = CancellationToken::new();
    let address = server.local_addr();
    let serving = tokio::spawn(server.serve(vec![component], tonic_health::pb::FILE_DESCRIPTOR_SET, shutdown.clone()));
    assert_eq!(health(&channel, "one.One").await, Ok(Status::Serving));
    // A connection keeps the drain from being over before the hook has run.
    let outer = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut watching = HealthClient::new(outer).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watching.message().await.unwrap().is_some());
    shutdown.cancel();
    reached.notified().await;
    drop(watching);
    serving.await.unwrap().unwrap();
    assert_eq!(order.load(Ordering::SeqCst), 2);
}
