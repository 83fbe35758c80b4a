//! Clients that go, processes that end.

use quintet_proto::text::v1::{GenerateRequest, GenerateStreamRequest, Sampling, Stopping, text_service_client::TextServiceClient};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
};

use crate::harness::{Process, run};

/// A text of 400 tokens, which takes long enough to be interrupted.
fn long() -> GenerateStreamRequest {
    GenerateStreamRequest {
        request: Some(GenerateRequest {
            prompt: "And it came to pass".into(),
            sampling: Some(Sampling { seed: Some(1), ..Sampling::default() }),
            stopping: Some(Stopping { max_new_tokens: Some(400), ignore_eos: true, ..Stopping::default() }),
            ..GenerateRequest::default()
        }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_a_stream_finish_and_exits_with_0() {
    let process = Process::up(&[]);
    let channel = process.channel().await;
    let mut client = TextServiceClient::new(channel.clone());
    let whole = client.generate(long().request.unwrap()).await.unwrap().into_inner().text;
    let mut health = HealthClient::new(channel.clone()).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(health.message().await.unwrap().unwrap().status, 1);
    let mut stream = client.generate_stream(long()).await.unwrap().into_inner();
    let mut text = String::new();
    for _ in 0..5 {
        text += &stream.message().await.unwrap().unwrap().text;
    }
    process.terminate();
    // Health turns before anything ends.
    assert_eq!(health.message().await.unwrap().unwrap().status, 2);
    drop(health);
    while let Some(piece) = stream.message().await.unwrap() {
        text += &piece.text;
    }
    assert_eq!(text, whole, "nothing that was accepted is lost");
    drop((stream, client, channel));
    assert_eq!(process.wait().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_frees_its_slot() {
    // One slot: a second sequence runs only where the first has been let go.
    let process = Process::up(&["--set", "text.slots=1", "--set", "text.max_waiting=1"]);
    let mut client = TextServiceClient::new(process.channel().await);
    let mut stream = client.generate_stream(long()).await.unwrap().into_inner();
    for _ in 0..3 {
        assert!(stream.message().await.unwrap().is_some());
    }
    drop(stream);
    let mut second = long().request.unwrap();
    second.stopping.as_mut().unwrap().max_new_tokens = Some(5);
    client.generate(second).await.unwrap();
    let page = process.metrics().await;
    let cancelled =
        page.lines().any(|line| line.starts_with("quintet_rpc_requests_total") && line.contains("GenerateStream") && line.contains("CANCELLED"));
    assert!(cancelled, "{page}");
    let completed = page.lines().find(|line| line.starts_with("quintet_text_tokens_total") && line.contains("completion")).unwrap();
    let tokens: f64 = completed.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(tokens < 300.0, "the abandoned sequence went on: {completed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_waiting_room_refuses_with_a_hint() {
    use tonic_types::StatusExt;
    let process = Process::up(&["--set", "text.slots=1", "--set", "text.max_waiting=1"]);
    let channel = process.channel().await;
    let mut client = TextServiceClient::new(channel.clone());
    let mut running = client.generate_stream(long()).await.unwrap().into_inner();
    // Its second piece shows that it has its slot.
    for _ in 0..2 {
        running.message().await.unwrap().unwrap();
    }
    let _waiting = client.generate_stream(long()).await.unwrap();
    let refused = client.generate_stream(long()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_is_healthy_and_described() {
    let process = Process::up(&[]);
    let channel = process.channel().await;
    let names = [
        "quintet.tokenization.v1.TokenizationService",
        "quintet.text.v1.TextService",
        "quintet.image.v1.ImageService",
        "quintet.anomaly.v1.AnomalyService",
        "quintet.evaluation.v1.EvaluationService",
        "inference.GRPCInferenceService",
    ];
    let mut health = HealthClient::new(channel.clone());
    for service in names.into_iter().chain([""]) {
        assert_eq!(health.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner().status, 1, "{service}");
    }
    let mut reflection = ServerReflectionClient::new(channel);
    let requests =
        names.map(|name| ServerReflectionRequest { message_request: Some(MessageRequest::FileContainingSymbol(name.into())), ..Default::default() });
    let mut answers = reflection.server_reflection_info(tokio_stream::iter(requests)).await.unwrap().into_inner();
    for name in names {
        let answer = answers.message().await.unwrap().unwrap();
        assert!(format!("{:?}", answer.message_response).contains("FileDescriptorResponse"), "{name}: {answer:?}");
    }
    assert!(process.get("/healthz").await.ends_with("ok\n"));
    assert!(process.metrics().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_for_people_work_and_speak_json() {
    let process = Process::up(&[]);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let quintet = |arguments: &[&str]| {
        let (code, out, message) = run("quintet", &[arguments, &["--address", &process.address, "--json"]].concat());
        assert_eq!(code, 0, "{arguments:?}: {message}");
        out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect::<Vec<serde_json::Value>>()
    };
    assert!(quintet(&["models"]).iter().any(|row| row["name"] == "glyph-gan"));
    let pieces = quintet(&["text", "generate", "--seed", "1", "--max-new-tokens", "9", "And"]);
    assert_eq!(pieces.last().unwrap()["completion_tokens"], 9);
    assert!(
        quintet(&["text", "restore", "The LORD, is my shepherd!"])
            .iter()
            .map(|piece| piece["text"].as_str().unwrap())
            .collect::<String>()
            .contains("shepherd")
    );
    assert_eq!(quintet(&["text", "embed", "a", "b"])[1]["embedding"].as_array().unwrap().len(), 384);
    assert!(quintet(&["text", "score", "And God said"])[0]["bits_per_byte"].as_f64().unwrap() > 0.0);
    let tokens = quintet(&["tokenize", "--model", "gpt-english", "And God said"]);
    let ids = tokens[0]["ids"].as_array().unwrap().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(quintet(&["tokenize", "--model", "gpt-english", "--decode", &ids])[0]["text"], "<|endoftext|>And God said");
    quintet(&["image", "generate", "--class", "A", "-n", "4", "-o", &at("grid.png")]);
    assert!(image::open(at("grid.png")).is_ok());
    assert_eq!(quintet(&["image", "generate", "-n", "2", "--each", "-o", &at("one.png")]).len(), 2);
    let rows = ["--model", "vae-glyphs", "--rows", "deploy/datasets/glyph-defects-heldout/rows.npz"];
    assert_eq!(quintet(&[&["anomaly", "score"], &rows[..]].concat()).len(), 1200);
    quintet(&[&["anomaly", "explain"], &rows[..], &["--index", "700", "-o", &at("heat.png")]].concat());
    assert!(image::open(at("heat.png")).is_ok());
    assert_eq!(quintet(&["evaluate", "anomaly", "--model", "vae-digits", "--resamples", "100"])[0]["name"], "roc_auc");
    assert_eq!(quintet(&["evaluate", "datasets"]).len(), 5);

    let (code, _, message) = run("quintet", &["text", "generate", "x", "--temperature", "-1", "--address", &process.address]);
    assert!(code == 1 && message.contains("sampling.temperature: -1"), "{code} {message}");
    let (code, _, message) = run("quintet", &["models", "--address", "127.0.0.1:1"]);
    assert!(code == 69 && message.contains("quintet up"), "{code} {message}");
    for command in ["up", "text", "image", "anomaly", "evaluate", "tokenize", "models"] {
        let (code, help, _) = run("quintet", &[command, "--help"]);
        assert!(code == 0 && help.contains("Examples:"), "{command}: {help}");
    }
}
