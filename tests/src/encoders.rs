//! Encoders against transformers and sentence-transformers: every family and head, over the wire.

use std::collections::BTreeMap;

use quintet_proto::text::v1::{
    ClassifyInput, ClassifyRequest, EmbedRequest, EmbedResponse, EmbeddingOutput, EncodingFormat, FillMaskRequest, InputType, ListModelsRequest,
    ModelKind, RerankRequest, text_service_client::TextServiceClient,
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::task::JoinSet;
use tonic::{Code, transport::Channel};

use crate::harness::{Process, fields, root};

/// What `scripts/golden/encoders.py` wrote beside a model that embeds.
#[derive(Deserialize)]
struct Embedded {
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
    embeddings: Vec<Vec<f32>>,
    unit_of_first_8: Vec<Vec<f32>>,
    as_query: Vec<Vec<f32>>,
    as_document: Vec<Vec<f32>>,
    by_prompt: BTreeMap<String, Vec<Vec<f32>>>,
    tokens: Vec<Vec<Vec<f32>>>,
    cut_at_40_tokens: Cut,
}

#[derive(Deserialize)]
struct Cut {
    text: String,
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
#[allow(clippy::struct_field_names, reason = "named as the reference's file has them")]
struct Filled {
    texts: Vec<String>,
    filled: Vec<Vec<Vec<Token>>>,
    targets: BTreeMap<String, f32>,
    sparse_texts: Vec<String>,
    sparse: Vec<BTreeMap<u32, f32>>,
}

#[derive(Deserialize)]
#[allow(clippy::struct_field_names, reason = "named as the reference's file has them")]
struct Token {
    id: u32,
    token: String,
    score: f32,
}

#[derive(Deserialize)]
struct Reranked {
    query: String,
    documents: Vec<String>,
    raw: Vec<f32>,
    scores: Vec<f32>,
    best: Vec<u32>,
}

#[derive(Deserialize)]
struct Classified {
    inputs: Vec<Vec<String>>,
    logits: Vec<Vec<f32>>,
    scores: Vec<Vec<f32>>,
}

fn reference<T: DeserializeOwned>(model: &str) -> T {
    let file = root().join("tests/models/encoders").join(model).join("1/reference.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// A server of the tiny encoders and its client.
async fn served(settings: &[&str]) -> (Process, TextServiceClient<Channel>) {
    let mut arguments = vec!["--keep-going", "--set", "models.path=tests/models/encoders"];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    let process = Process::up(&arguments);
    let client = TextServiceClient::new(process.channel().await);
    (process, client)
}

fn near(actual: &[f32], expected: &[f32], what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (actual, expected) in actual.iter().zip(expected) {
        assert!((actual - expected).abs() < 2e-5 * expected.abs().max(1.0), "{what}: {actual} for {expected}");
    }
}

fn all_near(actual: &EmbedResponse, expected: &[Vec<f32>], what: &str) {
    assert_eq!(actual.embeddings.len(), expected.len(), "{what}");
    for (actual, expected) in actual.embeddings.iter().zip(expected) {
        near(&actual.values, expected, what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_are_those_of_sentence_transformers() {
    let (_process, mut client) = served(&[]).await;
    // One is a folder as Optimum leaves it.
    for model in ["bert", "bert-optimum", "distilbert", "mpnet", "xlm-roberta"] {
        let reference: Embedded = reference(model);
        // Their texts are cut without a question.
        let request = || EmbedRequest { model: model.to_owned(), inputs: reference.texts.clone(), truncate: true, ..EmbedRequest::default() };
        let mut embed = async |request: EmbedRequest| client.embed(request).await.unwrap().into_inner();
        let answer = embed(request()).await;
        all_near(&answer, &reference.embeddings, model);
        assert_eq!(answer.prompt_tokens as usize, reference.ids.iter().map(|ids| ids.len().min(40)).sum::<usize>(), "{model}");

        let short = EmbedRequest { dimensions: Some(8), normalize: Some(true), ..request() };
        all_near(&embed(short).await, &reference.unit_of_first_8, &format!("{model}, 8 dimensions"));
        let query = EmbedRequest { input_type: InputType::Query.into(), ..request() };
        all_near(&embed(query).await, &reference.as_query, &format!("{model}, query"));
        let document = EmbedRequest { input_type: InputType::Document.into(), ..request() };
        all_near(&embed(document).await, &reference.as_document, &format!("{model}, document"));
        for (name, expected) in &reference.by_prompt {
            let prompted = EmbedRequest { prompt_name: name.clone(), ..request() };
            all_near(&embed(prompted).await, expected, &format!("{model}, prompt {name}"));
        }
        let long = EmbedRequest { inputs: vec![reference.cut_at_40_tokens.text.clone()], ..request() };
        all_near(&embed(long).await, &[reference.cut_at_40_tokens.embedding], &format!("{model}, cut"));

        // In a byte a value: off by half a step at most.
        let bytes = embed(EmbedRequest { encoding_format: EncodingFormat::Int8.into(), ..request() }).await;
        for (bytes, expected) in bytes.embeddings.iter().zip(&answer.embeddings) {
            assert!(bytes.values.is_empty() && bytes.scale > 0.0);
            assert_eq!(bytes.int8_values.len(), expected.values.len());
            for (byte, value) in bytes.int8_values.iter().zip(&expected.values) {
                assert!((f32::from(i8::from_le_bytes([*byte])) * bytes.scale - value).abs() <= bytes.scale * 0.501, "{model}");
            }
        }

        let by_token = embed(EmbedRequest { inputs: reference.texts[..2].to_vec(), output: EmbeddingOutput::Tokens.into(), ..request() }).await;
        for ((embedding, expected), (ids, text)) in by_token.embeddings.iter().zip(&reference.tokens).zip(reference.ids.iter().zip(&reference.texts))
        {
            assert!(embedding.values.is_empty() && embedding.tokens.len() == expected.len().min(40), "{model}");
            for (index, (token, expected)) in embedding.tokens.iter().zip(expected).enumerate() {
                near(&token.values, expected, &format!("{model}, token {index}"));
            }
            // Long ones lose their end, and keep the last special token.
            let whole = ids.len() <= 40;
            assert!(!whole || embedding.tokens.iter().map(|token| token.token_id).eq(ids.iter().copied()), "{model}");
            let spans: Vec<_> = embedding.tokens.iter().map(|token| token.byte_span.unwrap()).collect();
            assert_eq!((spans[0].start, spans[0].end, spans[1].start), (0, 0, 0), "{model}");
            assert!(!whole || spans[spans.len() - 2].end as usize == text.len(), "{model}: {spans:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn masks_are_filled_and_texts_become_sparse_as_by_the_references() {
    let (_process, mut client) = served(&[]).await;
    for model in ["bert-mlm", "roberta-mlm"] {
        let reference: Filled = reference(model);
        let request = FillMaskRequest { model: model.to_owned(), inputs: reference.texts.clone(), ..FillMaskRequest::default() };
        let answer = client.fill_mask(request.clone()).await.unwrap().into_inner();
        assert_eq!(answer.texts.len(), reference.filled.len());
        for ((text, expected), input) in answer.texts.iter().zip(&reference.filled).zip(&reference.texts) {
            assert_eq!(text.masks.len(), expected.len(), "{model}: {input}");
            for (mask, expected) in text.masks.iter().zip(expected) {
                let scores: Vec<f32> = mask.tokens.iter().map(|token| token.score).collect();
                near(&scores, &expected.iter().map(|token| token.score).collect::<Vec<_>>(), &format!("{model}: {input}"));
                let tokens: Vec<(u32, &str)> = mask.tokens.iter().map(|token| (token.token_id, token.token.as_str())).collect();
                assert_eq!(tokens, expected.iter().map(|token| (token.id, token.token.as_str())).collect::<Vec<_>>(), "{model}: {input}");
            }
        }
        let targets = reference.targets.keys().cloned().collect();
        let among = FillMaskRequest { inputs: reference.texts[..1].to_vec(), targets, ..request.clone() };
        let among = client.fill_mask(among).await.unwrap().into_inner();
        let tokens = &among.texts[0].masks[0].tokens;
        assert!(tokens.len() == reference.targets.len() && tokens.is_sorted_by(|a, b| a.score >= b.score), "{tokens:?}");
        for token in tokens {
            near(&[token.score], &[reference.targets[token.token.trim()]], model);
        }

        let sparse = EmbedRequest {
            model: model.to_owned(),
            inputs: reference.sparse_texts.clone(),
            output: EmbeddingOutput::Sparse.into(),
            ..EmbedRequest::default()
        };
        let sparse = client.embed(sparse).await.unwrap().into_inner();
        for (embedding, expected) in sparse.embeddings.iter().zip(&reference.sparse) {
            let sparse = embedding.sparse.as_ref().unwrap();
            assert!(sparse.indices.iter().eq(expected.keys()), "{model}");
            near(&sparse.values, &expected.values().copied().collect::<Vec<_>>(), model);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_ranked_and_texts_classified_as_by_the_references() {
    let (_process, mut client) = served(&[]).await;
    let expected: Reranked = reference("bert-rerank");
    // The model that can is found by itself.
    let request = RerankRequest {
        query: expected.query.clone(),
        documents: expected.documents.clone(),
        return_documents: true,
        truncate: true,
        ..RerankRequest::default()
    };
    let answer = client.rerank(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.model, "bert-rerank");
    assert!(answer.results.is_sorted_by(|a, b| a.relevance_score >= b.relevance_score) && answer.results.len() == expected.documents.len());
    for result in &answer.results {
        near(&[result.relevance_score], &[expected.scores[result.index as usize]], &result.document);
        assert_eq!(result.document, expected.documents[result.index as usize]);
    }
    let best = RerankRequest { top_n: Some(3), raw_scores: true, return_documents: false, ..request };
    let best = client.rerank(best).await.unwrap().into_inner().results;
    assert_eq!(best.iter().map(|result| result.index).collect::<Vec<_>>(), expected.best);
    for result in &best {
        near(&[result.relevance_score], &[expected.raw[result.index as usize]], "raw");
        assert!(result.document.is_empty());
    }

    for (model, names) in [("distilbert-classify", ["joy", "anger", "fear", ""]), ("roberta-classify", ["LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"])]
    {
        let expected: Classified = reference(model);
        let inputs = expected.inputs.iter().map(|texts| ClassifyInput { text: texts[0].clone(), text_pair: texts.get(1).cloned() });
        let request = ClassifyRequest { model: model.to_owned(), inputs: inputs.collect(), ..ClassifyRequest::default() };
        for (raw_scores, expected) in [(false, &expected.scores), (true, &expected.logits)] {
            let answer = client.classify(ClassifyRequest { raw_scores, ..request.clone() }).await.unwrap().into_inner();
            for (found, expected) in answer.classifications.iter().zip(expected) {
                assert!(found.labels.is_sorted_by(|a, b| a.score >= b.score) && found.labels.len() == expected.len(), "{model}");
                for label in &found.labels {
                    assert_eq!(label.label, names[label.index as usize]);
                    near(&[label.score], &[expected[label.index as usize]], model);
                }
            }
        }
        let best = client.classify(ClassifyRequest { top_k: Some(1), ..request }).await.unwrap().into_inner();
        assert!(best.classifications.iter().all(|found| found.labels.len() == 1), "{model}");
    }
}

/// Invariant 7: texts of many lengths, all at once, each with the bits that it has alone.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_runs_beside_it_a_text_has_the_bits_of_its_solo_run() {
    let (_process, mut client) = served(&["text.instances=2"]).await;
    let texts: Vec<String> = (0..120).map(|index| "light and dark ".repeat(1 + index % 9).trim_end().to_owned() + &"!".repeat(index % 4)).collect();
    let embed = |inputs: Vec<String>| EmbedRequest { model: "bert".to_owned(), inputs, truncate: true, ..EmbedRequest::default() };
    let mut alone = Vec::new();
    for text in &texts[..36] {
        alone.push(client.embed(embed(vec![text.clone()])).await.unwrap().into_inner().embeddings.remove(0));
    }
    let mut crowd = JoinSet::new();
    for round in 0..4usize {
        let (mut client, mut texts) = (client.clone(), texts.clone());
        texts.rotate_left(round * 31);
        crowd.spawn(async move {
            let embeddings = client.embed(embed(texts.clone())).await.unwrap().into_inner().embeddings;
            texts.into_iter().zip(embeddings).collect::<Vec<_>>()
        });
    }
    for (text, embedding) in crowd.join_all().await.into_iter().flatten() {
        let first = texts.iter().position(|other| *other == text).unwrap();
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        if let Some(alone) = alone.get(first) {
            assert_eq!(bits(&embedding.values), bits(&alone.values), "{text}");
        }
    }
}

/// One request alone may have more tokens than may wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_more_tokens_than_may_wait_is_run_in_parts() {
    let (_process, mut client) = served(&["text.max_queue_tokens=64"]).await;
    let inputs: Vec<String> = (0..40).map(|index| format!("light and dark {index}")).collect();
    let embed = |inputs: Vec<String>| EmbedRequest { model: "bert".to_owned(), inputs, ..EmbedRequest::default() };
    let all = client.embed(embed(inputs.clone())).await.unwrap().into_inner();
    assert!(all.embeddings.len() == inputs.len() && all.prompt_tokens > 64, "{} tokens", all.prompt_tokens);
    let alone = client.embed(embed(inputs[39..].to_vec())).await.unwrap().into_inner();
    assert_eq!(alone.embeddings[0].values, all.embeddings[39].values);
    let rerank = RerankRequest { query: "light?".to_owned(), documents: inputs, ..RerankRequest::default() };
    let mut ranked: Vec<u32> = client.rerank(rerank).await.unwrap().into_inner().results.iter().map(|result| result.index).collect();
    ranked.sort_unstable();
    assert!(ranked.into_iter().eq(0..40));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_encoders_cannot_do_is_said() {
    let (_process, mut client) = served(&["server.max_response_bytes=200000"]).await;
    let models = client.list_models(ListModelsRequest {}).await.unwrap().into_inner().models;
    let described: Vec<(&str, ModelKind, usize, u32, usize)> =
        models.iter().map(|model| (model.name.as_str(), model.kind(), model.labels.len(), model.dimensions, model.prompt_names.len())).collect();
    for expected in [
        ("bert", ModelKind::Encoder, 0, 32, 4),
        ("bert-mlm", ModelKind::MaskedLm, 0, 0, 0),
        ("bert-optimum", ModelKind::Encoder, 0, 32, 4),
        ("bert-rerank", ModelKind::SequenceClassifier, 1, 0, 0),
        ("roberta-classify", ModelKind::SequenceClassifier, 4, 0, 0),
    ] {
        assert!(described.contains(&expected), "{expected:?} is not in {described:?}");
    }

    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let embed = || EmbedRequest { model: "bert".to_owned(), inputs: texts(&["light"]), ..EmbedRequest::default() };
    for (request, expected) in [
        (EmbedRequest { inputs: Vec::new(), ..embed() }, vec!["inputs"]),
        (EmbedRequest { inputs: texts(&["a", ""]), dimensions: Some(33), ..embed() }, vec!["inputs[1]", "dimensions"]),
        (EmbedRequest { dimensions: Some(0), encoding_format: 7, ..embed() }, vec!["encoding_format", "dimensions"]),
        (EmbedRequest { output: -1, ..embed() }, vec!["output"]),
        (EmbedRequest { prompt_name: "nobody".to_owned(), ..embed() }, vec!["prompt_name"]),
        (EmbedRequest { prompt_name: "query".to_owned(), input_type: InputType::Query.into(), ..embed() }, vec!["input_type"]),
        (EmbedRequest { inputs: vec!["light ".repeat(60)], ..embed() }, vec!["inputs[0]"]),
        // 200 texts of 42 tokens, 168 bytes each.
        (EmbedRequest { inputs: vec!["a b c d e f g h".to_owned(); 200], output: EmbeddingOutput::Tokens.into(), ..embed() }, vec!["inputs"]),
        (
            EmbedRequest {
                model: "bert-mlm".to_owned(),
                output: EmbeddingOutput::Sparse.into(),
                normalize: Some(true),
                dimensions: Some(2),
                ..embed()
            },
            vec!["dimensions", "normalize"],
        ),
    ] {
        let status = client.embed(request).await.unwrap_err();
        assert_eq!(fields(&status), expected, "{status}");
    }
    let long = client.embed(EmbedRequest { inputs: vec!["light ".repeat(60)], ..embed() }).await.unwrap_err();
    assert!(long.message().contains("62 tokens: at most 40; set `truncate`"), "{long}");

    let rerank = || RerankRequest { query: "light?".to_owned(), documents: texts(&["day"]), ..RerankRequest::default() };
    for (request, expected) in [
        (RerankRequest { documents: Vec::new(), ..rerank() }, vec!["documents"]),
        (RerankRequest { query: String::new(), documents: texts(&[""]), top_n: Some(0), ..rerank() }, vec!["query", "documents[0]", "top_n"]),
        (RerankRequest { documents: vec!["day ".repeat(200)], ..rerank() }, vec!["documents[0]"]),
        // A query goes with each document: 19 MiB to encode, of a request of 30 KB.
        (RerankRequest { query: "a".repeat(20_000), documents: vec!["b".to_owned(); 1000], ..rerank() }, vec!["documents"]),
    ] {
        let status = client.rerank(request).await.unwrap_err();
        assert_eq!(fields(&status), expected, "{status}");
    }

    let classify = ClassifyRequest { model: "roberta-classify".to_owned(), ..ClassifyRequest::default() };
    assert_eq!(fields(&client.classify(classify.clone()).await.unwrap_err()), ["inputs"]);
    let empty = ClassifyInput { text: String::new(), text_pair: Some(String::new()) };
    let status = client.classify(ClassifyRequest { inputs: vec![empty], top_k: Some(0), ..classify }).await.unwrap_err();
    assert_eq!(fields(&status), ["inputs[0].text", "inputs[0].text_pair", "top_k"]);

    let fill = || FillMaskRequest { model: "bert-mlm".to_owned(), inputs: texts(&["the [MASK]"]), ..FillMaskRequest::default() };
    for (request, expected, says) in [
        (FillMaskRequest { inputs: Vec::new(), ..fill() }, "inputs", "1 to 256"),
        (FillMaskRequest { inputs: texts(&["no mask"]), ..fill() }, "inputs[0]", "no [MASK]"),
        (FillMaskRequest { inputs: texts(&["<mask> is another's"]), ..fill() }, "inputs[0]", "no [MASK]"),
        (FillMaskRequest { inputs: vec!["[MASK]".repeat(65)], ..fill() }, "inputs[0]", "65 times [MASK]: at most 64"),
        (FillMaskRequest { inputs: vec!["day ".repeat(200) + "[MASK]"], truncate: true, ..fill() }, "inputs[0]", "what is left of it"),
        (FillMaskRequest { targets: texts(&["lightness"]), ..fill() }, "targets[0]", "2 tokens"),
        (FillMaskRequest { targets: texts(&["day", "日"]), ..fill() }, "targets[1]", "not known"),
        (FillMaskRequest { top_k: Some(0), ..fill() }, "top_k", "1 to 1024"),
    ] {
        let status = client.fill_mask(request).await.unwrap_err();
        assert_eq!(fields(&status), [expected], "{status}");
        assert!(status.message().contains(says), "{status}");
    }

    // A model of another kind: who could is named.
    for (status, able) in [
        (client.embed(EmbedRequest { model: "bert-mlm".to_owned(), ..embed() }).await.unwrap_err(), "xlm-roberta"),
        (client.embed(EmbedRequest { output: EmbeddingOutput::Sparse.into(), ..embed() }).await.unwrap_err(), "bert-mlm, roberta-mlm"),
        (client.rerank(RerankRequest { model: "distilbert-classify".to_owned(), ..rerank() }).await.unwrap_err(), "bert-rerank can"),
        (client.classify(ClassifyRequest { model: "bert".to_owned(), ..ClassifyRequest::default() }).await.unwrap_err(), "roberta-classify"),
        (client.fill_mask(FillMaskRequest { model: "bert".to_owned(), ..fill() }).await.unwrap_err(), "bert-mlm"),
    ] {
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains(able), "{status}");
    }
}
