//! The evaluation service: V1 to V7.

mod jobs;
mod list;
mod refusals;

use futures_util::TryStreamExt;
use quintet_proto::evaluation::v1::{
    AnomalyEvaluation, CreateEvaluationRequest, Dataset, DatasetKind, Evaluation, EvaluationState, GetEvaluationRequest, ImageEvaluation,
    ListDatasetsRequest, TextEvaluation, WatchEvaluationRequest, create_evaluation_request::Evaluation as What,
    evaluation_service_client::EvaluationServiceClient,
};

use super::{
    check::{Check, Verdict, check},
    every::{Ground, as_it_is},
    service::Service,
    target::{Call, Target},
};
use crate::client::Channel;

const SERVICE: &str = Service::Evaluation.full_name();

/// What a target has to evaluate with.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) ground: Ground,
    datasets: Vec<Dataset>,
    /// A small evaluation that it can make, where it can make one.
    small: Option<CreateEvaluationRequest>,
}

pub(super) const CHECKS: &[Check<Subject>] = &[
    check!("N3", "Listings are in order of name.", list::datasets),
    check!("O5", "A request that is refused has done nothing: no job is created.", jobs::refused_does_nothing),
    check!("V1", "CreateEvaluation answers at once with a job and with all defaults filled in.", jobs::created),
    check!("V2", "States go from QUEUED to RUNNING to an end, and never back; metrics only if it succeeded, error only if it failed.", jobs::states),
    check!("V3", "WatchEvaluation gives the state at once, then changes, then the ended state; on an ended job one message.", jobs::watched),
    check!("V4", "CancelEvaluation answers when the job has ended; on one that had ended it changes nothing.", jobs::cancelled),
    check!("V5", "ListEvaluations is the newest first; pages follow each other without gaps or repeats.", list::pages),
    check!("V6", "The same request over the same models gives the same values, intervals and measured_with.", jobs::same_again),
    check!("V7", "A data set that the service does not hold is refused at CreateEvaluation.", jobs::unknown_dataset),
];

impl Subject {
    /// Finds what the target has.
    pub(super) async fn find(target: &Target) -> Result<Self, Verdict> {
        let datasets = client(target.channel()).list_datasets(ListDatasetsRequest {}).await?.into_inner().datasets;
        let ordinary = Call::new(SERVICE, "ListDatasets", &ListDatasetsRequest {});
        let ground = Ground {
            target: target.clone(),
            service: SERVICE,
            company: vec![ordinary.clone()],
            ordinary,
            refusals: refusals::of(&datasets),
            long_name: Some(Call::new(SERVICE, "GetEvaluation", &GetEvaluationRequest { id: "ü".repeat(32 << 10) })),
            // A job that runs may end before any deadline: no call of this service surely lasts.
            endless: None,
            settled: as_it_is,
        };
        let mut subject = Self { ground, datasets, small: None };
        subject.small = subject.quickest().await?;
        Ok(subject)
    }

    fn client(&self) -> EvaluationServiceClient<Channel> {
        client(self.ground.target.channel())
    }

    /// The name of a data set of a kind.
    fn dataset(&self, kind: DatasetKind) -> Option<String> {
        self.datasets.iter().find(|dataset| dataset.kind() == kind).map(|dataset| dataset.name.clone())
    }

    /// Small evaluations of every kind that there is a data set for, the quickest first.
    fn candidates(&self) -> Vec<What> {
        let mut candidates = Vec::new();
        // Which data set fits a model only the service knows.
        candidates.extend(self.dataset(DatasetKind::LabelledSamples).map(|_| What::Anomaly(AnomalyEvaluation::default())));
        let of_text = |dataset| What::Text(TextEvaluation { dataset, documents: Some(1), ..TextEvaluation::default() });
        candidates.extend(self.dataset(DatasetKind::Text).map(of_text));
        let of_images = |dataset| What::Image(ImageEvaluation { dataset, samples: Some(64), ..ImageEvaluation::default() });
        candidates.extend(self.dataset(DatasetKind::Images).map(of_images));
        candidates
    }

    /// The first small evaluation that succeeds; else one that is taken at least.
    async fn quickest(&self) -> Result<Option<CreateEvaluationRequest>, Verdict> {
        let mut taken = None;
        for what in self.candidates() {
            let request = CreateEvaluationRequest { evaluation: Some(what), seed: 1, bootstrap_resamples: Some(100) };
            let Ok(created) = self.client().create_evaluation(request.clone()).await else { continue };
            let id = created.into_inner().evaluation.unwrap_or_default().id;
            if self.watch(&id).await?.last().is_some_and(|last| last.state() == EvaluationState::Succeeded) {
                return Ok(Some(request));
            }
            taken.get_or_insert(request);
        }
        Ok(taken)
    }

    fn small(&self) -> Result<CreateEvaluationRequest, Verdict> {
        self.small.clone().ok_or_else(|| Verdict::skipped("the target takes no small evaluation of the data sets that it lists"))
    }

    async fn create(&self, request: CreateEvaluationRequest) -> Result<Evaluation, Verdict> {
        let created = self.client().create_evaluation(request).await?.into_inner().evaluation;
        created.ok_or_else(|| Verdict::failed("CreateEvaluation answers without an evaluation"))
    }

    async fn get(&self, id: &str) -> Result<Evaluation, Verdict> {
        let got = self.client().get_evaluation(GetEvaluationRequest { id: id.to_owned() }).await?.into_inner().evaluation;
        got.ok_or_else(|| Verdict::failed("GetEvaluation answers without an evaluation"))
    }

    /// All that a watcher sees of an evaluation, to its end.
    async fn watch(&self, id: &str) -> Result<Vec<Evaluation>, Verdict> {
        let states = self.client().watch_evaluation(WatchEvaluationRequest { id: id.to_owned() }).await?.into_inner();
        let states: Vec<_> = states.map_ok(|answer| answer.evaluation.unwrap_or_default()).try_collect().await?;
        if states.is_empty() {
            return Err(Verdict::failed("WatchEvaluation ends without a state"));
        }
        Ok(states)
    }
}

fn client(channel: Channel) -> EvaluationServiceClient<Channel> {
    EvaluationServiceClient::new(channel)
}

fn has_ended(evaluation: &Evaluation) -> bool {
    matches!(evaluation.state(), EvaluationState::Succeeded | EvaluationState::Failed | EvaluationState::Cancelled)
}
