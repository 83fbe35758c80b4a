use quintet_proto::image::v1::{DiscriminateRequest, GenerateRequest, GenerateStreamRequest, Grid, Model};
use tonic::Code;

use super::{MOST, SERVICE, request};
use crate::conformance::{every::Refusal, target::Call};

/// What an image service must refuse.
pub(super) fn of(model: &Model) -> Vec<Refusal> {
    let generate = |request: &GenerateRequest| Call::new(SERVICE, "Generate", request);
    let streamed = |request: GenerateRequest| Call::new(SERVICE, "GenerateStream", &GenerateStreamRequest { request: Some(request) });
    let wrong = GenerateRequest { truncation_psi: Some(1.5), ..request(model, 0) };
    let grid = GenerateRequest { grid: Some(Grid { columns: 257, border: Some(65) }), ..request(model, 1) };
    let unknown = GenerateRequest { model: "no-such-model".to_owned(), model_version: String::new(), ..request(model, 1) };
    let version = GenerateRequest { model_version: "no-such-version".to_owned(), ..request(model, 1) };
    let mut refusals = vec![
        Refusal::invalid("E2", generate(&wrong), &["count", "truncation_psi"]).saying(&["1.5", "4096"]),
        Refusal::invalid("E2", generate(&grid), &["grid.columns", "grid.border"]).saying(&["257", "256", "65", "64"]),
        Refusal::invalid("E3", streamed(wrong), &["count", "truncation_psi"]),
        Refusal::invalid("E3", streamed(GenerateRequest { grid: Some(Grid::default()), ..request(model, 1) }), &["request.grid"]),
        Refusal::invalid("E5", generate(&GenerateRequest { format: 42, ..request(model, 1) }), &["format"]).saying(&["42"]),
        Refusal::with("E6", generate(&unknown), Code::NotFound, Some("UNKNOWN_MODEL")),
        Refusal::with("E6", generate(&version), Code::NotFound, Some("UNKNOWN_MODEL_VERSION")),
        Refusal::invalid("L2", generate(&request(model, 0)), &["count"]),
        Refusal::invalid("L2", generate(&request(model, MOST + 1)), &["count"]).saying(&["4097"]),
    ];
    if model.has_discriminator {
        let none = DiscriminateRequest { model: model.name.clone(), ..DiscriminateRequest::default() };
        refusals.push(Refusal::invalid("L2", Call::new(SERVICE, "Discriminate", &none), &["inputs"]));
    }
    refusals
}
