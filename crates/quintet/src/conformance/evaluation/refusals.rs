use quintet_proto::evaluation::v1::{
    CancelEvaluationRequest, CreateEvaluationRequest, Dataset, DatasetKind, GetEvaluationRequest, ImageEvaluation, ListEvaluationsRequest,
    TextEvaluation, WatchEvaluationRequest, create_evaluation_request::Evaluation as What,
};
use tonic::Code;

use super::SERVICE;
use crate::conformance::{every::Refusal, target::Call};

/// What an evaluation service must refuse.
pub(super) fn of(datasets: &[Dataset]) -> Vec<Refusal> {
    let create = |what: Option<What>, bootstrap_resamples: u32| {
        let request =
            CreateEvaluationRequest { evaluation: what, bootstrap_resamples: Some(bootstrap_resamples), ..CreateEvaluationRequest::default() };
        Call::new(SERVICE, "CreateEvaluation", &request)
    };
    let of_text = |dataset: &str| What::Text(TextEvaluation { dataset: dataset.to_owned(), ..TextEvaluation::default() });
    let id = || "no-such-evaluation".to_owned();
    let unknown = |call: Call| Refusal::with("E6", call, Code::NotFound, Some("UNKNOWN_EVALUATION"));
    let page = ListEvaluationsRequest { page_size: 1001, ..ListEvaluationsRequest::default() };
    let mut refusals = vec![
        Refusal::invalid("E2", create(None, 99), &["evaluation", "bootstrap_resamples"]).saying(&["99", "100"]),
        Refusal::invalid("E2", Call::new(SERVICE, "ListEvaluations", &page), &["page_size"]).saying(&["1001", "1000"]),
        unknown(Call::new(SERVICE, "GetEvaluation", &GetEvaluationRequest { id: id() })),
        unknown(Call::new(SERVICE, "WatchEvaluation", &WatchEvaluationRequest { id: id() })),
        unknown(Call::new(SERVICE, "CancelEvaluation", &CancelEvaluationRequest { id: id() })),
        Refusal::with("E6", create(Some(of_text("no-such-dataset")), 100), Code::NotFound, Some("UNKNOWN_NAME")),
    ];
    if let Some(dataset) = datasets.iter().find(|dataset| dataset.kind() == DatasetKind::Images) {
        let few = ImageEvaluation { dataset: dataset.name.clone(), samples: Some(63), ..ImageEvaluation::default() };
        refusals.push(Refusal::invalid("E2", create(Some(What::Image(few)), 99), &["image.samples", "bootstrap_resamples"]).saying(&["63", "64"]));
    }
    refusals
}
