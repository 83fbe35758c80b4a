use quintet_proto::text::v1::{
    ClassifyRequest, EmbedRequest, GenerateRequest, GenerateStreamRequest, ListModelsResponse, ModelKind, Sampling, ScoreRequest, Stopping,
};
use tonic::Code;

use super::{PROMPT, SERVICE, generator, pick, request};
use crate::conformance::{
    every::Refusal,
    target::{Call, Target},
};

const NOBODY: &str = "no-such-model";
const NO_VERSION: &str = "no-such-version";

/// What a text service must refuse, as far as it has models to be asked for.
pub(super) fn of(target: &Target, listed: &ListModelsResponse) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    if let Some(model) = generator(target, listed) {
        let generate = |request: GenerateRequest| Call::new(SERVICE, "Generate", &request);
        let sampling = |sampling| GenerateRequest { sampling: Some(sampling), ..request(model) };
        let hot = Sampling { temperature: Some(-1.0), top_p: Some(1.5), ..Sampling::default() };
        let stopping = Stopping { max_new_tokens: Some(0), stop: vec!["a".to_owned(), String::new()], ..Stopping::default() };
        let wrapped = GenerateStreamRequest { request: Some(GenerateRequest { stopping: Some(stopping.clone()), ..sampling(hot.clone()) }) };
        let wrong = ["sampling.temperature", "sampling.top_p", "stopping.max_new_tokens", "stopping.stop[1]"];
        refusals.extend([
            Refusal::invalid("E2", generate(sampling(hot)), &["sampling.temperature", "sampling.top_p"]).saying(&["1.5"]),
            Refusal::invalid("E2", generate(GenerateRequest { stopping: Some(stopping), n: Some(0), ..request(model) }), &["n", wrong[2], wrong[3]])
                .saying(&["64"]),
            Refusal::invalid("E2", generate(GenerateRequest { prompt: String::new(), ..request(model) }), &["prompt"]),
            Refusal::invalid("E3", Call::new(SERVICE, "GenerateStream", &wrapped), &wrong),
            Refusal::invalid("E5", generate(GenerateRequest { speculation: 42, ..request(model) }), &["speculation"]).saying(&["42"]),
        ]);
        let unknown = GenerateRequest { model: NOBODY.to_owned(), model_version: String::new(), ..request(model) };
        refusals.push(Refusal::with("E6", generate(unknown), Code::NotFound, Some("UNKNOWN_MODEL")));
        let version = GenerateRequest { model_version: NO_VERSION.to_owned(), ..request(model) };
        refusals.push(Refusal::with("E6", generate(version), Code::NotFound, Some("UNKNOWN_MODEL_VERSION")));
    }
    if let Some(model) = pick(target, listed, &[ModelKind::CausalLm]) {
        let score = |count: usize| {
            let request = ScoreRequest { model: model.name.clone(), texts: vec![PROMPT.to_owned(); count], ..ScoreRequest::default() };
            Call::new(SERVICE, "Score", &request)
        };
        refusals.push(Refusal::invalid("L2", score(0), &["texts"]));
        refusals.push(Refusal::invalid("L2", score(257), &["texts"]).saying(&["257"]));
    }
    if let Some(model) = pick(target, listed, &[ModelKind::Encoder]) {
        let request = |count: usize| EmbedRequest { model: model.name.clone(), inputs: vec!["a".to_owned(); count], ..EmbedRequest::default() };
        let embed = |request: EmbedRequest| Call::new(SERVICE, "Embed", &request);
        let unknown = EmbedRequest { model: NOBODY.to_owned(), ..request(1) };
        refusals.extend([
            Refusal::invalid("L2", embed(request(0)), &["inputs"]),
            Refusal::invalid("L2", embed(request(1025)), &["inputs"]).saying(&["1025"]),
            Refusal::invalid("E5", embed(EmbedRequest { output: 42, ..request(1) }), &["output"]).saying(&["42"]),
            Refusal::with("E6", embed(unknown), Code::NotFound, Some("UNKNOWN_MODEL")),
        ]);
    }
    if let Some(model) = pick(target, listed, &[ModelKind::SequenceClassifier]) {
        let none = ClassifyRequest { model: model.name.clone(), ..ClassifyRequest::default() };
        refusals.push(Refusal::invalid("E2", Call::new(SERVICE, "Classify", &none), &["inputs"]));
    }
    refusals
}
