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
use crate::{
    Settings,
    engine::{Interval, datasets, job::State, jobs::Jobs, journal::Noted},
};

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
    EvaluationService {
        evaluator: Arc::new(Evaluator { peers, classifiers, datasets }),
        jobs: Kept::Own(Jobs::new(1, max_waiting, 8, TaskTracker::new())),
    }
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
    let Kept::Own(jobs) = &service.jobs else { panic!("not its own") };
    let job = jobs.find(&first.id).unwrap();
    job.watch().wait_for(|snapshot| snapshot.state != State::Queued).await.unwrap();
    let refused = service.create_evaluation(create(what())).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    job.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_leaves_is_there_for_the_next() {
    let (folder, after_a_crash) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let open = |path: &Path, tasks: &TaskTracker| {
        let (journal, noted) = Folder::open(path).unwrap();
        (Jobs::new(1, 4, 8, tasks.clone()).noted_in(Arc::new(journal)), noted)
    };
    let states = |noted: &[Noted<CreateEvaluationRequest>]| noted.iter().map(|noted| noted.snapshot.state).collect::<Vec<_>>();
    let asked = |seed| CreateEvaluationRequest { seed, ..CreateEvaluationRequest::default() };
    let tasks = TaskTracker::new();
    let (jobs, noted) = open(folder.path(), &tasks);
    assert!(noted.is_empty());
    let interval = Some(Interval { lower: 0.25, upper: 0.75, level: 0.95, method: "some".into() });
    let measured = Metric {
        name: "fid".into(),
        value: 0.5,
        interval,
        signature: "n:1".into(),
        sample_size: 9,
        seed: 7,
        higher_is_better: false,
        measured_with: [("model@1".to_owned(), "ab".to_owned())].into(),
    };
    let metrics = vec![measured];
    let given = metrics.clone();
    let ended = jobs.start(asked(1), move |_| async move { Ok(given) }).await.unwrap();
    ended.watch().wait_for(|snapshot| snapshot.state.has_ended()).await.unwrap();
    let running = jobs.start(asked(2), |_| std::future::pending()).await.unwrap();
    running.watch().wait_for(|snapshot| snapshot.state == State::Running).await.unwrap();
    let waiting = jobs.start(asked(3), |_| std::future::pending()).await.unwrap();
    let refused = Folder::open(folder.path()).unwrap_err();
    assert!(refused.to_string().contains("another process"), "{refused}");
    for file in std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()) {
        std::fs::copy(&file, after_a_crash.path().join(file.file_name().unwrap())).unwrap();
    }

    // An end in order: what runs is cancelled, what waits is left.
    jobs.shut_down();
    tasks.close();
    tasks.wait().await;
    assert_eq!((running.snapshot().state, waiting.snapshot().state), (State::Cancelled, State::Queued));
    waiting.left().await;
    drop(jobs);
    let (jobs, noted) = open(folder.path(), &TaskTracker::new());
    assert_eq!(states(&noted), [State::Succeeded, State::Cancelled, State::Queued]);
    assert_eq!((noted[0].id.as_str(), noted[0].request.seed, noted[0].created_at), (ended.id.as_str(), 1, ended.created_at));
    jobs.take_up(noted, |request| {
        let seed = request.seed;
        move |_| async move { Err(Error::Mismatch(format!("seed {seed}"))) }
    })
    .unwrap();
    assert_eq!(jobs.find(&ended.id).unwrap().snapshot().metrics, metrics);
    let taken_up = jobs.find(&waiting.id).unwrap();
    let end = taken_up.watch().wait_for(|snapshot| snapshot.state.has_ended()).await.unwrap().clone();
    assert_eq!((end.state, end.error.as_str()), (State::Failed, "seed 3"));
    let next = jobs.start(asked(4), |_| async { Ok(Vec::new()) }).await.unwrap();
    assert_eq!(jobs.list(1, None).0[0].id, next.id, "the newest is still the first");

    // A crash: what ran has failed, and stays so.
    for _ in 0..2 {
        let tasks = TaskTracker::new();
        let (jobs, noted) = open(after_a_crash.path(), &tasks);
        jobs.take_up(noted, |_| |_| async { Ok(Vec::new()) }).unwrap();
        let lost = jobs.find(&running.id).unwrap().snapshot();
        assert!(lost.state == State::Failed && lost.error.contains("create it again") && lost.ended_at.is_some(), "{lost:?}");
        jobs.find(&waiting.id).unwrap().watch().wait_for(|snapshot| snapshot.state == State::Succeeded).await.unwrap();
        // Their tasks hold the folder a moment longer.
        tasks.close();
        tasks.wait().await;
    }
}

#[test]
fn a_broken_journal_says_which_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("00000000000000000001.partial"), [1]).unwrap();
    assert!(Folder::open(folder.path()).unwrap().1.is_empty());
    std::fs::write(folder.path().join("00000000000000000002.evaluation"), [0xff]).unwrap();
    let broken = Folder::open(folder.path()).unwrap_err().to_string();
    assert!(broken.contains("00000000000000000002.evaluation"), "{broken}");
}
