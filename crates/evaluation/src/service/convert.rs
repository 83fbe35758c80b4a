use std::time::SystemTime;

use prost_types::Timestamp;
use quintet_proto::evaluation::v1::{
    ConfidenceInterval, CreateEvaluationRequest, Dataset as DatasetMessage, DatasetKind, Evaluation, EvaluationState, Metric as MetricMessage,
};

use crate::engine::{
    Interval, Metric,
    datasets::{Dataset, Kind},
    job::{Snapshot, State},
    journal::Noted,
};

pub(super) fn dataset(dataset: &Dataset) -> DatasetMessage {
    let kind = match dataset.kind {
        Kind::Images => DatasetKind::Images,
        Kind::Text => DatasetKind::Text,
        Kind::LabelledSamples => DatasetKind::LabelledSamples,
    };
    DatasetMessage { name: dataset.name.clone(), kind: kind.into(), size: dataset.size as u32, sha256: dataset.sha256.clone() }
}

pub(crate) fn evaluation(noted: Noted<CreateEvaluationRequest>) -> Evaluation {
    let Noted { id, request, created_at, snapshot, .. } = noted;
    let state = match snapshot.state {
        State::Queued => EvaluationState::Queued,
        State::Running => EvaluationState::Running,
        State::Succeeded => EvaluationState::Succeeded,
        State::Failed => EvaluationState::Failed,
        State::Cancelled => EvaluationState::Cancelled,
    };
    Evaluation {
        id,
        state: state.into(),
        request: Some(request),
        stage: snapshot.stage.into_owned(),
        progress_done: snapshot.done as u64,
        progress_total: snapshot.total as u64,
        metrics: snapshot.metrics.into_iter().map(metric).collect(),
        error: snapshot.error,
        created_at: Some(timestamp(created_at)),
        ended_at: snapshot.ended_at.map(timestamp),
    }
}

/// A job as [`evaluation`] wrote it.
pub(crate) fn noted(number: u64, evaluation: Evaluation) -> Result<Noted<CreateEvaluationRequest>, String> {
    let state = match evaluation.state() {
        EvaluationState::Queued => State::Queued,
        EvaluationState::Running => State::Running,
        EvaluationState::Succeeded => State::Succeeded,
        EvaluationState::Failed => State::Failed,
        EvaluationState::Cancelled => State::Cancelled,
        EvaluationState::Unspecified => return Err(format!("state {}: not known", evaluation.state)),
    };
    let time = |field: &str, given: Option<Timestamp>| -> Result<Option<SystemTime>, String> {
        given.map(|given| SystemTime::try_from(given).map_err(|error| format!("{field}: {error}"))).transpose()
    };
    Ok(Noted {
        number,
        id: evaluation.id,
        request: evaluation.request.ok_or("it has no request")?,
        created_at: time("created_at", evaluation.created_at)?.ok_or("it has no created_at")?,
        snapshot: Snapshot {
            state,
            stage: evaluation.stage.into(),
            done: evaluation.progress_done as usize,
            total: evaluation.progress_total as usize,
            metrics: evaluation.metrics.into_iter().map(measured).collect(),
            error: evaluation.error,
            ended_at: time("ended_at", evaluation.ended_at)?,
        },
    })
}

fn measured(metric: MetricMessage) -> Metric {
    Metric {
        name: metric.name.into(),
        value: metric.value,
        interval: metric.interval.map(|interval| Interval {
            lower: interval.lower,
            upper: interval.upper,
            level: interval.level,
            method: interval.method.into(),
        }),
        signature: metric.signature,
        sample_size: metric.sample_size as usize,
        seed: metric.seed,
        higher_is_better: metric.higher_is_better,
        measured_with: metric.measured_with.into_iter().collect(),
    }
}

fn metric(metric: Metric) -> MetricMessage {
    MetricMessage {
        name: metric.name.into_owned(),
        value: metric.value,
        interval: metric.interval.map(|interval| ConfidenceInterval {
            lower: interval.lower,
            upper: interval.upper,
            level: interval.level,
            method: interval.method.into_owned(),
        }),
        signature: metric.signature,
        sample_size: metric.sample_size as u64,
        seed: metric.seed,
        higher_is_better: metric.higher_is_better,
        measured_with: metric.measured_with.into_iter().collect(),
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    time.into()
}
