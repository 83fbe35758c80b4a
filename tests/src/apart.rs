//! The services as programs of their own, each in its process, meeting over the network.

use quintet_proto::{
    evaluation::v1::{
        AnomalyEvaluation, CreateEvaluationRequest, EvaluationState, WatchEvaluationRequest, create_evaluation_request::Evaluation as What,
        evaluation_service_client::EvaluationServiceClient,
    },
    text::v1::{GenerateRequest, Sampling, Stopping, text_service_client::TextServiceClient},
};

use crate::harness::{Process, run};

#[tokio::test(flavor = "multi_thread")]
async fn text_calls_a_tokenization_service_elsewhere_and_writes_the_same() {
    let request = || GenerateRequest {
        prompt: "And Moses".into(),
        sampling: Some(Sampling { seed: Some(5), ..Sampling::default() }),
        stopping: Some(Stopping { max_new_tokens: Some(30), ..Stopping::default() }),
        ..GenerateRequest::default()
    };
    let together = Process::up(&[]);
    let expected = TextServiceClient::new(together.channel().await).generate(request()).await.unwrap().into_inner().text;
    let tokenization = Process::start("quintet-tokenization", &[]);
    let endpoint = format!("text.tokenization_endpoint=http://{}", tokenization.address);
    let text = Process::start("quintet-text", &["--set", &endpoint]);
    let mut client = TextServiceClient::new(text.channel().await);
    assert_eq!(client.generate(request()).await.unwrap().into_inner().text, expected);
    // Without its tokenization service, the text service says so.
    tokenization.terminate();
    tokenization.wait().await;
    let status = client.generate(request()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    assert!(status.message().contains("tokenization"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn evaluation_measures_an_anomaly_service_elsewhere() {
    let anomaly = Process::start("quintet-anomaly", &[]);
    let image = Process::start("quintet-image", &[]);
    let set = |key: &str, process: &Process| format!("evaluation.{key}_endpoint=http://{}", process.address);
    let (one, two, three) = (set("anomaly", &anomaly), set("image", &image), set("text", &image));
    let evaluation = Process::start("quintet-evaluation", &["--set", &one, "--set", &two, "--set", &three]);
    let mut client = EvaluationServiceClient::new(evaluation.channel().await);
    let what = What::Anomaly(AnomalyEvaluation { model: "vae-digits".into(), dataset: String::new() });
    let request = CreateEvaluationRequest { evaluation: Some(what), bootstrap_resamples: Some(100), ..Default::default() };
    let id = client.create_evaluation(request).await.unwrap().into_inner().evaluation.unwrap().id;
    let mut states = client.watch_evaluation(WatchEvaluationRequest { id }).await.unwrap().into_inner();
    let mut last = None;
    while let Some(state) = states.message().await.unwrap() {
        last = state.evaluation;
    }
    let last = last.unwrap();
    assert_eq!((last.state(), last.metrics[0].name.as_str()), (EvaluationState::Succeeded, "roc_auc"));
}

#[test]
fn a_service_that_lacks_a_neighbour_says_which_key_to_set() {
    let (code, _, message) = run("quintet-text", &["--listen", "127.0.0.1:0"]);
    assert!(code == 78 && message.contains("text.tokenization_endpoint"), "{code} {message}");
}
