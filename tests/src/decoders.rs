//! The decode loop against transformers, and against itself: every family, every form of graph, whatever runs beside.

use std::{os::unix::fs::symlink, path::Path};

use quintet_proto::text::v1::{
    BeamSearch, BeamStopping, GenerateRequest, GenerateResponse, GenerateStreamRequest, Sampling, ScoreRequest, Stopping,
    text_service_client::TextServiceClient,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::Deserialize;
use tokio::task::JoinSet;
use tonic::{Code, transport::Channel};

use crate::harness::{Process, metric, root};

/// What `scripts/golden/decoders.py` wrote beside each model.
#[derive(Deserialize)]
struct Reference {
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Prompt {
    ids: Vec<u32>,
    text: String,
    continuation: Vec<u32>,
    #[serde(rename = "prompt_logprobs")]
    own_logprobs: Vec<f32>,
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

fn reference(model: &str) -> Reference {
    let file = root().join("tests/models/decoders").join(model).join("1/reference.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// A server of the tiny decoders, one of each family, and its client.
async fn served(settings: &[&str]) -> (Process, TextServiceClient<Channel>) {
    served_from(Path::new("tests/models/decoders"), settings).await
}

async fn served_from(repository: &Path, settings: &[&str]) -> (Process, TextServiceClient<Channel>) {
    let models = format!("models.path={}", repository.display());
    let mut arguments = vec!["--keep-going", "--set", &models];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    let process = Process::up(&arguments);
    let client = TextServiceClient::new(process.channel().await);
    (process, client)
}

pub(crate) fn greedy(model: &str, prompt_ids: &[u32], tokens: u32) -> GenerateRequest {
    GenerateRequest {
        model: model.to_owned(),
        prompt_ids: prompt_ids.to_vec(),
        sampling: Some(Sampling { temperature: Some(0.0), ..Sampling::default() }),
        stopping: Some(Stopping { max_new_tokens: Some(tokens), ignore_eos: true, ..Stopping::default() }),
        logprobs: true,
        ..GenerateRequest::default()
    }
}

pub(crate) fn ids(answer: &GenerateResponse) -> Vec<u32> {
    answer.logprobs.iter().map(|token| token.id).collect()
}

pub(crate) fn bits(answer: &GenerateResponse) -> Vec<(u32, u32)> {
    answer.logprobs.iter().map(|token| (token.id, token.logprob.unwrap().to_bits())).collect()
}

fn near(model: &str, actual: f32, expected: f32, what: &str) {
    // A value between two of an 8-bit cache may fall to either side.
    let tolerance = if model == ROUNDED { 1e-2 } else { 2e-4 };
    assert!((actual - expected).abs() < tolerance, "{what}: {actual} for {expected}");
}

/// The one with keys and values of 8 bits, whose reference rounds them too.
const ROUNDED: &str = "llama-int8";

#[tokio::test(flavor = "multi_thread")]
async fn every_family_and_form_generates_and_scores_as_transformers_does() {
    let (_process, mut client) = served(&[]).await;
    let mut models: Vec<String> =
        std::fs::read_dir(root().join("tests/models/decoders")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    models.sort();
    assert_eq!(models.len(), 13, "{models:?}");
    for model in models {
        for (index, prompt) in reference(&model).prompts.into_iter().enumerate() {
            let what = format!("{model}, prompt {index}");
            let answer = client.generate(greedy(&model, &prompt.ids, 24)).await.unwrap().into_inner();
            assert_eq!(ids(&answer), prompt.continuation, "{what}");
            for (token, expected) in answer.logprobs.iter().zip(&prompt.continuation_logprobs) {
                near(&model, token.logprob.unwrap(), *expected, &what);
            }

            // The prompt's own tokens, and the text in front of what follows.
            let echoed = GenerateRequest { prompt: prompt.text.clone(), prompt_ids: Vec::new(), echo: true, ..greedy(&model, &[], 24) };
            let echoed = client.generate(echoed).await.unwrap().into_inner();
            assert!(echoed.text.starts_with(&prompt.text) && ids(&echoed) == prompt.continuation, "{what}");
            assert_eq!(echoed.prompt_logprobs.iter().map(|token| token.id).collect::<Vec<_>>(), prompt.ids, "{what}");
            assert_eq!(echoed.prompt_logprobs[0].logprob, None, "nothing predicts the first token");
            for (token, expected) in echoed.prompt_logprobs[1..].iter().zip(&prompt.own_logprobs) {
                near(&model, token.logprob.unwrap(), *expected, &what);
            }

            for search in &prompt.searches {
                let early_stopping = match &search.early_stopping {
                    serde_json::Value::Bool(true) => BeamStopping::First,
                    serde_json::Value::Bool(false) => BeamStopping::Estimate,
                    _ => BeamStopping::Never,
                };
                let asked =
                    BeamSearch { num_beams: search.beams, length_penalty: Some(search.length_penalty), early_stopping: early_stopping.into() };
                let mut request = GenerateRequest { beam_search: Some(asked), n: Some(search.beams), ..greedy(&model, &prompt.ids, 10) };
                request.sampling = None;
                request.stopping.as_mut().unwrap().ignore_eos = false;
                let found = client.generate(request).await.unwrap().into_inner();
                let mut texts = vec![ids(&found)];
                texts.extend(found.alternatives.iter().map(|text| text.logprobs.iter().map(|token| token.id).collect()));
                assert_eq!(texts, search.texts, "{what}, {} beams", search.beams);
            }

            // The same by Score: what stands behind its first half.
            let half = prompt.text.len() / 2;
            if half > 0 {
                let (context, text) = prompt.text.split_at(half);
                let score = ScoreRequest {
                    model: model.clone(),
                    texts: vec![text.to_owned()],
                    contexts: vec![context.to_owned()],
                    return_tokens: true,
                    ..ScoreRequest::default()
                };
                let scored = client.score(score).await.unwrap().into_inner().scores.remove(0);
                assert_eq!(scored.token_ids, prompt.ids[half..], "{what}");
                // Score puts the model's beginning-of-text token in front, so that its values are other ones.
                assert_eq!(scored.token_log_probabilities.len(), text.len(), "{what}");
            }
        }
    }
}

/// Invariant 7 in the hardest case: requests come at random, of random lengths, some with a prefix that is known, some leave, and
/// there is so little room that sequences lose their rows. Each one's log-probabilities are those of its solo run, bit for bit.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_runs_beside_it_a_sequence_has_the_bits_of_its_solo_run() {
    have_the_bits_of_their_solo_runs(&["decoders/llama", "decoders/mistral", "decoders/gpt2"], "text.kv_cache_mb=0.07").await;
}

/// The same where prompts run in a graph with weights and activations of 8 bits, and steps in one with weights in blocks.
#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_of_two_graphs_has_the_bits_of_its_solo_run() {
    have_the_bits_of_their_solo_runs(&["two_graphs"], "text.kv_cache_mb=0.07").await;
}

/// The same for keys and values of 8 bits, which take a quarter of the memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_whose_cache_is_rounded_has_the_bits_of_its_solo_run() {
    have_the_bits_of_their_solo_runs(&["decoders/llama-int8"], "text.kv_cache_mb=0.0175").await;
}

/// Folders under `tests/models`. `room`: for little more than one whole context.
async fn have_the_bits_of_their_solo_runs(folders: &[&str], room: &str) {
    let repository = tempfile::tempdir().unwrap();
    let mut models = Vec::new();
    for folder in folders {
        let model = folder.rsplit('/').next().unwrap();
        symlink(root().join("tests/models").join(folder), repository.path().join(model)).unwrap();
        models.push(model);
    }
    let mut random = StdRng::seed_from_u64(5);
    let shared: Vec<u32> = (0..70).map(|_| random.random_range(2..256)).collect();
    let requests: Vec<GenerateRequest> = (0..40u64)
        .map(|seed| {
            let mut prompt = shared[..random.random_range(0..70)].to_vec();
            prompt.extend((0..random.random_range(1..30)).map(|_| random.random_range(2..256u32)));
            let tokens = random.random_range(1..128 - prompt.len() as u32);
            let mut request = greedy(models[seed as usize % models.len()], &prompt, tokens.min(60));
            request.sampling = Some(Sampling { temperature: Some(1.0), top_p: Some(0.95), seed: Some(seed), ..Sampling::default() });
            request
        })
        .collect();
    // Alone: no cache of prefixes, nothing beside it, whole prompts.
    let (alone, mut client) = served_from(repository.path(), &["text.prefix_cache_mb=0", "text.slots=1"]).await;
    let mut expected = Vec::new();
    for request in &requests {
        expected.push(bits(&client.generate(request.clone()).await.unwrap().into_inner()));
    }
    drop(alone);
    // Together: small chunks, and little room.
    let (process, client) = served_from(repository.path(), &["text.prefill_chunk=6", "text.slots=5", room]).await;
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
    assert!(metric(&page, "quintet_text_prefix_tokens_total", &["hit"]) > 0.0, "no prefix was found: {page}");
    assert!(metric(&page, "quintet_text_preemptions_total", &[]) > 0.0, "no sequence lost its row: {page}");
}

/// Without exactness, steps of many rows take the prompts' graph, which rounds otherwise: texts are drawn as they were but for near ties.
#[tokio::test(flavor = "multi_thread")]
async fn without_exactness_many_rows_take_the_quicker_of_two_graphs() {
    let repository = tempfile::tempdir().unwrap();
    symlink(root().join("tests/models/two_graphs"), repository.path().join("two_graphs")).unwrap();
    let (_process, client) = served_from(repository.path(), &["text.exact=false", "text.slots=12", "text.prefix_cache_mb=0"]).await;
    let mut random = StdRng::seed_from_u64(11);
    let prompts: Vec<Vec<u32>> = (0..12).map(|_| (0..20).map(|_| random.random_range(2..256)).collect()).collect();
    let mut alone = Vec::new();
    for prompt in &prompts {
        alone.push(client.clone().generate(greedy("two_graphs", prompt, 60)).await.unwrap().into_inner());
    }
    let mut together = JoinSet::new();
    for (index, prompt) in prompts.into_iter().enumerate() {
        let mut client = client.clone();
        together.spawn(async move { (index, client.generate(greedy("two_graphs", &prompt, 60)).await.unwrap().into_inner()) });
    }
    let (mut same, mut other_bits) = (0, 0);
    for (index, answer) in together.join_all().await {
        // As long as a text is the same: behind a token that was drawn otherwise it is another text.
        let tokens = answer.logprobs.iter().zip(&alone[index].logprobs).take_while(|(together, alone)| together.id == alone.id);
        for (together, alone) in tokens {
            let (together, alone) = (together.logprob.unwrap(), alone.logprob.unwrap());
            assert!((together - alone).abs() < 0.3, "text {index}: {together} for {alone}");
            same += 1;
            other_bits += usize::from(together.to_bits() != alone.to_bits());
        }
    }
    assert!(same > 12 * 10, "most texts are soon others: {same} tokens are the same");
    assert!(other_bits > 0, "no step took the other graph");
}

/// Attention over a text of more than a block of keys adds up in another order where a step has fewer rows times heads than threads. So a
/// decoder has no more threads than heads, whether they are those that all models share or its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_text_has_the_bits_of_its_solo_run_where_there_are_more_threads_than_heads() {
    let (long, repository) = (root().join("tests/models/long"), tempfile::tempdir().unwrap());
    symlink(&long, repository.path().join("shared")).unwrap();
    let own = repository.path().join("own/1");
    std::fs::create_dir_all(&own).unwrap();
    for file in std::fs::read_dir(long.join("1")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), own.join(file.file_name())).unwrap();
    }
    let manifest = std::fs::read_to_string(own.join("quintet.toml")).unwrap();
    std::fs::write(own.join("quintet.toml"), manifest.replace("[sha256]", "[serving]\nthreads = 12\n\n[sha256]")).unwrap();

    let (process, mut client) = served_from(repository.path(), &["runtime.threads=16", "text.prefix_cache_mb=0"]).await;
    let mut random = StdRng::seed_from_u64(7);
    // Behind the first block with a second-level cache of up to 2 MiB.
    let requests: Vec<GenerateRequest> = (0..8)
        .map(|index| {
            let prompt: Vec<u32> = (0..1040 + 5 * index).map(|_| random.random_range(2..256)).collect();
            greedy(["shared", "own"][index % 2], &prompt, 40)
        })
        .collect();
    let mut alone = Vec::new();
    for request in &requests {
        alone.push(bits(&client.generate(request.clone()).await.unwrap().into_inner()));
    }
    let mut together = JoinSet::new();
    for (index, request) in requests.into_iter().enumerate() {
        let mut client = client.clone();
        together.spawn(async move { (index, bits(&client.generate(request).await.unwrap().into_inner())) });
    }
    for (index, bits) in together.join_all().await {
        assert_eq!(bits, alone[index], "request {index}");
    }
    let log = process.log();
    assert_eq!(log.matches("it runs on threads of its own, one for each query head").count(), 2, "{log}");
}

/// A broken model gives logits that are not numbers (here where one token has been read): the request that meets them fails, and those
/// beside it do not see it.
#[tokio::test(flavor = "multi_thread")]
async fn logits_that_are_not_numbers_fail_their_own_request_alone() {
    const TOKEN: u32 = 200;
    let repository = tempfile::tempdir().unwrap();
    symlink(root().join("tests/models/broken"), repository.path().join("broken")).unwrap();
    let models = format!("models.path={}", repository.path().display());
    let process = Process::up(&["--keep-going", "--set", &models]);
    let mut client = TextServiceClient::new(process.channel().await);
    // Sound ones never write the token themselves.
    let request = |seed: u32, second: u32| {
        let mut request = greedy("broken", &[3 + seed, second, 7], 40);
        request.sampling.as_mut().unwrap().logit_bias.insert(TOKEN, -100.0);
        request
    };
    let mut alone = Vec::new();
    for seed in 0..6 {
        alone.push(bits(&client.generate(request(seed, 4)).await.unwrap().into_inner()));
    }
    let mut together = JoinSet::new();
    for seed in 0..12 {
        let (mut client, is_sound) = (client.clone(), seed % 2 == 0);
        let request = request(seed / 2, if is_sound { 4 } else { TOKEN });
        together.spawn(async move { (seed as usize / 2, is_sound, client.generate(request).await) });
    }
    for (seed, is_sound, answer) in together.join_all().await {
        if is_sound {
            assert_eq!(bits(&answer.unwrap().into_inner()), alone[seed], "request {seed}");
        } else {
            assert_eq!(answer.unwrap_err().code(), Code::Internal);
        }
    }
    assert_eq!(bits(&client.generate(request(0, 4)).await.unwrap().into_inner()), alone[0]);
}
