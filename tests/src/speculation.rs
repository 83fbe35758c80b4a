//! Drafts change how long a text takes and not what it is: with them and without, alone and in company, for every family and form.

use std::path::Path;

use quintet_proto::text::v1::{
    BeamSearch, Choices, FinishReason, GenerateRequest, GenerateResponse, GenerateStreamRequest, Guide, Sampling, Speculation, Stopping,
    guide::Guide as Form, text_service_client::TextServiceClient,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::{
    decoders::{bits, greedy, ids},
    harness::{Process, fields, metric, root, run},
};

/// The tiny decoders, and three more: `good` is `llama` with itself as its draft model, which is nearly always right, and `bad` is `gpt2`
/// with a draft model of other random weights, which hardly ever is; so is `mixed`, whose cache has 8 bits and its draft model's 32.
fn repository() -> tempfile::TempDir {
    let decoders = root().join("tests/models/decoders");
    let repository = tempfile::tempdir().unwrap();
    for model in std::fs::read_dir(&decoders).unwrap() {
        let model = model.unwrap();
        std::os::unix::fs::symlink(model.path(), repository.path().join(model.file_name())).unwrap();
    }
    with_draft(&decoders.join("llama/1"), &repository.path().join("good/1"), "llama");
    with_draft(&decoders.join("gpt2/1"), &repository.path().join("bad/1"), "phi");
    with_draft(&decoders.join("llama-int8/1"), &repository.path().join("mixed/1"), "llama");
    repository
}

/// Bytes that make a decoder's files look so large that a draft model is cheap beside it, and their SHA-256.
const BALLAST: (usize, &str) = (1 << 20, "30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58");

/// Copies a model folder, names a draft model in it, and makes it large.
fn with_draft(from: &Path, to: &Path, draft: &str) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    std::fs::write(to.join("ballast.onnx.data"), vec![0; BALLAST.0]).unwrap();
    let manifest = std::fs::read_to_string(to.join("quintet.toml")).unwrap();
    let manifest = manifest.replace("form = \"packed\"", &format!("form = \"packed\"\ndraft = \"{draft}\""));
    std::fs::write(to.join("quintet.toml"), format!("{manifest}\"ballast.onnx.data\" = \"{}\"\n", BALLAST.1)).unwrap();
}

async fn served(repository: &Path, settings: &[&str]) -> (Process, TextServiceClient<Channel>) {
    let models = format!("models.path={}", repository.display());
    let mut arguments = vec!["--keep-going", "--set", &models];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    let process = Process::up(&arguments);
    let client = TextServiceClient::new(process.channel().await);
    (process, client)
}

async fn answer(client: &mut TextServiceClient<Channel>, request: &GenerateRequest, speculation: Speculation) -> GenerateResponse {
    client.generate(GenerateRequest { speculation: speculation.into(), ..request.clone() }).await.unwrap().into_inner()
}

/// A text of hardly more than these few tokens: it comes back to what it said before, and goes on in another way as often as not.
fn of_few_tokens(model: &str, seed: u64, temperature: f32) -> GenerateRequest {
    let mut random = StdRng::seed_from_u64(seed);
    let few: Vec<u32> = (0..3).map(|_| random.random_range(2..256)).collect();
    let prompt: Vec<u32> = (0..random.random_range(1..30)).map(|_| few[random.random_range(0..3)]).collect();
    let tokens = random.random_range(20..90);
    let logit_bias = few.iter().map(|token| (*token, 9.0)).collect();
    let sampling = Sampling { temperature: Some(temperature), seed: Some(seed), logit_bias, ..Sampling::default() };
    GenerateRequest { sampling: Some(sampling), ..greedy(model, &prompt, tokens) }
}

/// A text as the model has it: what a draft model is good at.
fn free(model: &str, seed: u64, temperature: f32) -> GenerateRequest {
    let mut request = of_few_tokens(model, seed, temperature);
    request.sampling.as_mut().unwrap().logit_bias.clear();
    request
}

/// Drafted and accepted tokens.
fn drafts(answer: &GenerateResponse) -> (u32, u32) {
    let usage = answer.usage.unwrap();
    (usage.drafted_tokens, usage.accepted_tokens)
}

#[tokio::test(flavor = "multi_thread")]
async fn greedy_and_drawn_texts_are_those_without_drafts() {
    let repository = repository();
    let (process, mut client) = served(repository.path(), &[]).await;
    let mut models: Vec<String> =
        std::fs::read_dir(repository.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    models.sort();
    assert_eq!(models.len(), 16);
    // By what drafted, so that each is known to have been right and wrong.
    let mut fared = [(0, 0); 3];
    for model in &models {
        for seed in 0..12 {
            let temperature = [0.0, 1.0, 0.7][seed as usize % 3];
            let (kind, speculation, request) = match model.as_str() {
                "good" => (1, Speculation::Draft, free(model, seed, temperature)),
                "bad" | "mixed" => (2, Speculation::Draft, free(model, seed, temperature)),
                _ => (0, Speculation::PromptLookup, of_few_tokens(model, seed, temperature)),
            };
            let what = format!("{model}, seed {seed}");
            let plain = answer(&mut client, &request, Speculation::None).await;
            assert_eq!(drafts(&plain), (0, 0));
            let speculated = answer(&mut client, &request, speculation).await;
            assert_eq!(ids(&speculated), ids(&plain), "{what}");
            for (one, other) in speculated.logprobs.iter().zip(&plain.logprobs) {
                assert!((one.logprob.unwrap() - other.logprob.unwrap()).abs() < 2e-4, "{what}");
            }
            let (drafted, accepted) = drafts(&speculated);
            assert!(accepted <= drafted && accepted < request.stopping.as_ref().unwrap().max_new_tokens(), "{what}");
            fared[kind].0 += drafted;
            fared[kind].1 += accepted;
        }
    }
    let [(looked_up, found), (good, right), (bad, lucky)] = fared;
    assert!(found > 1000 && looked_up > found + 500, "look-up: {found} of {looked_up}");
    assert!(right > 100 && good > right + 20, "a model's own drafts: {right} of {good}");
    assert!(bad > 30 && lucky < bad / 4, "another's: {lucky} of {bad}");
    let (drafted, accepted) = (looked_up + good + bad, found + right + lucky);
    let page = process.metrics().await;
    assert_eq!(metric(&page, "quintet_text_draft_tokens_total", &["drafted"]), f64::from(drafted));
    assert_eq!(metric(&page, "quintet_text_draft_tokens_total", &["accepted"]), f64::from(accepted));
}

/// What a request asks beside tokens goes on under drafts: several texts, stop strings, guides, penalties.
#[tokio::test(flavor = "multi_thread")]
async fn what_else_a_request_asks_is_the_same_with_drafts() {
    let repository = repository();
    let (_process, mut client) = served(repository.path(), &[]).await;
    let plain = |seed| GenerateRequest { logprobs: true, ..of_few_tokens("llama", seed, 0.6) };
    // A text with a character in it that can be a stop string.
    let (mut seed, mut stop) = (0, None);
    while stop.is_none() {
        seed += 1;
        let text = answer(&mut client, &plain(seed), Speculation::None).await.text;
        stop = text.chars().filter(char::is_ascii_graphic).nth(10).map(String::from);
    }
    let penalised = Sampling { repetition_penalty: Some(1.1), no_repeat_ngram_size: Some(8), ..plain(1).sampling.unwrap() };
    let choice = "Speak unto the children, and say unto them: Speak unto the children.";
    let choices = Guide { guide: Some(Form::Choices(Choices { texts: vec![choice.to_owned()] })) };
    let regex = Guide { guide: Some(Form::Regex("(na )+batman".into())) };
    let guided = |guide: Guide, seed: u64| {
        let stopping = Stopping { max_new_tokens: Some(80), ignore_eos: false, ..plain(seed).stopping.unwrap() };
        GenerateRequest { guide: Some(guide), stopping: Some(stopping), ..plain(seed) }
    };
    let requests = [
        GenerateRequest { n: Some(3), ..plain(1) },
        GenerateRequest { n: Some(2), best_of: Some(4), ..plain(2) },
        GenerateRequest { stopping: Some(Stopping { stop: stop.into_iter().collect(), ..plain(seed).stopping.unwrap() }), ..plain(seed) },
        guided(choices, 3),
        guided(regex, 4),
        GenerateRequest { sampling: Some(penalised), top_logprobs: 3, ..plain(5) },
        GenerateRequest { logprobs: true, ..of_few_tokens("llama", 6, 0.0) },
    ];
    let mut accepted = 0;
    for (index, request) in requests.into_iter().enumerate() {
        let one = answer(&mut client, &request, Speculation::None).await;
        let other = answer(&mut client, &request, Speculation::PromptLookup).await;
        assert_eq!((&one.text, one.finish_reason), (&other.text, other.finish_reason), "request {index}");
        assert_eq!((ids(&one), one.prompt_logprobs.len()), (ids(&other), other.prompt_logprobs.len()), "request {index}");
        let texts = |answer: &GenerateResponse| answer.alternatives.iter().map(|text| text.text.clone()).collect::<Vec<_>>();
        assert_eq!(texts(&one), texts(&other), "request {index}");
        let usage = other.usage.unwrap();
        assert_eq!(one.usage.unwrap().completion_tokens, usage.completion_tokens, "request {index}");
        accepted += usage.accepted_tokens;

        if request.best_of.is_none() {
            let request = GenerateRequest { speculation: Speculation::PromptLookup.into(), ..request };
            let mut stream = client.generate_stream(GenerateStreamRequest { request: Some(request) }).await.unwrap().into_inner();
            let (mut text, mut usages) = (String::new(), Vec::new());
            while let Some(piece) = stream.message().await.unwrap() {
                text += if piece.index == 0 { &piece.text } else { "" };
                usages.extend(piece.usage);
            }
            assert_eq!(text, one.text, "request {index}");
            assert!(one.finish_reason == i32::from(FinishReason::Stop) || usages == [usage], "request {index}: {usages:?}");
        }
    }
    assert!(accepted > 20, "{accepted} drafted tokens were right");
}

/// Invariant 7 with drafts, where requests come at random and there is so little room that sequences lose their rows.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_runs_beside_it_a_sequence_with_drafts_has_the_bits_of_its_solo_run() {
    let repository = repository();
    let requests: Vec<GenerateRequest> = (0..48u64)
        .map(|seed| {
            let model = ["good", "llama", "gpt2", "bad", "llama-genai", "mistral", "mixed"][seed as usize % 7];
            let temperature = if seed % 4 == 0 { 0.0 } else { 1.0 };
            let speculation = match (model, seed % 5) {
                (_, 4) => Speculation::None,
                ("good" | "bad" | "mixed", 0..=2) => Speculation::Draft,
                _ => Speculation::PromptLookup,
            };
            let request = if speculation == Speculation::Draft { free(model, seed, temperature) } else { of_few_tokens(model, seed, temperature) };
            // So long that those that run together outgrow the cache.
            let stopping = Stopping { max_new_tokens: Some(80), ..request.stopping.unwrap() };
            GenerateRequest { speculation: speculation.into(), stopping: Some(stopping), ..request }
        })
        .collect();
    let (alone, mut client) = served(repository.path(), &["text.prefix_cache_mb=0", "text.slots=1"]).await;
    let mut expected = Vec::new();
    for request in &requests {
        expected.push(bits(&client.generate(request.clone()).await.unwrap().into_inner()));
    }
    drop(alone);
    let (process, client) = served(repository.path(), &["text.prefill_chunk=6", "text.slots=10", "text.kv_cache_mb=0.13"]).await;
    let mut together = JoinSet::new();
    for round in 0..2usize {
        for (index, request) in requests.iter().enumerate() {
            let (mut client, request) = (client.clone(), request.clone());
            together.spawn(async move {
                if (index + round) % 7 == 6 {
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
        assert_eq!(bits, expected[index], "request {index}, {}", requests[index].model);
    }
    let page = process.metrics().await;
    assert!(metric(&page, "quintet_text_draft_tokens_total", &["accepted"]) > 0.0, "nothing was accepted: {page}");
    for model in ["\"good\"", "\"llama\""] {
        assert!(metric(&page, "quintet_text_preemptions_total", &[model]) > 0.0, "no sequence of {model} lost its row: {page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_setting_counts_where_a_request_does_not_say() {
    let repository = repository();
    let unsaid = |model| of_few_tokens(model, 1, 0.0);
    let free = |model| free(model, 1, 0.0);
    let (_process, mut client) = served(repository.path(), &[]).await;
    assert_eq!(drafts(&answer(&mut client, &unsaid("llama"), Speculation::Unspecified).await).0, 0, "auto: it has no draft model");
    let (drafted, accepted) = drafts(&answer(&mut client, &free("good"), Speculation::Unspecified).await);
    assert!(accepted > 0 && drafted == accepted, "a model drafts for itself without an error: {accepted} of {drafted}");
    let (_process, mut client) = served(repository.path(), &["text.speculation=prompt-lookup"]).await;
    assert!(drafts(&answer(&mut client, &unsaid("llama"), Speculation::Unspecified).await).0 > 0);
    // A search takes the setting as what others are asked.
    let search = GenerateRequest { beam_search: Some(BeamSearch { num_beams: 2, ..BeamSearch::default() }), sampling: None, ..unsaid("llama") };
    assert_eq!(drafts(&answer(&mut client, &search, Speculation::Unspecified).await), (0, 0));
    let (_process, mut client) = served(repository.path(), &["text.speculation=off"]).await;
    assert_eq!(drafts(&answer(&mut client, &free("good"), Speculation::Unspecified).await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_drafted_is_refused() {
    let repository = repository();
    let (_process, mut client) = served(repository.path(), &[]).await;
    let request = |speculation: i32| GenerateRequest { speculation, ..greedy("llama", &[5, 6], 4) };
    let refused = client.generate(request(Speculation::Draft.into())).await.unwrap_err();
    assert_eq!(fields(&refused), ["speculation"]);
    assert!(refused.message().contains("SPECULATION_PROMPT_LOOKUP"), "{refused}");
    assert_eq!(fields(&client.generate(request(9)).await.unwrap_err()), ["speculation"]);
    let search = GenerateRequest {
        beam_search: Some(BeamSearch { num_beams: 2, ..BeamSearch::default() }),
        sampling: None,
        ..request(Speculation::PromptLookup.into())
    };
    assert_eq!(fields(&client.generate(search).await.unwrap_err()), ["speculation"]);
    let process = Process::up(&[]);
    let mut client = TextServiceClient::new(process.channel().await);
    let answered = GenerateRequest {
        model: "restore-case".into(),
        prompt: "and moses".into(),
        speculation: Speculation::PromptLookup.into(),
        ..GenerateRequest::default()
    };
    assert_eq!(fields(&client.generate(answered).await.unwrap_err()), ["speculation"]);
}

#[test]
fn a_draft_model_that_cannot_draft_is_named_at_the_start() {
    let decoders = root().join("tests/models/decoders");
    let embedded = root().join("deploy/models");
    for (draft, reason) in [
        ("gpt-english", "tokenizer"),
        ("qwen2", "tokenizer"),
        ("all-minilm-l6-v2", "of kind \"encoder\""),
        ("nobody", "another decoder"),
        ("drafted", "another decoder"),
    ] {
        let repository = tempfile::tempdir().unwrap();
        with_draft(&decoders.join("llama/1"), &repository.path().join("drafted/1"), draft);
        for model in [embedded.join("gpt-english"), embedded.join("all-minilm-l6-v2"), decoders.join("qwen2")] {
            std::os::unix::fs::symlink(&model, repository.path().join(model.file_name().unwrap())).unwrap();
        }
        let models = format!("models.path={}", repository.path().display());
        let (code, _, message) =
            run("quintet-text", &["--listen", "127.0.0.1:0", "--set", &models, "--set", "text.tokenization_endpoint=http://127.0.0.1:1"]);
        assert_eq!(code, 78, "{draft}: {message}");
        assert!(message.contains(&format!("draft = \"{draft}\"")) && message.contains(reason), "{draft}: {message}");
    }
}
