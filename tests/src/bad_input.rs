//! Bad input over the wire: each a typed error that names the field, the value and the limit.

use quintet_proto::{
    anomaly::v1::{SampleData, ScoreRequest as AnomalyScore, Values, anomaly_service_client::AnomalyServiceClient, sample_data::Data},
    image::v1::{GenerateRequest as ImageGenerate, image_service_client::ImageServiceClient},
    text::v1::{EmbedRequest, GenerateRequest, Sampling, ScoreRequest, Stopping, text_service_client::TextServiceClient},
    tokenization::v1::{DecodeRequest, EncodeInput, EncodeRequest, TokenIds, tokenization_service_client::TokenizationServiceClient},
};
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{Process, fields};

#[tokio::test(flavor = "multi_thread")]
async fn text_requests_are_checked() {
    let process = Process::up(&[]);
    let mut client = TextServiceClient::new(process.channel().await);
    let good = || GenerateRequest { prompt: "And".into(), ..GenerateRequest::default() };
    let sampling = |sampling| GenerateRequest { sampling: Some(sampling), ..good() };
    let stopping = |stopping| GenerateRequest { stopping: Some(stopping), ..good() };
    for (request, expected) in [
        (GenerateRequest::default(), vec!["prompt"]),
        (sampling(Sampling { temperature: Some(-1.0), top_p: Some(0.0), ..Sampling::default() }), vec!["sampling.temperature", "sampling.top_p"]),
        (sampling(Sampling { temperature: Some(f32::NAN), min_p: Some(2.0), ..Sampling::default() }), vec!["sampling.temperature", "sampling.min_p"]),
        (sampling(Sampling { repetition_penalty: Some(0.0), ..Sampling::default() }), vec!["sampling.repetition_penalty"]),
        (
            stopping(Stopping { max_new_tokens: Some(0), stop: vec![String::new()], ..Stopping::default() }),
            vec!["stopping.max_new_tokens", "stopping.stop[0]"],
        ),
        (stopping(Stopping { max_new_tokens: Some(100_000), ..Stopping::default() }), vec!["stopping.max_new_tokens"]),
        (stopping(Stopping { stop: vec!["x".into(); 17], ..Stopping::default() }), vec!["stopping.stop"]),
        (GenerateRequest { prompt: "word ".repeat(2000), ..GenerateRequest::default() }, vec!["prompt"]),
    ] {
        let status = client.generate(request).await.unwrap_err();
        assert_eq!(fields(&status), expected, "{status}");
    }
    let unknown = client.generate(GenerateRequest { model: "nobody".into(), ..good() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("gpt-english"), "{unknown}");
    let wrong = client.generate(GenerateRequest { model: "all-minilm-l6-v2".into(), ..good() }).await.unwrap_err();
    assert_eq!(wrong.code(), Code::FailedPrecondition);
    assert_eq!(fields(&client.embed(EmbedRequest::default()).await.unwrap_err()), ["inputs"]);
    assert_eq!(
        fields(&client.embed(EmbedRequest { inputs: vec!["a".into(), String::new()], ..Default::default() }).await.unwrap_err()),
        ["inputs[1]"]
    );
    assert_eq!(fields(&client.score(ScoreRequest { texts: vec!["a".into()], stride: Some(0), ..Default::default() }).await.unwrap_err()), ["stride"]);
}

/// What the tokenization service refuses has the names that the text service's own clients know.
#[tokio::test(flavor = "multi_thread")]
async fn what_tokenization_refuses_is_named_as_the_text_request_does() {
    let process = Process::up(&["--set", "tokenization.max_text_bytes=100"]);
    let mut client = TextServiceClient::new(process.channel().await);
    let long = || "too much ".repeat(20);
    let refused = client.generate(GenerateRequest { prompt: long(), ..GenerateRequest::default() }).await.unwrap_err();
    assert_eq!(fields(&refused), ["prompt"], "{refused}");
    assert!(refused.message().contains("180 bytes: must be at most 100"), "{refused}");
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "INVALID_REQUEST");
    let texts = vec!["short".to_owned(), long(), "short".to_owned(), long()];
    let refused = client.score(ScoreRequest { texts: texts.clone(), ..ScoreRequest::default() }).await.unwrap_err();
    assert_eq!(fields(&refused), ["texts[1]", "texts[3]"], "{refused}");
    let contexts = vec![String::new(), String::new(), long(), String::new()];
    let refused = client.score(ScoreRequest { texts: vec!["short".to_owned(); 4], contexts, ..ScoreRequest::default() }).await.unwrap_err();
    assert_eq!(fields(&refused), ["contexts[2]"], "{refused}");
    let refused = client.embed(EmbedRequest { inputs: texts, ..EmbedRequest::default() }).await.unwrap_err();
    assert_eq!(fields(&refused), ["inputs[1]", "inputs[3]"], "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_services_check_too_and_stay_up() {
    let process = Process::up(&["--set", "server.max_request_bytes=65536"]);
    let channel = process.channel().await;
    let mut tokenizer = TokenizationServiceClient::new(channel.clone());
    assert_eq!(fields(&tokenizer.encode(EncodeRequest::default()).await.unwrap_err()), ["inputs"]);
    let enumeration =
        EncodeRequest { inputs: vec![EncodeInput { text: "a".into(), ..EncodeInput::default() }], special_tokens: 42, ..EncodeRequest::default() };
    assert_eq!(fields(&tokenizer.encode(enumeration).await.unwrap_err()), ["special_tokens"]);
    let unknown_id = DecodeRequest { model: "gpt-english".into(), sequences: vec![TokenIds { ids: vec![1, 999_999] }], ..DecodeRequest::default() };
    assert_eq!(fields(&tokenizer.decode(unknown_id).await.unwrap_err()), ["sequences[0].ids[1]"]);
    let oversized = EncodeRequest { inputs: vec![EncodeInput { text: "x".repeat(100_000), ..EncodeInput::default() }], ..EncodeRequest::default() };
    let status = tokenizer.encode(oversized).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    assert!(status.message().contains("65536"), "{status}");

    let mut images = ImageServiceClient::new(channel.clone());
    let status = images.generate(ImageGenerate { count: Some(u32::MAX), format: -3, ..Default::default() }).await.unwrap_err();
    assert_eq!(fields(&status), ["count", "format"]);

    let mut anomalies = AnomalyServiceClient::new(channel);
    let row = |values: Vec<f32>| SampleData { data: Some(Data::Values(Values { values })) };
    let samples = vec![row(vec![1.0; 29]), row([vec![0.0; 29], vec![f32::INFINITY]].concat())];
    let status = anomalies.score(AnomalyScore { model: "vae-breast-cancer".into(), samples, ..Default::default() }).await.unwrap_err();
    assert_eq!(fields(&status), ["samples[0].values", "samples[1].values[29]"]);
    let truncated = SampleData { data: Some(Data::Image(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0 \0\0\0 ".to_vec())) };
    let status = anomalies.score(AnomalyScore { model: "vae-glyphs".into(), samples: vec![truncated], ..Default::default() }).await.unwrap_err();
    assert_eq!(fields(&status), ["samples[0].image"]);
    assert!(process.get("/healthz").await.starts_with("HTTP/1.1 200"));
}
