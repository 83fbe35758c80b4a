//! Encoder–decoders against transformers, and against themselves: every family, every form of graphs, whatever runs beside.

use std::collections::BTreeSet;

use quintet_proto::text::v1::{
    BeamSearch, BeamStopping, FinishReason, GenerateRequest, GenerateResponse, GenerateStreamRequest, Guide, Sampling, Stopping,
    guide::Guide as Form, text_service_client::TextServiceClient,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::Deserialize;
use tokio::task::JoinSet;
use tonic::{Code, transport::Channel};
use tonic_types::StatusExt;

use crate::harness::{Process, metric, root};

const MODELS: &str = "tests/models/seq2seq";

/// What `scripts/golden/encoder_decoders.py` wrote beside each model.
#[derive(Deserialize)]
struct Reference {
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Prompt {
    ids: Vec<u32>,
    text: String,
    continuation: Vec<u32>,
    continuation_logprobs: Vec<f32>,
    searches: Vec<Search>,
}

#[derive(Deserialize)]
struct Search {
    beams: u32,
    length_penalty: f32,
    early_stopping: serde_json::Value,
    texts: Vec<Vec<u32>>,
}

/// A server of the tiny encoder–decoders, and its client.
async fn served(settings: &[&str]) -> (Process, TextServiceClient<Channel>) {
    let models = format!("models.path={MODELS}");
    let mut arguments = vec!["--keep-going", "--set", models.as_str()];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    let process = Process::up(&arguments);
    let client = TextServiceClient::new(process.channel().await);
    (process, client)
}

fn greedy(model: &str, prompt_ids: &[u32], tokens: u32) -> GenerateRequest {
    GenerateRequest {
        model: model.to_owned(),
        prompt_ids: prompt_ids.to_vec(),
        sampling: Some(Sampling { temperature: Some(0.0), ..Sampling::default() }),
        stopping: Some(Stopping { max_new_tokens: Some(tokens), ..Stopping::default() }),
        logprobs: true,
        ..GenerateRequest::default()
    }
}

fn ids(answer: &GenerateResponse) -> Vec<u32> {
    answer.logprobs.iter().map(|token| token.id).collect()
}

fn bits(answer: &GenerateResponse) -> Vec<(u32, u32)> {
    answer.logprobs.iter().map(|token| (token.id, token.logprob.unwrap().to_bits())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_family_and_form_answers_as_transformers_does() {
    let (_process, mut client) = served(&[]).await;
    let models = std::fs::read_dir(root().join(MODELS)).unwrap();
    let models: BTreeSet<String> = models.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(models.len(), 7, "{models:?}");
    for model in models {
        let file = root().join(MODELS).join(&model).join("1/reference.json");
        let reference: Reference = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        for (index, prompt) in reference.prompts.into_iter().enumerate() {
            let what = format!("{model}, prompt {index}");
            let answer = client.generate(greedy(&model, &prompt.ids, 24)).await.unwrap().into_inner();
            assert_eq!(ids(&answer), prompt.continuation, "{what}");
            for (token, expected) in answer.logprobs.iter().zip(&prompt.continuation_logprobs) {
                let actual = token.logprob.unwrap();
                assert!((actual - expected).abs() < 2e-4, "{what}: {actual} for {expected}");
            }
            // BART's is forced at the length limit.
            let ends = answer.finish_reason() == FinishReason::Eos;
            assert_eq!(ends, prompt.continuation.len() < 24, "{what}");

            let text = GenerateRequest { prompt: prompt.text.clone(), prompt_ids: Vec::new(), ..greedy(&model, &[], 24) };
            assert_eq!(bits(&client.generate(text).await.unwrap().into_inner()), bits(&answer), "{what}");

            for search in &prompt.searches {
                let found = client.generate(searched(&model, &prompt.ids, search)).await.unwrap().into_inner();
                let mut texts = vec![ids(&found)];
                texts.extend(found.alternatives.iter().map(|text| text.logprobs.iter().map(|token| token.id).collect()));
                assert_eq!(texts, search.texts, "{what}, {} beams", search.beams);
            }
        }
    }
}

fn searched(model: &str, ids: &[u32], search: &Search) -> GenerateRequest {
    let early_stopping = match &search.early_stopping {
        serde_json::Value::Bool(true) => BeamStopping::First,
        serde_json::Value::Bool(false) => BeamStopping::Estimate,
        _ => BeamStopping::Never,
    };
    let asked = BeamSearch { num_beams: search.beams, length_penalty: Some(search.length_penalty), early_stopping: early_stopping.into() };
    GenerateRequest { beam_search: Some(asked), n: Some(search.beams), sampling: None, ..greedy(model, ids, 10) }
}

/// Invariant 7 in the hardest case: requests come at random, of random lengths, drawn and searched for, some with an input that another
/// has, some leave, and there is so little room that texts lose their rows. Each one's log-probabilities are those of its solo run, bit
/// for bit.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_runs_beside_it_a_text_has_the_bits_of_its_solo_run() {
    let mut random = StdRng::seed_from_u64(6);
    let mut inputs: Vec<Vec<u32>> = Vec::new();
    let requests: Vec<GenerateRequest> = (0..40usize)
        .map(|seed| {
            // Every third has the input of one before it.
            if seed % 3 < 2 {
                inputs.push((0..random.random_range(1..20)).map(|_| random.random_range(2..256u32)).collect());
            }
            let input = &inputs[random.random_range(0..inputs.len())];
            let mut request = greedy(["t5", "flan-t5", "bart", "t5-optimum"][seed % 4], input, random.random_range(52..64));
            request.stopping.as_mut().unwrap().ignore_eos = true;
            if seed % 5 == 0 {
                let asked = BeamSearch { num_beams: 3, length_penalty: None, early_stopping: BeamStopping::Never.into() };
                (request.beam_search, request.sampling) = (Some(asked), None);
            } else {
                request.sampling = Some(Sampling { temperature: Some(1.0), top_p: Some(0.95), seed: Some(seed as u64), ..Sampling::default() });
            }
            request
        })
        .collect();
    // Alone: nothing beside it, and room for all.
    let (alone, mut client) = served(&["text.slots=3"]).await;
    let mut expected = Vec::new();
    for request in &requests {
        expected.push(bits(&client.generate(request.clone()).await.unwrap().into_inner()));
    }
    drop(alone);
    // Together: a cache for as many beginnings as there are slots, and for half of their ends.
    let (process, client) = served(&["text.slots=10", "text.kv_cache_mb=0.2"]).await;
    let mut together = JoinSet::new();
    for round in 0..2usize {
        for (index, request) in requests.iter().enumerate() {
            let (mut client, request) = (client.clone(), request.clone());
            together.spawn(async move {
                if (index + round) % 5 == 4 {
                    // This one leaves after its first piece.
                    let mut stream = client.generate_stream(GenerateStreamRequest { request: Some(request) }).await.unwrap().into_inner();
                    stream.message().await.unwrap();
                    return None;
                }
                Some((index, bits(&client.generate(request).await.unwrap().into_inner())))
            });
        }
    }
    for (index, bits) in together.join_all().await.into_iter().flatten() {
        assert_eq!(bits, expected[index], "request {index}");
    }
    let page = process.metrics().await;
    assert!(metric(&page, "quintet_text_preemptions_total", &[]) > 0.0, "no text lost its rows: {page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_texts_guides_and_stop_strings_work_as_with_decoders() {
    let (_process, mut client) = served(&[]).await;
    let input: Vec<u32> = (40..60).collect();
    let drawn = |n| GenerateRequest {
        sampling: Some(Sampling { temperature: Some(1.0), seed: Some(3), ..Sampling::default() }),
        n: Some(n),
        ..greedy("flan-t5", &input, 20)
    };
    let one = client.generate(drawn(1)).await.unwrap().into_inner();
    let three = client.generate(drawn(3)).await.unwrap().into_inner();
    assert_eq!(bits(&three), bits(&one), "the first of several is the only one of one");
    let texts: BTreeSet<Vec<u32>> = three.alternatives.iter().map(|text| text.logprobs.iter().map(|token| token.id).collect()).collect();
    assert_eq!(texts.len(), 2);
    assert_eq!(three.usage.unwrap().cached_prompt_tokens, 20, "the input is run once for all");

    // A guide counts from the first token that is not forced.
    for model in ["t5", "bart"] {
        let guide = Guide { guide: Some(Form::Regex("[a-f]{3}-[0-9]{2}".to_owned())) };
        let guided = client.generate(GenerateRequest { guide: Some(guide), ..greedy(model, &input, 20) }).await.unwrap().into_inner();
        let (letters, numbers) = guided.text.split_once('-').unwrap();
        assert!(letters.len() == 3 && letters.bytes().all(|byte| (b'a'..=b'f').contains(&byte)), "{model}: {:?}", guided.text);
        assert!(numbers.len() == 2 && numbers.bytes().all(|byte| byte.is_ascii_digit()), "{model}: {:?}", guided.text);
        assert_eq!(guided.finish_reason(), FinishReason::Eos, "{model}");
    }

    // The fourth token's byte ends the text before it.
    let prompt: Vec<u32> = (70..80).collect();
    let plain = client.generate(greedy("flan-t5", &prompt, 20)).await.unwrap().into_inner();
    let stop = plain.text.chars().find(char::is_ascii).unwrap().to_string();
    let mut request = greedy("flan-t5", &prompt, 20);
    request.stopping.as_mut().unwrap().stop = vec![stop.clone()];
    let stopped = client.generate(request).await.unwrap().into_inner();
    assert_eq!((stopped.finish_reason(), Some(stopped.text.as_str())), (FinishReason::Stop, plain.text.split(&stop).next()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_by_field() {
    let (_process, mut client) = served(&["text.slots=4"]).await;
    let beams = |num_beams| Some(BeamSearch { num_beams, ..BeamSearch::default() });
    for (request, field) in [
        (greedy("t5", &[5; 65], 4), "prompt_ids"),
        (greedy("t5", &[5; 64], 65), "stopping.max_new_tokens"),
        (greedy("t5", &[256], 4), "prompt_ids"),
        (GenerateRequest { beam_search: beams(5), sampling: None, ..greedy("t5", &[5], 4) }, "beam_search.num_beams"),
        (GenerateRequest { prompt: "a".to_owned(), prompt_ids: Vec::new(), echo: true, ..greedy("t5", &[], 4) }, "echo"),
    ] {
        let refused = client.generate(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        let violations = refused.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), [field]);
    }
    // The longest that there may be.
    let whole = client.generate(GenerateRequest { logprobs: false, ..greedy("t5", &[5; 64], 64) }).await.unwrap().into_inner();
    assert!(whole.usage.unwrap().completion_tokens > 0);
}
