//! The clock is set while a process serves: what it decides by time goes by the clock that nobody can set.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use quintet_proto::{
    anomaly::v1::{SampleData, ScoreRequest, Values, anomaly_service_client::AnomalyServiceClient, sample_data::Data},
    evaluation::v1::{
        AnomalyEvaluation, CreateEvaluationRequest, EvaluationState, WatchEvaluationRequest, create_evaluation_request::Evaluation as What,
        evaluation_service_client::EvaluationServiceClient,
    },
    text::v1::{GenerateRequest, GenerateStreamRequest, Sampling, Stopping, text_service_client::TextServiceClient},
};
use tonic::Request;

use crate::harness::Process;

/// Where Debian's package puts the library that lets a process see another time of day.
const LIBRARY: &str = "faketime/libfaketime.so.1";

fn library() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"];
    folders.iter().map(|folder| Path::new(folder).join(LIBRARY)).find(|path| path.is_file())
}

fn within<T>(seconds: u64, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(seconds));
    request
}

fn story(tokens: u32) -> GenerateRequest {
    GenerateRequest {
        prompt: "And Moses".into(),
        sampling: Some(Sampling { seed: Some(5), ..Sampling::default() }),
        stopping: Some(Stopping { max_new_tokens: Some(tokens), ignore_eos: true, ..Stopping::default() }),
        ..GenerateRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_the_clock_moves_timestamps_and_nothing_else() {
    let Some(library) = library() else {
        println!("left out: Debian's package libfaketime is not installed");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("clock");
    // Put in place whole: the process reads it at any time.
    let set = |offset: &str| {
        std::fs::write(folder.path().join("next"), offset).unwrap();
        std::fs::rename(folder.path().join("next"), &clock).unwrap();
    };
    set("+0");
    let (library, file) = (library.display().to_string(), clock.display().to_string());
    let environment =
        [("LD_PRELOAD", library.as_str()), ("FAKETIME_TIMESTAMP_FILE", &file), ("FAKETIME_NO_CACHE", "1"), ("DONT_FAKE_MONOTONIC", "1")];
    let process = Process::start_with("quintet", &["up"], &environment);
    let mut text = TextServiceClient::new(process.channel().await);
    let mut anomaly = AnomalyServiceClient::new(process.channel().await);
    let mut evaluation = EvaluationServiceClient::new(process.channel().await);
    let expected = text.generate(within(60, story(200))).await.unwrap().into_inner().text;

    for offset in ["+7200", "-7200"] {
        // A text is under way, and time enough is left for it.
        let mut stream = text.generate_stream(within(60, GenerateStreamRequest { request: Some(story(200)) })).await.unwrap().into_inner();
        let mut written = String::new();
        while written.is_empty() {
            written.push_str(&stream.message().await.unwrap().unwrap().text);
        }
        set(offset);
        while let Some(piece) = stream.message().await.unwrap() {
            written.push_str(&piece.text);
        }
        assert_eq!(written, expected, "{offset}");
        // What begins now has the whole of its time, in queues too.
        assert_eq!(text.generate(within(60, story(200))).await.unwrap().into_inner().text, expected);
        let sample = SampleData { data: Some(Data::Values(Values { values: vec![0.0; 64] })) };
        let score = ScoreRequest { model: "vae-digits".into(), samples: vec![sample; 3], ..ScoreRequest::default() };
        assert_eq!(anomaly.score(within(60, score)).await.unwrap().into_inner().scores.len(), 3);

        // That the process sees another time shows in its timestamps alone.
        let what = What::Anomaly(AnomalyEvaluation { model: "vae-digits".into(), dataset: String::new() });
        let request = CreateEvaluationRequest { evaluation: Some(what), bootstrap_resamples: Some(100), ..Default::default() };
        let created = evaluation.create_evaluation(within(60, request)).await.unwrap().into_inner().evaluation.unwrap();
        let mut states = evaluation.watch_evaluation(within(60, WatchEvaluationRequest { id: created.id })).await.unwrap().into_inner();
        let mut last = None;
        while let Some(state) = states.message().await.unwrap() {
            last = state.evaluation;
        }
        assert_eq!(last.unwrap().state(), EvaluationState::Succeeded);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
        let moved = created.created_at.unwrap().seconds - now;
        assert!((moved - offset.parse::<i64>().unwrap()).abs() < 600, "{offset}: {moved}");
    }
    // A call's own time still passes.
    let late = text.generate(within(0, story(200))).await.unwrap_err();
    assert!(matches!(late.code(), tonic::Code::DeadlineExceeded | tonic::Code::Cancelled), "{late}");
    process.end().await;
}
