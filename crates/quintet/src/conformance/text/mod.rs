//! The text service: X1 to X9, and what its streams and limits are.

mod chat;
mod encoders;
mod full;
mod generate;
mod guided;
mod names;
mod refusals;
mod score;
mod stream;

use bytes::Bytes;
use prost::Message;
use quintet_proto::text::v1::{
    ClassifyInput, ClassifyRequest, EmbedRequest, FillMaskRequest, GenerateRequest, GenerateResponse, GenerateStreamRequest, ListModelsRequest,
    ListModelsResponse, Model, ModelKind, Sampling, ScoreRequest, Stopping, text_service_client::TextServiceClient,
};

use super::{
    check::{Check, Verdict, check},
    every::Ground,
    service::Service,
    target::{Call, Target},
};
use crate::client::{Channel, MAX_MESSAGE_BYTES};

const SERVICE: &str = Service::Text.full_name();

// Each is at most 32 bytes, and so 32 tokens: small models take them too.
const PROMPT: &str = "In the beginning God created";

const TEXTS: [&str; 4] = [PROMPT, "And he said, What shall I do?", "naïve “é” 天地 🌍", "A man eats, a woman plays."];

/// What a target has of text models.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) ground: Ground,
    listed: ListModelsResponse,
}

pub(super) const CHECKS: &[Check<Subject>] = &[
    check!("N1", "An empty model means the default one, an empty version the highest.", names::defaults),
    check!("N2", "Answers name the model and the version that were used.", names::answers),
    check!("N3", "Listings are in order of name, then version.", names::order),
    check!("D2", "A service that is full takes a new call within a second of a cancellation.", full::cancelled),
    check!("L5", "What is beyond capacity is refused at once with RESOURCE_EXHAUSTED and a delay.", full::refused),
    check!("R1", "The same request with the same seed gives the same text, alone and beside others.", generate::beside_others),
    check!("R2", "Where a request leaves the seed out, the answer names the one that gives it again.", generate::drawn_seed),
    check!("R3", "A streamed text is the whole one; a request for more texts begins with the same.", stream::same_as_whole),
    check!("R4", "Scores, embeddings and classes depend on the input alone: alone and together, in any order.", encoders::alone_or_together),
    check!("X1", "A stream's first message names model, version and seed, each text's last its end, the last of all the usage.", stream::shape),
    check!("X2", "A stop string is never in the text, also where it spans pieces.", stream::stopped),
    check!("X3", "LENGTH at max_new_tokens; completion_tokens counts all texts.", generate::length),
    check!("X4", "A prompt that leaves no room is INVALID_ARGUMENT, with its length and the context.", generate::no_room),
    check!("X5", "A guided text matches its guide; a guide that cannot be read is INVALID_ARGUMENT at guide.…", guided::matches),
    check!("X6", "Log-probabilities add up to log_likelihood; bytes and tokens are the text's; alone or among others the same.", score::adds_up),
    check!("X7", "With normalize vectors have length 1; a text that is too long is refused unless truncate is set.", encoders::embeddings),
    check!("X8", "Chat is Generate over the conversation; without a template it is FAILED_PRECONDITION.", chat::generates),
    check!("X8", "What is wrong with a Chat is named by its own fields: `generate.…`, `tools[0]`, `template`.", chat::refused),
    check!("X9", "A model of another kind is FAILED_PRECONDITION with WRONG_MODEL_KIND.", names::wrong_kind),
];

impl Subject {
    /// Finds what the target has.
    pub(super) async fn find(target: &Target) -> Result<Self, Verdict> {
        let mut client = client(target.channel());
        let listed = client.list_models(ListModelsRequest {}).await?.into_inner();
        if !target.model.is_empty() && !listed.models.iter().any(|model| model.name == target.model) {
            return Err(Verdict::failed(format!("ListModels does not have '{}'", target.model)));
        }
        let mut calls = calls(target, &listed).into_iter();
        let Some(ordinary) = calls.next() else { return Err(Verdict::failed("ListModels has no model of a kind that the contract knows")) };
        let generator = generator(target, &listed);
        let ground = Ground {
            target: target.clone(),
            service: SERVICE,
            company: calls.collect(),
            refusals: refusals::of(target, &listed),
            long_name: Some(ordinary_with_name(&ordinary, &"ü".repeat(32 << 10))),
            endless: generator.map(|model| {
                let request = GenerateRequest { stopping: Some(Stopping { ignore_eos: true, ..most(model) }), n: Some(8), ..request(model) };
                Call::new(SERVICE, "GenerateStream", &GenerateStreamRequest { request: Some(request) })
            }),
            settled: without_timings,
            ordinary,
        };
        target.answer(&ground.ordinary).await?;
        Ok(Self { ground, listed })
    }

    fn client(&self) -> TextServiceClient<Channel> {
        client(self.ground.target.channel())
    }

    /// The model to ask among those of some kinds.
    fn model(&self, kinds: &[ModelKind]) -> Result<&Model, Verdict> {
        let names = kinds.iter().map(|kind| kind.as_str_name().trim_start_matches("MODEL_KIND_")).collect::<Vec<_>>().join(" or ");
        pick(&self.ground.target, &self.listed, kinds).ok_or_else(|| Verdict::skipped(format!("the target has no model of the kind {names}")))
    }

    fn decoder(&self) -> Result<&Model, Verdict> {
        self.model(&[ModelKind::CausalLm])
    }

    /// A model that generates.
    fn generator(&self) -> Result<&Model, Verdict> {
        self.model(&[ModelKind::CausalLm, ModelKind::Seq2seq])
    }

    async fn generate(&self, request: GenerateRequest) -> Result<GenerateResponse, Verdict> {
        Ok(self.client().generate(request).await?.into_inner())
    }
}

fn client(channel: Channel) -> TextServiceClient<Channel> {
    TextServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// The model asked for, if it is of one of these kinds; else the default one; else the first.
fn pick<'a>(target: &Target, listed: &'a ListModelsResponse, kinds: &[ModelKind]) -> Option<&'a Model> {
    let fits = || listed.models.iter().filter(|model| kinds.contains(&model.kind()));
    let named = |name: &str| fits().rfind(|model| model.name == name);
    named(&target.model).or_else(|| named(&listed.default_model)).or_else(|| fits().next())
}

fn generator<'a>(target: &Target, listed: &'a ListModelsResponse) -> Option<&'a Model> {
    pick(target, listed, &[ModelKind::CausalLm, ModelKind::Seq2seq])
}

/// A short text with a seed.
fn request(model: &Model) -> GenerateRequest {
    GenerateRequest {
        model: model.name.clone(),
        model_version: model.version.clone(),
        prompt: PROMPT.to_owned(),
        sampling: Some(Sampling { seed: Some(11), temperature: Some(1.0), ..Sampling::default() }),
        stopping: Some(Stopping { max_new_tokens: Some(24), ..Stopping::default() }),
        ..GenerateRequest::default()
    }
}

/// As many tokens as a model surely has room for behind the prompt.
fn most(model: &Model) -> Stopping {
    Stopping { max_new_tokens: Some((model.max_tokens / 2).clamp(1, 4096)), ..Stopping::default() }
}

/// Small calls, one for each thing that the models do. The first is the ordinary one: where it can be, one whose answer has no timings.
fn calls(target: &Target, listed: &ListModelsResponse) -> Vec<Call> {
    let mut calls = Vec::new();
    let texts = || TEXTS.map(str::to_owned).to_vec();
    if let Some(model) = pick(target, listed, &[ModelKind::CausalLm]) {
        let score = ScoreRequest { model: model.name.clone(), texts: texts(), return_tokens: true, ..ScoreRequest::default() };
        calls.push(Call::new(SERVICE, "Score", &ScoreRequest { texts: vec![PROMPT.to_owned()], ..score.clone() }));
        calls.push(Call::new(SERVICE, "Score", &score));
    }
    if let Some(model) = pick(target, listed, &[ModelKind::Encoder]) {
        let embed = EmbedRequest { model: model.name.clone(), inputs: texts(), ..EmbedRequest::default() };
        calls.push(Call::new(SERVICE, "Embed", &embed));
        calls.push(Call::new(SERVICE, "Embed", &EmbedRequest { inputs: vec![PROMPT.to_owned()], ..embed }));
    }
    if let Some(model) = pick(target, listed, &[ModelKind::SequenceClassifier]) {
        let inputs = TEXTS.map(|text| ClassifyInput { text: text.to_owned(), ..ClassifyInput::default() }).to_vec();
        calls.push(Call::new(SERVICE, "Classify", &ClassifyRequest { model: model.name.clone(), inputs, ..ClassifyRequest::default() }));
    }
    for kind in [ModelKind::CausalLm, ModelKind::Seq2seq] {
        if let Some(model) = pick(target, listed, &[kind]) {
            calls.push(Call::new(SERVICE, "Generate", &request(model)));
        }
    }
    if let Some(model) = pick(target, listed, &[ModelKind::MaskedLm])
        && calls.is_empty()
    {
        let request = FillMaskRequest { model: model.name.clone(), inputs: vec!["[MASK]".to_owned()], ..FillMaskRequest::default() };
        calls.push(Call::new(SERVICE, "FillMask", &request));
    }
    calls
}

/// The same call of another model: in all requests of the service `model` is the first field.
fn ordinary_with_name(call: &Call, name: &str) -> Call {
    let mut message = Vec::new();
    message.extend(call.messages().concat());
    // The last value of a field counts.
    prost::encoding::string::encode(1, &name.to_owned(), &mut message);
    Call::raw(SERVICE, call.rpc(), message)
}

/// An answer without what depends on the clock and on caches.
fn without_timings(call: &Call, answer: Bytes) -> Bytes {
    if call.rpc() != "Generate" {
        return answer;
    }
    GenerateResponse::decode(answer.clone()).map_or(answer, |answer| settled(answer).encode_to_vec().into())
}

fn settled(mut answer: GenerateResponse) -> GenerateResponse {
    answer.timings = None;
    answer.alternatives.iter_mut().for_each(|alternative| alternative.timings = None);
    if let Some(usage) = &mut answer.usage {
        usage.cached_prompt_tokens = 0;
    }
    answer
}

/// The texts of an answer, in order of index.
fn texts(answer: &GenerateResponse) -> Vec<&str> {
    std::iter::once(answer.text.as_str()).chain(answer.alternatives.iter().map(|alternative| alternative.text.as_str())).collect()
}
