//! Evaluations of the embedded models, through the other services.

use quintet_proto::evaluation::v1::{
    AnomalyEvaluation, CreateEvaluationRequest, Evaluation, EvaluationState, ImageEvaluation, Metric, TextEvaluation, WatchEvaluationRequest,
    create_evaluation_request::Evaluation as What, evaluation_service_client::EvaluationServiceClient,
};
use tonic::transport::Channel;

use crate::harness::Process;

async fn evaluate(client: &mut EvaluationServiceClient<Channel>, what: What) -> Evaluation {
    let request = CreateEvaluationRequest { evaluation: Some(what), seed: 1, bootstrap_resamples: Some(200) };
    let id = client.create_evaluation(request).await.unwrap().into_inner().evaluation.unwrap().id;
    let mut states = client.watch_evaluation(WatchEvaluationRequest { id }).await.unwrap().into_inner();
    let mut last = None;
    while let Some(state) = states.message().await.unwrap() {
        last = state.evaluation;
    }
    let last = last.unwrap();
    assert_eq!(last.state(), EvaluationState::Succeeded, "{}", last.error);
    for metric in &last.metrics {
        let interval = metric.interval.as_ref().unwrap_or_else(|| panic!("{} has no interval", metric.name));
        assert!(interval.lower <= metric.value && metric.value <= interval.upper, "{metric:?}");
        assert!(metric.signature.contains("version:quintet-") && metric.sample_size > 0 && metric.seed == 1);
        assert!(metric.measured_with.len() >= 2 && metric.measured_with.values().all(|hash| hash.len() == 64), "{metric:?}");
    }
    last
}

fn metric<'a>(evaluation: &'a Evaluation, name: &str) -> &'a Metric {
    evaluation.metrics.iter().find(|metric| metric.name == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gan_is_measured_and_reaches_its_bar() {
    let process = Process::up(&[]);
    let mut client = EvaluationServiceClient::new(process.channel().await);
    let what = || What::Image(ImageEvaluation { samples: Some(720), ..ImageEvaluation::default() });
    let evaluation = evaluate(&mut client, what()).await;
    assert!(metric(&evaluation, "class_accuracy").value >= 0.8, "{evaluation:?}");
    assert!(metric(&evaluation, "inception_score").value > 10.0);
    assert!(metric(&evaluation, "fid").value > 0.0 && metric(&evaluation, "fid").value < 10.0);
    let again = evaluate(&mut client, what()).await;
    assert_eq!(again.metrics, evaluation.metrics, "one seed, one result");
}

#[tokio::test(flavor = "multi_thread")]
async fn perplexity_and_separation_are_measured() {
    let process = Process::up(&[]);
    let mut client = EvaluationServiceClient::new(process.channel().await);
    let text = evaluate(&mut client, What::Text(TextEvaluation { documents: Some(5), ..TextEvaluation::default() })).await;
    assert!(metric(&text, "bits_per_byte").value < 1.55 && metric(&text, "perplexity").value > 1.0);
    for (model, least) in [("vae-breast-cancer", 0.9), ("vae-digits", 0.9), ("vae-glyphs", 0.75)] {
        let what = What::Anomaly(AnomalyEvaluation {
            model: model.into(),
            dataset: if model == "vae-glyphs" { "glyph-defects-heldout".into() } else { String::new() },
        });
        let evaluation = evaluate(&mut client, what).await;
        assert!(metric(&evaluation, "roc_auc").value > least, "{model}: {evaluation:?}");
    }
}
