use quintet_proto::evaluation::v1::{
    CancelEvaluationRequest, CreateEvaluationRequest, DatasetKind, Evaluation, EvaluationState, Metric, TextEvaluation,
    create_evaluation_request::Evaluation as What,
};
use tonic::Code;

use super::{SERVICE, Subject, has_ended};
use crate::conformance::{
    check::{Checked, Verdict, ensure, shown},
    every::Refusal,
    target::Call,
};

pub(super) async fn refused_does_nothing(subject: &Subject) -> Checked {
    let before = subject.newest().await?;
    let wrong = CreateEvaluationRequest { bootstrap_resamples: Some(1), ..subject.small()? };
    Refusal::invalid("O5", Call::new(SERVICE, "CreateEvaluation", &wrong), &["bootstrap_resamples"]).hold(&subject.ground.target).await?;
    let after = subject.newest().await?;
    ensure!(before == after, "after a refused CreateEvaluation the newest job is {after:?}, and was {before:?}");
    Ok(())
}

pub(super) async fn created(subject: &Subject) -> Checked {
    let what = subject.small()?.evaluation;
    let created = subject.create(CreateEvaluationRequest { evaluation: what, ..CreateEvaluationRequest::default() }).await?;
    ensure!(!created.id.is_empty() && created.created_at.is_some(), "CreateEvaluation answers without id or created_at: {created:?}");
    ensure!(created.state() != EvaluationState::Unspecified, "CreateEvaluation answers with no state");
    let request = created.request.clone().unwrap_or_default();
    ensure!(request.bootstrap_resamples == Some(1000), "bootstrap_resamples is filled in as {:?}", request.bootstrap_resamples);
    let got = subject.get(&created.id).await?;
    ensure!(got.request == created.request, "GetEvaluation has another request than CreateEvaluation");
    cancel(subject, &created.id).await?;
    Ok(())
}

pub(super) async fn states(subject: &Subject) -> Checked {
    let created = subject.create(subject.small()?).await?;
    let rank = |evaluation: &Evaluation| match evaluation.state() {
        EvaluationState::Unspecified => 0,
        EvaluationState::Queued => 1,
        EvaluationState::Running => 2,
        _ => 3,
    };
    let states = subject.watch(&created.id).await?;
    let seen: Vec<_> = states.iter().map(rank).collect();
    ensure!(seen.is_sorted() && seen.first() > Some(&0), "the states are {:?}", states.iter().map(Evaluation::state).collect::<Vec<_>>());
    for evaluation in &states {
        let (state, metrics) = (evaluation.state(), evaluation.metrics.len());
        ensure!(evaluation.ended_at.is_some() == has_ended(evaluation), "in {state:?} ended_at is {:?}", evaluation.ended_at);
        ensure!((metrics > 0) == (state == EvaluationState::Succeeded), "in {state:?} there are {metrics} metrics");
        let has_error = !evaluation.error.is_empty();
        ensure!(has_error == (state == EvaluationState::Failed), "in {state:?} the error is {:?}", evaluation.error);
    }
    Ok(())
}

pub(super) async fn watched(subject: &Subject) -> Checked {
    let created = subject.create(subject.small()?).await?;
    let states = subject.watch(&created.id).await?;
    for pair in states.windows(2) {
        let [one, next] = pair else { continue };
        ensure!(one.stage != next.stage || one.progress_done <= next.progress_done, "progress falls in {:?}", one.stage);
    }
    for state in &states {
        let (done, total) = (state.progress_done, state.progress_total);
        ensure!(total == 0 || done <= total, "{done} of {total} steps are done in {:?}", state.stage);
    }
    let last = states.last().cloned().unwrap_or_default();
    ensure!(has_ended(&last), "WatchEvaluation ends in {:?}", last.state());
    let again = subject.watch(&created.id).await?;
    ensure!(again.len() == 1, "WatchEvaluation of an ended job gives {} messages", again.len());
    ensure!(again.first() == Some(&last), "WatchEvaluation of an ended job gives another state than its watcher saw last");
    Ok(())
}

pub(super) async fn cancel(subject: &Subject, id: &str) -> Result<Evaluation, Verdict> {
    let cancelled = subject.client().cancel_evaluation(CancelEvaluationRequest { id: id.to_owned() }).await?.into_inner().evaluation;
    cancelled.ok_or_else(|| Verdict::failed("CancelEvaluation answers without an evaluation"))
}

pub(super) async fn cancelled(subject: &Subject) -> Checked {
    // A whole data set where there is one of text, so that there is something to cancel.
    let mut request = CreateEvaluationRequest { bootstrap_resamples: Some(10_000), ..subject.small()? };
    if let Some(dataset) = subject.dataset(DatasetKind::Text) {
        request.evaluation = Some(What::Text(TextEvaluation { dataset, ..TextEvaluation::default() }));
    }
    let id = subject.create(request).await?.id;
    let first = cancel(subject, &id).await?;
    ensure!(has_ended(&first), "CancelEvaluation answers in {:?}", first.state());
    let second = cancel(subject, &id).await?;
    ensure!(second == first, "CancelEvaluation of an ended job changes {:?} to {:?}", first.state(), second.state());
    let ended = subject.get(&id).await?;
    ensure!(ended == first, "after CancelEvaluation the job is {:?}", ended.state());
    Ok(())
}

pub(super) async fn same_again(subject: &Subject) -> Checked {
    let mut measured: Vec<Vec<Metric>> = Vec::new();
    for _ in 0..2 {
        let id = subject.create(subject.small()?).await?.id;
        let ended = subject.watch(&id).await?.pop().unwrap_or_default();
        if ended.state() != EvaluationState::Succeeded {
            return Err(Verdict::skipped(format!("the evaluation did not succeed: {:?} {}", ended.state(), ended.error)));
        }
        measured.push(ended.metrics);
    }
    ensure!(measured[0] == measured[1], "the same evaluation gives {:?}, and then {:?}", measured[0], measured[1]);
    Ok(())
}

pub(super) async fn unknown_dataset(subject: &Subject) -> Checked {
    let what = What::Text(TextEvaluation { dataset: "no-such-dataset".to_owned(), ..TextEvaluation::default() });
    let request = CreateEvaluationRequest { evaluation: Some(what), ..CreateEvaluationRequest::default() };
    match subject.client().create_evaluation(request).await {
        Err(status) if status.code() == Code::NotFound => Ok(()),
        Err(status) => Err(Verdict::failed(format!("an unknown data set ends with {}", shown(&status)))),
        Ok(_) => Err(Verdict::failed("an evaluation with an unknown data set is created")),
    }
}
