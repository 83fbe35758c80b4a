use std::time::SystemTime;

use prost_types::Timestamp;
use quintet_proto::evaluation::v1::{
    ConfidenceInterval, CreateEvaluationRequest, Dataset as DatasetMessage, DatasetKind, Evaluation, EvaluationState, Metric as MetricMessage,
};

use crate::engine::{
    Metric,
    datasets::{Dataset, Kind},
    jobs::{Job, Snapshot, State},
};

pub(super) fn dataset(dataset: &Dataset) -> DatasetMessage {
    let kind = match dataset.kind {
        Kind::Images => DatasetKind::Images,
        Kind::Text => DatasetKind::Text,
        Kind::LabelledSamples => DatasetKind::LabelledSamples,
    };
    DatasetMessage { name: dataset.name.clone(), kind: kind.into(), size: dataset.size as u32, sha256: dataset.sha256.clone() }
}

pub(super) fn evaluation(job: &Job<CreateEvaluationRequest>, snapshot: Snapshot) -> Evaluation {
    let state = match snapshot.state {
        State::Queued => EvaluationState::Queued,
        State::Running => EvaluationState::Running,
        State::Succeeded => EvaluationState::Succeeded,
        State::Failed => EvaluationState::Failed,
        State::Cancelled => EvaluationState::Cancelled,
    };
    Evaluation {
        id: job.id.clone(),
        state: state.into(),
        request: Some(job.request.clone()),
        stage: snapshot.stage.to_owned(),
        progress_done: snapshot.done as u64,
        progress_total: snapshot.total as u64,
        metrics: snapshot.metrics.into_iter().map(metric).collect(),
        error: snapshot.error,
        created_at: Some(timestamp(job.created_at)),
        ended_at: snapshot.ended_at.map(timestamp),
    }
}

fn metric(metric: Metric) -> MetricMessage {
    MetricMessage {
        name: metric.name.to_owned(),
        value: metric.value,
        interval: metric.interval.map(|interval| ConfidenceInterval {
            lower: interval.lower,
            upper: interval.upper,
            level: interval.level,
            method: interval.method.to_owned(),
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
