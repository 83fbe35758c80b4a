//! The text service on the embedded models, with the tokenization service behind it.

use quintet_proto::{
    text::v1::{
        EmbedRequest, FinishReason, GenerateRequest, GenerateStreamRequest, ListModelsRequest, ModelKind, Sampling, ScoreRequest, Stopping,
        text_service_client::TextServiceClient,
    },
    tokenization::v1::{EncodeInput, EncodeRequest, tokenization_service_client::TokenizationServiceClient},
};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::harness::{Process, fields, root};

fn prompt(text: &str, seed: u64, max_new_tokens: u32) -> GenerateRequest {
    GenerateRequest {
        prompt: text.to_owned(),
        sampling: Some(Sampling { seed: Some(seed), ..Sampling::default() }),
        stopping: Some(Stopping { max_new_tokens: Some(max_new_tokens), ..Stopping::default() }),
        ..GenerateRequest::default()
    }
}

async fn streamed(client: &mut TextServiceClient<Channel>, request: GenerateRequest) -> (String, FinishReason, u32, usize) {
    let mut stream = client.generate_stream(GenerateStreamRequest { request: Some(request) }).await.unwrap().into_inner();
    let (mut text, mut reason, mut tokens, mut pieces) = (String::new(), FinishReason::Unspecified, 0, 0);
    while let Some(piece) = stream.message().await.unwrap() {
        assert_eq!(reason, FinishReason::Unspecified, "nothing follows the end");
        text += &piece.text;
        reason = piece.finish_reason();
        tokens = piece.usage.map_or(tokens, |usage| usage.completion_tokens);
        pieces += 1;
    }
    (text, reason, tokens, pieces)
}

/// Invariant 7, over the wire: a request's text does not depend on what runs beside it, nor on how it is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_seed_gives_the_same_text_alone_streamed_and_in_a_crowd() {
    let process = Process::up(&[]);
    let channel = process.channel().await;
    let mut client = TextServiceClient::new(channel.clone());
    let texts = [
        "In the beginning",
        "And the king said unto his servants, behold",
        "Blessed",
        "Now it came to pass in the days when the judges ruled, that there was a famine in the land. And a certain man went",
    ];
    let mut alone = Vec::new();
    for (seed, text) in texts.iter().enumerate() {
        let answer = client.generate(prompt(text, seed as u64, 48)).await.unwrap().into_inner();
        assert_eq!((answer.model.as_str(), answer.seed), ("gpt-english", seed as u64));
        assert!(!answer.text.is_empty());
        let usage = answer.usage.unwrap();
        assert!(usage.completion_tokens <= 48 && usage.prompt_tokens > 1);
        let (text, reason, tokens, pieces) = streamed(&mut client, prompt(text, seed as u64, 48)).await;
        assert_eq!((&text, reason, tokens), (&answer.text, answer.finish_reason(), usage.completion_tokens));
        assert!(pieces > 10, "{pieces} pieces are no stream");
        alone.push(answer.text);
    }
    assert_ne!(client.generate(prompt(texts[0], 99, 48)).await.unwrap().into_inner().text, alone[0], "another seed, another text");

    // More sequences than slots, of different length, all at once.
    let mut crowd = JoinSet::new();
    for copy in 0..40usize {
        let (mut client, which) = (TextServiceClient::new(channel.clone()), copy % texts.len());
        let request = prompt(texts[which], which as u64, 48);
        crowd.spawn(async move { (which, client.generate(request).await.unwrap().into_inner().text) });
    }
    for (which, text) in crowd.join_all().await {
        assert_eq!(text, alone[which]);
    }
}

/// Sequences near the end of the context, beside prompts that come in wide chunks: each fits, whatever the padding.
#[tokio::test(flavor = "multi_thread")]
async fn full_contexts_and_long_prompts_share_runs() {
    let process = Process::up(&[]);
    let channel = process.channel().await;
    let mut crowd = JoinSet::new();
    for copy in 0..12u64 {
        let mut client = TextServiceClient::new(channel.clone());
        let mut request = if copy % 3 == 0 { prompt(&"And he went up to the mountain. ".repeat(40), copy, 20) } else { prompt("And", copy, 500) };
        request.stopping.as_mut().unwrap().ignore_eos = true;
        crowd.spawn(async move { client.generate(request).await.unwrap().into_inner() });
    }
    assert!(crowd.join_all().await.iter().all(|answer| answer.finish_reason() == FinishReason::Length));
}

#[tokio::test(flavor = "multi_thread")]
async fn sampling_and_stopping_do_what_they_say() {
    let process = Process::up(&[]);
    let mut client = TextServiceClient::new(process.channel().await);
    let greedy = |seed| GenerateRequest {
        sampling: Some(Sampling { temperature: Some(0.0), seed: Some(seed), ..Sampling::default() }),
        ..prompt("And God said", 0, 40)
    };
    let first = client.generate(greedy(1)).await.unwrap().into_inner();
    assert_eq!(client.generate(greedy(2)).await.unwrap().into_inner().text, first.text, "greedy needs no seed");
    let narrow =
        GenerateRequest { sampling: Some(Sampling { top_k: Some(1), seed: Some(3), ..Sampling::default() }), ..prompt("And God said", 0, 40) };
    assert_eq!(client.generate(narrow).await.unwrap().into_inner().text, first.text, "the likeliest of one is greedy");

    // A stop string from the middle of what is known to come, cut across tokens.
    let middle: String = first.text.chars().skip(20).take(7).collect();
    let mut stopped = greedy(1);
    stopped.stopping.as_mut().unwrap().stop = vec!["never to be seen".to_owned(), middle.clone()];
    let answer = client.generate(stopped.clone()).await.unwrap().into_inner();
    let expected = &first.text[..first.text.find(&middle).unwrap()];
    assert_eq!((answer.text.as_str(), answer.finish_reason()), (expected, FinishReason::Stop));
    let timings = answer.timings.unwrap();
    assert!(timings.prefill_seconds > 0.0 && timings.decode_seconds > 0.0, "{timings:?}");
    let (text, reason, tokens, _) = streamed(&mut client, stopped).await;
    assert_eq!((text.as_str(), reason, tokens), (expected, FinishReason::Stop, answer.usage.unwrap().completion_tokens));

    let short = client.generate(prompt("And God said", 4, 3)).await.unwrap().into_inner();
    assert_eq!((short.finish_reason(), short.usage.unwrap().completion_tokens), (FinishReason::Length, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seq2seq_model_restores_case_and_punctuation() {
    let process = Process::up(&[]);
    let mut client = TextServiceClient::new(process.channel().await);
    let request = |text: &str| GenerateRequest { model: "restore-case".to_owned(), prompt: text.to_owned(), ..GenerateRequest::default() };
    let answer = client.generate(request("the lord said unto moses go in unto pharaoh")).await.unwrap().into_inner();
    assert_eq!(answer.finish_reason(), FinishReason::Eos);
    let letters: String = answer.text.chars().filter(|character| character.is_alphabetic()).collect::<String>().to_lowercase();
    assert_eq!(letters, "thelordsaiduntomosesgoinuntopharaoh", "{}", answer.text);
    assert!(answer.text.starts_with("The LORD said unto Moses") && answer.text.contains(','), "{}", answer.text);
    let (text, ..) = streamed(&mut client, request("the lord said unto moses go in unto pharaoh")).await;
    assert_eq!(text, answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_are_those_of_the_reference() {
    let process = Process::up(&[]);
    let mut client = TextServiceClient::new(process.channel().await);
    let reference: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(root().join("deploy/models/all-minilm-l6-v2/1/embeddings.json")).unwrap()).unwrap();
    let sentences: Vec<String> = reference["sentences"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect();
    let together = client.embed(EmbedRequest { inputs: sentences.clone(), ..EmbedRequest::default() }).await.unwrap().into_inner();
    assert_eq!(together.model, "all-minilm-l6-v2");
    for (index, embedding) in together.embeddings.iter().enumerate() {
        let expected: Vec<f32> = reference["embeddings"][index].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect();
        let cosine: f32 = embedding.values.iter().zip(&expected).map(|(a, b)| a * b).sum();
        // int8 against fp32; the card states the least of these.
        assert!(cosine > 0.97, "{}: {cosine}", sentences[index]);
        let alone = client.embed(EmbedRequest { inputs: vec![sentences[index].clone()], ..EmbedRequest::default() }).await.unwrap().into_inner();
        assert_eq!(alone.embeddings[0], *embedding, "the same bits alone and together");
    }
    let long = "word ".repeat(400);
    let refused = client.embed(EmbedRequest { inputs: vec!["short".into(), long.clone()], ..EmbedRequest::default() }).await.unwrap_err();
    assert_eq!(fields(&refused), ["inputs[1]"]);
    let cut = client.embed(EmbedRequest { inputs: vec![long], truncate: true, ..EmbedRequest::default() }).await.unwrap().into_inner();
    assert_eq!(cut.prompt_tokens, 256);
}

#[tokio::test(flavor = "multi_thread")]
async fn scores_add_up_and_the_card_tells_the_truth() {
    let process = Process::up(&[]);
    let channel = process.channel().await;
    let mut client = TextServiceClient::new(channel.clone());
    let text = std::fs::read_to_string(root().join("deploy/datasets/kjv-heldout/text.txt")).unwrap();
    let documents: Vec<String> = text.split("\n\n").map(|document| document.trim().to_owned()).collect();
    let chapter = documents[0].clone();
    let request = ScoreRequest { texts: vec![chapter.clone(), "And God said".into()], return_tokens: true, ..ScoreRequest::default() };
    let answer = client.score(request).await.unwrap().into_inner();
    for (score, text) in answer.scores.iter().zip([chapter.as_str(), "And God said"]) {
        assert_eq!(score.bytes as usize, text.len());
        assert_eq!(score.token_ids.len(), score.tokens as usize);
        let sum: f64 = score.token_log_probabilities.iter().map(|value| f64::from(*value)).sum();
        assert!((sum - score.log_likelihood).abs() < 1e-3 && score.token_log_probabilities.iter().all(|value| *value <= 0.0));
    }
    let mut tokenizer = TokenizationServiceClient::new(channel);
    let inputs = vec![EncodeInput { text: chapter, ..EncodeInput::default() }];
    let encoded = tokenizer.encode(EncodeRequest { model: "gpt-english".into(), inputs, ..EncodeRequest::default() }).await.unwrap().into_inner();
    let [begin, ids @ ..] = encoded.encodings[0].ids.as_slice() else { panic!("no ids") };
    assert_eq!((*begin, ids), (0, answer.scores[0].token_ids.as_slice()), "what is scored is what the tokenizer gives behind the text's begin");

    // A text of one token, and one that fills the context to the last.
    let edge = ScoreRequest { texts: vec!["A".into(), "And ".repeat(511)], ..ScoreRequest::default() };
    assert!(client.score(edge).await.unwrap().into_inner().scores.iter().all(|score| score.tokens >= 1 && score.log_likelihood < 0.0));

    // The card's figure is over all chapters; over all of them it comes out again here.
    let (mut nats, mut bytes) = (0.0, 0.0);
    for chunk in documents.chunks(8) {
        let answer = client.score(ScoreRequest { texts: chunk.to_vec(), ..ScoreRequest::default() }).await.unwrap().into_inner();
        nats -= answer.scores.iter().map(|score| score.log_likelihood).sum::<f64>();
        bytes += answer.scores.iter().map(|score| f64::from(score.bytes)).sum::<f64>();
    }
    let bits = nats / (bytes * std::f64::consts::LN_2);
    let card = std::fs::read_to_string(root().join("deploy/models/gpt-english/1/README.md")).unwrap();
    assert!(bits <= 1.4 && card.contains(&format!("**{bits:.3}**")), "{bits:.4} bits per byte; the card says otherwise");
}

#[tokio::test(flavor = "multi_thread")]
async fn models_say_what_they_are_and_where_they_run() {
    let process = Process::up(&[]);
    let mut client = TextServiceClient::new(process.channel().await);
    let models = client.list_models(ListModelsRequest {}).await.unwrap().into_inner().models;
    let kinds: Vec<(&str, ModelKind)> = models.iter().map(|model| (model.name.as_str(), model.kind())).collect();
    assert_eq!(kinds, [("all-minilm-l6-v2", ModelKind::Encoder), ("gpt-english", ModelKind::CausalLm), ("restore-case", ModelKind::Seq2seq)]);
    for model in models {
        assert!(model.provider_nodes["CPUExecutionProvider"] > 0 && model.provider_nodes.len() == 1, "{model:?}");
        assert!(!model.license.is_empty() && model.max_tokens > 0);
    }
}
