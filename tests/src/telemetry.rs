//! What operators see: metrics as documented, traces from end to end, logs with request ids.

use std::{collections::BTreeSet, fs, time::Duration};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use quintet_proto::{
    anomaly::v1::{SampleData, SampleRequest, ScoreRequest, Values, anomaly_service_client::AnomalyServiceClient, sample_data::Data},
    evaluation::v1::{
        AnomalyEvaluation, CreateEvaluationRequest, ImageEvaluation, WatchEvaluationRequest, create_evaluation_request::Evaluation as What,
        evaluation_service_client::EvaluationServiceClient,
    },
    image::v1::{GenerateRequest as ImageRequest, image_service_client::ImageServiceClient},
    text::v1::{EmbedRequest, GenerateRequest, Sampling, Speculation, Stopping, text_service_client::TextServiceClient},
    tokenization::v1::{CountTokensRequest, EncodeInput, tokenization_service_client::TokenizationServiceClient},
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use crate::harness::{Process, metric, root};

fn write(count: u32) -> GenerateRequest {
    let stopping = Stopping { max_new_tokens: Some(count), ..Stopping::default() };
    GenerateRequest { prompt: "And Moses".into(), stopping: Some(stopping), ..GenerateRequest::default() }
}

/// The metrics of the operations page: the first column of its table.
fn documented() -> BTreeSet<String> {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let rows = page.lines().filter_map(|line| Some(line.strip_prefix("| `quintet_")?.split_once('`')?.0.to_owned()));
    rows.map(|name| format!("quintet_{name}")).collect()
}

/// Metrics that need hardware or a deed of their own to appear.
const ELSEWHERE: [&str; 4] =
    ["quintet_energy_joules_total", "quintet_device_memory_bytes", "quintet_handshakes_failed_total", "quintet_text_preemptions_total"];

#[tokio::test(flavor = "multi_thread")]
async fn each_documented_metric_exists_and_moves_and_each_that_exists_is_documented() {
    let process = Process::up(&["--set", "server.cache.bytes=1000000", "--set", "text.tokenization_endpoint="]);
    let channel = process.channel().await;
    let use_all = async |round: u32| {
        let mut text = TextServiceClient::new(channel.clone());
        text.generate(write(5)).await.unwrap();
        // A text of one token over and over.
        let sampling = Sampling { logit_bias: [(300, 100.0)].into(), ..Sampling::default() };
        let over_and_over = GenerateRequest { prompt: String::new(), prompt_ids: vec![300; 10], sampling: Some(sampling), ..write(20) };
        text.generate(GenerateRequest { speculation: Speculation::PromptLookup.into(), ..over_and_over }).await.unwrap();
        text.generate(GenerateRequest { model: "restore-case".into(), ..write(5) }).await.unwrap();
        // The same again, and so from the cache.
        for _ in 0..2 {
            text.embed(EmbedRequest { inputs: vec![format!("text {round}")], ..EmbedRequest::default() }).await.unwrap();
        }
        let images = ImageRequest { count: Some(3000), ..ImageRequest::default() };
        let mut late = Request::new(images);
        late.set_timeout(Duration::from_millis(40));
        let mut image = ImageServiceClient::new(channel.clone());
        image.generate(ImageRequest { count: Some(70), ..ImageRequest::default() }).await.unwrap();
        assert!(image.generate(late).await.is_err());
        let mut anomaly = AnomalyServiceClient::new(channel.clone());
        let drawn = anomaly.sample(SampleRequest::default()).await.unwrap().into_inner().samples.remove(0);
        let samples = vec![SampleData { data: Some(Data::Values(Values { values: drawn.values })) }];
        anomaly.score(ScoreRequest { samples, ..ScoreRequest::default() }).await.unwrap();
        let what = What::Anomaly(AnomalyEvaluation { model: "vae-digits".into(), dataset: String::new() });
        let request = CreateEvaluationRequest { evaluation: Some(what), bootstrap_resamples: Some(100), ..Default::default() };
        let mut evaluation = EvaluationServiceClient::new(channel.clone());
        let id = evaluation.create_evaluation(request).await.unwrap().into_inner().evaluation.unwrap().id;
        let mut states = evaluation.watch_evaluation(WatchEvaluationRequest { id }).await.unwrap().into_inner();
        while states.message().await.unwrap().is_some() {}
        let large = vec![EncodeInput { text: format!("In the beginning {round} ").repeat(30_000), ..EncodeInput::default() }];
        let mut tokenization = TokenizationServiceClient::new(channel.clone());
        tokenization.count_tokens(CountTokensRequest { inputs: large, ..CountTokensRequest::default() }).await.unwrap();
    };
    use_all(1).await;
    let first = process.metrics().await;
    use_all(2).await;
    let second = process.metrics().await;

    let documented = documented();
    assert!(documented.len() > 20, "{documented:?}");
    let kinds: Vec<(&str, &str)> = second.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let served: BTreeSet<String> = kinds.iter().map(|(name, _)| (*name).to_owned()).collect();
    let unknown: Vec<_> = served.iter().filter(|name| name.starts_with("quintet_") && !documented.contains(*name)).collect();
    assert!(unknown.is_empty(), "not in docs/operations.md: {unknown:?}");
    let missing: Vec<_> = documented.iter().filter(|name| !served.contains(*name) && !ELSEWHERE.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "documented but not served: {missing:?}");
    for (name, kind) in kinds.into_iter().filter(|(name, _)| name.starts_with("quintet_")) {
        let read = |page: &str| match kind {
            "histogram" => metric(page, &format!("{name}_count"), &[]),
            _ => metric(page, name, &[]),
        };
        match kind {
            // A gauge may be back where it was.
            "gauge" => assert!(read(&second).is_finite(), "{name}"),
            _ => assert!(read(&second) > read(&first), "{name} does not move: {} and {}", read(&first), read(&second)),
        }
    }
}

struct Collector(mpsc::Sender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(request.into_inner()).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Where processes send their traces.
struct Traces {
    endpoint: String,
    batches: mpsc::Receiver<ExportTraceServiceRequest>,
}

impl Traces {
    async fn collect() -> Self {
        let (sender, batches) = mpsc::channel(64);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("server.traces.endpoint=http://{}", listener.local_addr().unwrap());
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let collector = TraceServiceServer::new(Collector(sender));
        #[allow(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(tonic::transport::Server::builder().add_service(collector).serve_with_incoming(incoming));
        Self { endpoint, batches }
    }

    /// The spans of a trace, each with the name of its service. What is left is sent when processes end.
    async fn of(mut self, trace: &str, processes: Vec<Process>) -> Vec<(String, Span)> {
        for process in processes {
            process.end().await;
        }
        let mut spans: Vec<(String, Span)> = Vec::new();
        while let Ok(batch) = self.batches.try_recv() {
            for resource in batch.resource_spans {
                let name = resource.resource.unwrap().attributes.into_iter().find(|pair| pair.key == "service.name").unwrap();
                let name = format!("{:?}", name.value.unwrap());
                spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans).map(|span| (name.clone(), span)));
            }
        }
        spans.retain(|(_, span)| hex(&span.trace_id) == trace);
        spans
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// A trace that a client has begun, and the span that it calls from.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn traced<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{CALLER}-01").parse().unwrap());
    request
}

/// One trace from the client through text to tokenization, each span the child of its caller's.
#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_from_the_client_through_text_to_tokenization() {
    let traces = Traces::collect().await;
    let tokenization = Process::start("quintet-tokenization", &["--set", &traces.endpoint]);
    let endpoint = format!("text.tokenization_endpoint=http://{}", tokenization.address);
    let text = Process::start("quintet-text", &["--set", &endpoint, "--set", &traces.endpoint]);
    let mut request = traced(write(3));
    request.metadata_mut().insert("x-request-id", "the-clients-own".parse().unwrap());
    let answer = TextServiceClient::new(text.channel().await).generate(request).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "the-clients-own");
    let spans = traces.of(TRACE, vec![text, tokenization]).await;
    let (_, first) = spans.iter().find(|(service, _)| service.contains("quintet-text")).unwrap_or_else(|| panic!("{spans:?}"));
    assert_eq!(hex(&first.parent_span_id), CALLER);
    let inner: Vec<_> = spans.iter().filter(|(service, _)| service.contains("quintet-tokenization")).collect();
    assert!(inner.len() >= 2 && inner.iter().all(|(_, span)| span.parent_span_id == first.span_id), "{spans:?}");
}

/// An evaluation goes on when the call that created it has ended, in the same trace, and so does what it calls.
#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_from_the_client_through_an_evaluation_to_image() {
    let traces = Traces::collect().await;
    let image = Process::start("quintet-image", &["--set", &traces.endpoint]);
    let set = |key: &str| format!("evaluation.{key}_endpoint=http://{}", image.address);
    let endpoints = ["text", "image", "anomaly"].map(set);
    let flags: Vec<&str> = endpoints.iter().chain([&traces.endpoint]).flat_map(|value| ["--set", value]).collect();
    let evaluation = Process::start("quintet-evaluation", &flags);
    let what = What::Image(ImageEvaluation { samples: Some(64), ..ImageEvaluation::default() });
    let request = CreateEvaluationRequest { evaluation: Some(what), bootstrap_resamples: Some(100), ..Default::default() };
    let mut client = EvaluationServiceClient::new(evaluation.channel().await);
    let id = client.create_evaluation(traced(request)).await.unwrap().into_inner().evaluation.unwrap().id;
    let mut states = client.watch_evaluation(WatchEvaluationRequest { id }).await.unwrap().into_inner();
    while states.message().await.unwrap().is_some() {}
    let spans = traces.of(TRACE, vec![evaluation, image]).await;
    let named = |name: &str| {
        let found = spans.iter().find(|(service, span)| service.contains("quintet-evaluation") && span.name == name);
        &found.unwrap_or_else(|| panic!("no {name}: {spans:?}")).1
    };
    let (created, job) = (named("rpc"), named("evaluation"));
    assert_eq!((hex(&created.parent_span_id).as_str(), &job.parent_span_id), (CALLER, &created.span_id));
    assert!(created.end_time_unix_nano <= job.end_time_unix_nano, "the call is over before the evaluation");
    let drawn: Vec<_> = spans.iter().filter(|(service, _)| service.contains("quintet-image")).collect();
    assert!(!drawn.is_empty() && drawn.iter().all(|(_, span)| span.parent_span_id == job.span_id), "{spans:?}");
}

/// A call's id is in every line of the log that is about it, in every process that it reached.
#[tokio::test(flavor = "multi_thread")]
async fn logs_carry_the_id_of_the_request() {
    let tokenization = Process::start("quintet-tokenization", &["--set", "server.log=info,quintet_serving=debug"]);
    let endpoint = format!("text.tokenization_endpoint=http://{}", tokenization.address);
    let text = Process::start("quintet-text", &["--set", &endpoint, "--set", "server.log=info,quintet_serving=debug"]);
    let mut request = Request::new(write(3));
    request.metadata_mut().insert("x-request-id", "e2e-4711".parse().unwrap());
    TextServiceClient::new(text.channel().await).generate(request).await.unwrap();
    for process in [text, tokenization] {
        let log = process.end().await;
        assert!(log.lines().any(|line| line.contains("e2e-4711") && line.contains("a call has ended")), "{log}");
    }
}
