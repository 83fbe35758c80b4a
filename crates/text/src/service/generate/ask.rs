use quintet_proto::text::v1::{
    BeamSearch, BeamStopping as StoppingMessage, GenerateRequest, Sampling as SamplingMessage, Speculation as SpeculationMessage, Stopping,
    guide::Guide as GuideMessage,
};
use quintet_serving::error::Checks;

use crate::{
    DefaultSpeculation, Error,
    engine::{
        GenerationDefaults, Speculation,
        decoder::{BeamStopping, Beams},
        guided::Guide,
        sampling::Sampling,
    },
};

/// Most texts of one request.
const MOST_TEXTS: u32 = 64;
/// Most of the likeliest tokens that are reported at each place.
const MOST_TOP: u32 = 20;
/// Most entries of a logit bias.
const MOST_BIASES: usize = 1024;
/// The longest sequence that is kept from coming twice.
const LONGEST_NGRAM: u32 = 64;
/// Most stop strings, and the bytes of each.
const MOST_STOPS: usize = 16;
const LONGEST_STOP: usize = 256;
/// Most beams of a search.
const MOST_BEAMS: usize = 32;
/// Most choices of a guide.
const MOST_CHOICES: usize = 1024;

/// A request, checked, with the defaults filled in.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) sampling: Sampling,
    pub(super) stops: Vec<String>,
    pub(super) min_new_tokens: usize,
    /// Texts to answer with, and texts to generate.
    pub(super) n: usize,
    pub(super) best_of: usize,
    pub(super) beams: Option<Beams>,
    pub(super) guide: Option<Guide>,
    pub(super) speculation: Speculation,
    /// Whether log-probabilities are reported, and with how many of the likeliest tokens.
    pub(super) logprobs: bool,
    pub(super) top: usize,
    pub(super) echo: bool,
}

/// What the model can do and has as defaults.
#[derive(Clone, Copy, Debug)]
pub(super) struct Able<'a> {
    pub(super) defaults: &'a GenerationDefaults,
    pub(super) vocabulary: usize,
    /// The most beams of a search.
    pub(super) beams: usize,
    /// Whether prompt and text are one sequence.
    pub(super) goes_on: bool,
    /// Whether another model drafts for it.
    pub(super) has_draft: bool,
    /// The service's own setting.
    pub(super) speculation: DefaultSpeculation,
}

impl Ask {
    /// Checks every field that can be checked before the prompt is encoded.
    pub(super) fn new(request: &GenerateRequest, able: Able<'_>) -> Result<Self, Error> {
        let mut checks = Checks::new();
        let stopping = request.stopping.clone().unwrap_or_default();
        checks
            .require(!request.prompt.is_empty() || !request.prompt_ids.is_empty(), "prompt", || "empty: at least one character is needed".to_owned());
        checks.require(request.prompt.is_empty() || request.prompt_ids.is_empty(), "prompt_ids", || {
            format!("{} ids, and `prompt` has text: set one of the two", request.prompt_ids.len())
        });
        checks.require(!request.echo || request.prompt_ids.is_empty(), "echo", || "prompt_ids have no text to repeat".to_owned());
        if let Some(id) = request.prompt_ids.iter().find(|id| **id as usize >= able.vocabulary) {
            checks.require(false, "prompt_ids", || format!("{id}: no such token: the model has {}", able.vocabulary));
        }
        self::stopping(&stopping, &mut checks);
        let n = request.n.unwrap_or(1);
        let best_of = request.best_of.unwrap_or(n);
        checks.require((1..=MOST_TEXTS).contains(&n), "n", || format!("{n}: must be 1 to {MOST_TEXTS}"));
        checks.require((n..=MOST_TEXTS).contains(&best_of), "best_of", || format!("{best_of}: must be n, which is {n}, to {MOST_TEXTS}"));
        checks.require(request.top_logprobs <= MOST_TOP, "top_logprobs", || format!("{}: must be 0 to {MOST_TOP}", request.top_logprobs));
        checks.require(request.logprobs || request.top_logprobs == 0, "top_logprobs", || {
            format!("{}: set `logprobs` to have log-probabilities at all", request.top_logprobs)
        });
        checks.require(!request.echo || able.goes_on, "echo", || "an encoder-decoder's text does not go on from its input".to_owned());
        let beams = request.beam_search.as_ref().map(|search| beams(search, request, able, &mut checks));
        let guide = request.guide.as_ref().and_then(|guide| self::guide(guide.guide.as_ref(), &mut checks));
        checks.require(guide.is_none() || !stopping.ignore_eos, "stopping.ignore_eos", || {
            "a guided text ends where it is complete: set one of the two".to_owned()
        });
        let speculation = speculation(request, able, &mut checks);
        let sampling = sampling(request.sampling.as_ref(), able, &mut checks);
        checks.finish().map_err(Error::Invalid)?;
        Ok(Self {
            sampling,
            stops: stopping.stop,
            min_new_tokens: stopping.min_new_tokens as usize,
            n: n as usize,
            best_of: best_of as usize,
            beams,
            guide,
            speculation,
            logprobs: request.logprobs,
            top: request.top_logprobs as usize,
            echo: request.echo,
        })
    }
}

fn stopping(stopping: &Stopping, checks: &mut Checks) {
    checks.require(stopping.max_new_tokens != Some(0), "stopping.max_new_tokens", || "0: must be at least 1".to_owned());
    checks.require(stopping.max_new_tokens.is_none_or(|most| stopping.min_new_tokens <= most), "stopping.min_new_tokens", || {
        format!("{}: must be at most max_new_tokens, which is {}", stopping.min_new_tokens, stopping.max_new_tokens.unwrap_or_default())
    });
    checks.require(stopping.stop.len() <= MOST_STOPS, "stopping.stop", || format!("{} strings: at most {MOST_STOPS}", stopping.stop.len()));
    for (index, stop) in stopping.stop.iter().take(MOST_STOPS).enumerate() {
        checks.require((1..=LONGEST_STOP).contains(&stop.len()), format!("stopping.stop[{index}]"), || {
            format!("{} bytes: must be 1 to {LONGEST_STOP}", stop.len())
        });
    }
}

fn beams(search: &BeamSearch, request: &GenerateRequest, able: Able<'_>, checks: &mut Checks) -> Beams {
    let (width, n) = (search.num_beams as usize, request.n.unwrap_or(1) as usize);
    let most = able.beams.min(MOST_BEAMS);
    checks.require((2..=most).contains(&width), "beam_search.num_beams", || format!("{width}: must be 2 to {most}"));
    checks.require(n <= width, "n", || format!("{n}: at most as many as there are beams, which are {width}"));
    let without = [
        ("best_of", request.best_of.is_some(), "a search gives the best texts anyway"),
        ("guide", request.guide.is_some(), "guided texts are drawn and not searched for"),
        ("echo", request.echo, "a search gives new text alone"),
        ("top_logprobs", request.top_logprobs > 0, "a search reports the tokens that it took alone"),
    ];
    for (field, is_set, reason) in without {
        checks.require(!is_set, field, || format!("not with beam_search: {reason}"));
    }
    let sampling = request.sampling.clone().unwrap_or_default();
    let drawn = [
        ("temperature", sampling.temperature.is_some()),
        ("top_k", sampling.top_k.is_some()),
        ("top_p", sampling.top_p.is_some()),
        ("min_p", sampling.min_p.is_some()),
        ("typical_p", sampling.typical_p.is_some()),
        ("presence_penalty", sampling.presence_penalty.is_some()),
        ("frequency_penalty", sampling.frequency_penalty.is_some()),
    ];
    for (field, _) in drawn.into_iter().filter(|(_, is_set)| *is_set) {
        checks.require(false, format!("sampling.{field}"), || "not with beam_search: nothing is drawn".to_owned());
    }
    let length_penalty = search.length_penalty.unwrap_or(able.defaults.length_penalty);
    checks.require((-10.0..=10.0).contains(&length_penalty), "beam_search.length_penalty", || format!("{length_penalty}: must be -10 to 10"));
    let stopping = match search.early_stopping() {
        StoppingMessage::First => BeamStopping::First,
        StoppingMessage::Never => BeamStopping::Never,
        StoppingMessage::Estimate => BeamStopping::Estimate,
        StoppingMessage::Unspecified => able.defaults.stopping,
    };
    Beams { width, length_penalty, stopping }
}

/// Where drafts come from: what the request says, else what the service's setting says, as far as the model can.
fn speculation(request: &GenerateRequest, able: Able<'_>, checks: &mut Checks) -> Speculation {
    let (is_decoder, searches) = (able.goes_on, request.beam_search.is_some());
    let asked = SpeculationMessage::try_from(request.speculation);
    checks.require(asked.is_ok(), "speculation", || format!("{}: no such speculation: 0 to 3 are", request.speculation));
    let asked = asked.unwrap_or_default();
    let drafts = matches!(asked, SpeculationMessage::PromptLookup | SpeculationMessage::Draft);
    checks.require(!drafts || is_decoder, "speculation", || "an encoder-decoder's texts are not drafted".to_owned());
    checks.require(!drafts || !searches, "speculation", || "not with beam_search: nothing is drawn".to_owned());
    checks.require(asked != SpeculationMessage::Draft || able.has_draft || !is_decoder, "speculation", || {
        "SPECULATION_DRAFT: the model's folder names no draft model; SPECULATION_PROMPT_LOOKUP needs none".to_owned()
    });
    match (asked, able.speculation) {
        _ if !is_decoder || searches => Speculation::Off,
        (SpeculationMessage::PromptLookup, _) | (SpeculationMessage::Unspecified, DefaultSpeculation::PromptLookup) => Speculation::PromptLookup,
        (SpeculationMessage::Draft, _) => Speculation::Draft,
        (SpeculationMessage::Unspecified, DefaultSpeculation::Auto) if able.has_draft => Speculation::Draft,
        (SpeculationMessage::None | SpeculationMessage::Unspecified, _) => Speculation::Off,
    }
}

fn guide(guide: Option<&GuideMessage>, checks: &mut Checks) -> Option<Guide> {
    match guide {
        None => {
            checks.require(false, "guide", || "empty: one of json_schema, regex, grammar and choices is needed".to_owned());
            None
        }
        Some(GuideMessage::JsonSchema(schema)) => Some(Guide::JsonSchema(schema.clone())),
        Some(GuideMessage::Regex(regex)) => Some(Guide::Regex(regex.clone())),
        Some(GuideMessage::Grammar(grammar)) => Some(Guide::Grammar(grammar.clone())),
        Some(GuideMessage::Choices(choices)) => {
            let count = choices.texts.len();
            checks.require((1..=MOST_CHOICES).contains(&count), "guide.choices.texts", || format!("{count} texts: must be 1 to {MOST_CHOICES}"));
            for (index, text) in choices.texts.iter().take(MOST_CHOICES).enumerate() {
                checks.require(!text.is_empty(), format!("guide.choices.texts[{index}]"), || "empty: at least one character is needed".to_owned());
            }
            Some(Guide::Choices(choices.texts.clone()))
        }
    }
}

/// Checks how tokens are drawn, and fills in the model's defaults.
fn sampling(given: Option<&SamplingMessage>, able: Able<'_>, checks: &mut Checks) -> Sampling {
    let given = given.cloned().unwrap_or_default();
    let defaults = &able.defaults.sampling;
    // A range check that a NaN fails.
    let mut number = |field: &str, value: Option<f32>, default: f32, ok: fn(f32) -> bool, range: &str| {
        let value = value.unwrap_or(default);
        checks.require(ok(value), format!("sampling.{field}"), || format!("{value}: must be {range}"));
        value
    };
    let share: fn(f32) -> bool = |value| value > 0.0 && value <= 1.0;
    let penalty: fn(f32) -> bool = |value| (-2.0..=2.0).contains(&value);
    let repetition_penalty =
        number("repetition_penalty", given.repetition_penalty, defaults.repetition_penalty, |value| (0.1..=10.0).contains(&value), "0.1 to 10");
    let presence_penalty = number("presence_penalty", given.presence_penalty, 0.0, penalty, "-2 to 2");
    let frequency_penalty = number("frequency_penalty", given.frequency_penalty, 0.0, penalty, "-2 to 2");
    let temperature = number("temperature", given.temperature, defaults.temperature, |value| (0.0..=100.0).contains(&value), "0 to 100");
    let top_p = number("top_p", given.top_p, defaults.top_p, share, "above 0 and at most 1");
    let min_p = number("min_p", given.min_p, defaults.min_p, |value| (0.0..=1.0).contains(&value), "0 to 1");
    let typical_p = number("typical_p", given.typical_p, defaults.typical_p, share, "above 0 and at most 1");
    let no_repeat_ngram_size = given.no_repeat_ngram_size.map_or(defaults.no_repeat_ngram_size, |size| size as usize);
    checks.require(no_repeat_ngram_size <= LONGEST_NGRAM as usize, "sampling.no_repeat_ngram_size", || {
        format!("{no_repeat_ngram_size}: must be 0 to {LONGEST_NGRAM}")
    });
    let biases = given.logit_bias.len();
    checks.require(biases <= MOST_BIASES, "sampling.logit_bias", || format!("{biases} entries: at most {MOST_BIASES}"));
    let mut logit_bias: Vec<(u32, f32)> = given.logit_bias.into_iter().take(MOST_BIASES).collect();
    // In one order, whatever order the map had on the way.
    logit_bias.sort_unstable_by_key(|(token, _)| *token);
    for (token, bias) in &logit_bias {
        let field = || format!("sampling.logit_bias[{token}]");
        checks.require((*token as usize) < able.vocabulary, field(), || format!("no such token: the model has {}", able.vocabulary));
        checks.require((-100.0..=100.0).contains(bias), field(), || format!("{bias}: must be -100 to 100"));
    }
    Sampling {
        logit_bias,
        repetition_penalty,
        presence_penalty,
        frequency_penalty,
        no_repeat_ngram_size,
        temperature,
        top_k: given.top_k.map_or(defaults.top_k, |k| k as usize),
        top_p,
        min_p,
        typical_p,
        seed: given.seed.unwrap_or_else(rand::random),
    }
}
