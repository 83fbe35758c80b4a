use std::{path::Path, time::Duration};

use quintet_onnx::{ModelFolder, ModelsConfig, Provider, Repository, Runtime, RuntimeConfig};
use quintet_proto::evaluation::v1::{
    AnomalyEvaluation, EvaluationState, ImageEvaluation, TextEvaluation, evaluation_service_server::EvaluationService as _,
};
use quintet_serving::config::{Layers, SERVER_DEFAULTS, load as load_settings};
use tokio_stream::StreamExt;
use tokio_util::task::TaskTracker;
use tonic::Code;
use tonic_types::StatusExt;

use super::*;
use crate::{Settings, engine::datasets};

/// A service whose peers cannot be reached: nothing listens on port 1.
fn service(max_waiting: usize) -> EvaluationService {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let repository = Repository::open(&ModelsConfig { verify: false, ..ModelsConfig::local(root.join("deploy/models")) }).unwrap();
    let runtime = Runtime::load(&RuntimeConfig { library: "".into(), provider: Provider::Cpu, threads: 0, spin: false, cuda_graphs: true }).unwrap();
    let load = move |folder: &ModelFolder| Classifier::load(folder, &runtime, true);
    let classifiers = Registry::open("image classifier", &repository, |folder| folder.manifest.kind == "image-classifier", load).unwrap();
    let defaults = [SERVER_DEFAULTS, quintet_onnx::DEFAULTS, crate::DEFAULTS];
    let settings = load_settings::<Settings>(&Layers { defaults: &defaults, ..Layers::default() }).unwrap().value;
    let nobody = quintet_serving::peer::connect("http://127.0.0.1:1", &settings.peers).unwrap();
    let peers = Peers { text: nobody.clone(), image: nobody.clone(), anomaly: nobody, timeout: Duration::from_secs(5), max_message_bytes: 1 << 20 };
    let datasets = datasets::scan(&root.join("deploy/datasets"), false).unwrap();
    EvaluationService { evaluator: Arc::new(Evaluator { peers, classifiers, datasets }), jobs: Jobs::new(1, max_waiting, 8, TaskTracker::new()) }
}

fn create(what: What) -> Request<CreateEvaluationRequest> {
    Request::new(CreateEvaluationRequest { evaluation: Some(what), ..CreateEvaluationRequest::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_down_fails_the_job_and_its_watcher_hears_why() {
    let service = service(4);
    let started = service.create_evaluation(create(What::Text(TextEvaluation::default()))).await.unwrap().into_inner().evaluation.unwrap();
    assert_eq!(started.request.as_ref().unwrap().bootstrap_resamples, Some(1000), "defaults are filled in");
    let watched = service.watch_evaluation(Request::new(WatchEvaluationRequest { id: started.id.clone() })).await.unwrap().into_inner();
    let states: Vec<_> = watched.map(|state| state.unwrap().evaluation.unwrap()).collect().await;
    let last = states.last().unwrap();
    assert_eq!(last.state(), EvaluationState::Failed);
    assert!(last.error.contains("the text service"), "{}", last.error);
    let got = service.get_evaluation(Request::new(GetEvaluationRequest { id: started.id })).await.unwrap().into_inner().evaluation.unwrap();
    assert_eq!(&got, last);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_before_a_job_begins() {
    let service = service(4);
    for (what, field) in [
        (What::Image(ImageEvaluation { samples: Some(63), ..ImageEvaluation::default() }), "image.samples"),
        (What::Text(TextEvaluation { documents: Some(0), ..TextEvaluation::default() }), "text.documents"),
        (What::Text(TextEvaluation { documents: Some(60), ..TextEvaluation::default() }), "text.documents"),
    ] {
        let status = service.create_evaluation(create(what)).await.unwrap_err();
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, field);
    }
    let missing = service.create_evaluation(Request::new(CreateEvaluationRequest::default())).await.unwrap_err();
    assert_eq!(missing.code(), Code::InvalidArgument);
    for (what, known) in [
        (What::Image(ImageEvaluation { dataset: "other".into(), ..ImageEvaluation::default() }), "glyphs-heldout"),
        (What::Image(ImageEvaluation { classifier: "other".into(), ..ImageEvaluation::default() }), "glyph-classifier"),
        (What::Anomaly(AnomalyEvaluation { model: "vae-other".into(), ..AnomalyEvaluation::default() }), "digits-heldout"),
    ] {
        let status = service.create_evaluation(create(what)).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        assert!(status.message().contains(known), "{status}");
        // The name that was looked for, also where the request left it out.
        assert!(status.message().contains("'other"), "{status}");
    }
    assert_eq!(service.list_evaluations(Request::new(ListEvaluationsRequest::default())).await.unwrap().into_inner().evaluations.len(), 0);
    assert_eq!(service.get_evaluation(Request::new(GetEvaluationRequest { id: "none".into() })).await.unwrap_err().code(), Code::NotFound);
    let token = ListEvaluationsRequest { page_token: "x".into(), ..ListEvaluationsRequest::default() };
    assert_eq!(service.list_evaluations(Request::new(token)).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_ends_and_stays_ended() {
    let service = service(4);
    let what = What::Anomaly(AnomalyEvaluation { model: "vae-digits".into(), ..AnomalyEvaluation::default() });
    let started = service.create_evaluation(create(what)).await.unwrap().into_inner().evaluation.unwrap();
    let Some(What::Anomaly(filled)) = started.request.unwrap().evaluation else { panic!("not as asked") };
    assert_eq!(filled.dataset, "digits-heldout");
    let cancel = || service.cancel_evaluation(Request::new(CancelEvaluationRequest { id: started.id.clone() }));
    let ended = cancel().await.unwrap().into_inner().evaluation.unwrap();
    assert_eq!(ended.state(), EvaluationState::Cancelled);
    assert_eq!(cancel().await.unwrap().into_inner().evaluation.unwrap(), ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_waiting_jobs_are_refused_with_a_hint() {
    let service = service(0);
    let what = || What::Text(TextEvaluation::default());
    let first = service.create_evaluation(create(what())).await.unwrap().into_inner().evaluation.unwrap();
    let job = service.jobs.find(&first.id).unwrap();
    job.watch().wait_for(|snapshot| snapshot.state != crate::engine::jobs::State::Queued).await.unwrap();
    let refused = service.create_evaluation(create(what())).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    job.cancel();
}
