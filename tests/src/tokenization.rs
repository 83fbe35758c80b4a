//! Tokenization over the wire: a tokenizer is replaced under load, and answers grow with the text and no faster.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use quintet_proto::{
    inference::{RepositoryModelLoadRequest, grpc_inference_service_client::GrpcInferenceServiceClient},
    tokenization::v1::{EncodeInput, EncodeRequest, EncodeStreamRequest, SpecialTokenPolicy, tokenization_service_client::TokenizationServiceClient},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tonic::{Code, transport::Channel};

use crate::harness::{Process, fields, root, soaks};

type Client = TokenizationServiceClient<Channel>;

/// A tokenizer of an embedded model as a version of the model "words": a folder with nothing but its file.
fn place(model: &str, repository: &Path, version: usize) {
    let target = repository.join("words").join(version.to_string());
    std::fs::create_dir_all(&target).unwrap();
    std::fs::copy(root().join("deploy/models").join(model).join("1/tokenizer.json"), target.join("tokenizer.json")).unwrap();
}

fn request(version: &str, texts: &[&str]) -> EncodeRequest {
    let inputs = texts.iter().map(|text| EncodeInput { text: (*text).to_owned(), ..EncodeInput::default() });
    EncodeRequest { model: "words".into(), model_version: version.to_owned(), inputs: inputs.collect(), ..EncodeRequest::default() }
}

async fn ids(client: &mut Client, request: EncodeRequest) -> (String, Vec<Vec<u32>>) {
    let answer = client.encode(request).await.unwrap().into_inner();
    (answer.model_version, answer.encodings.into_iter().map(|encoding| encoding.ids).collect())
}

/// Each answer is that of the version it names, whole, and none is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_tokenizer_is_replaced_under_load_without_a_wrong_answer() {
    const TEXTS: [&str; 3] = ["And God said, Let there be light: <s>[CLS]", "naïve café — 日本語 👩‍👩‍👧‍👦", "x  y\n\n z"];
    let repository = tempfile::tempdir().unwrap();
    let models = ["gpt-english", "all-minilm-l6-v2"];
    place(models[1], repository.path(), 1);
    let path = format!("models.path={}", repository.path().display());
    let process = Process::start("quintet-tokenization", &["--set", &path, "--set", "models.control=explicit", "--set", "models.load=words"]);
    let mut inference = GrpcInferenceServiceClient::new(process.channel().await);
    let load = || RepositoryModelLoadRequest { model_name: "words".into(), ..RepositoryModelLoadRequest::default() };

    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (mut client, over, answered) = (Client::new(process.channel().await), Arc::clone(&over), Arc::clone(&answered));
        callers.spawn(async move {
            let mut seen: BTreeMap<String, BTreeSet<Vec<Vec<u32>>>> = BTreeMap::new();
            while !over.load(Ordering::SeqCst) {
                let (version, ids) = ids(&mut client, request("", &TEXTS)).await;
                seen.entry(version).or_default().insert(ids);
                answered.fetch_add(1, Ordering::SeqCst);
            }
            seen
        });
    }
    let swaps = if soaks() { 100 } else { 6 };
    for version in 2..2 + swaps {
        place(models[version % 2], repository.path(), version);
        let before = answered.load(Ordering::SeqCst);
        inference.repository_model_load(load()).await.unwrap();
        while answered.load(Ordering::SeqCst) < before + 16 {
            tokio::task::yield_now().await;
        }
    }
    over.store(true, Ordering::SeqCst);
    let mut client = Client::new(process.channel().await);
    let mut expected = Vec::new();
    // Replaced versions linger for whoever names them.
    for version in [1 + swaps, swaps] {
        expected.push((version % 2, ids(&mut client, request(&version.to_string(), &TEXTS)).await.1));
    }
    let mut versions = BTreeSet::new();
    while let Some(seen) = callers.join_next().await {
        for (version, answers) in seen.unwrap() {
            let own = version.parse::<usize>().unwrap() % 2;
            let (_, ids) = expected.iter().find(|(parity, _)| *parity == own).unwrap();
            assert_eq!(answers, BTreeSet::from([ids.clone()]), "version {version}");
            versions.insert(version);
        }
    }
    assert!(versions.len() > swaps / 2, "{versions:?}");
}

/// Text that is no text, and text beyond the limit.
#[tokio::test(flavor = "multi_thread")]
async fn texts_out_of_bounds_are_refused_by_name() {
    let process = Process::start("quintet-tokenization", &["--set", "tokenization.max_text_bytes=1000000"]);
    let mut client = Client::new(process.channel().await).max_encoding_message_size(1 << 28);
    let long = "a".repeat(1_000_001);
    let encode = |text: &str| EncodeRequest { model: "gpt-english".into(), ..request("", &[text]) };
    assert_eq!(fields(&client.encode(encode(&long)).await.unwrap_err()), ["inputs[0].text"]);
    // A hundred megabytes do not even arrive.
    let endless = client.encode(encode(&"a".repeat(100_000_000))).await.unwrap_err();
    assert!(matches!(endless.code(), Code::OutOfRange | Code::ResourceExhausted), "{endless}");
    for piece in ["a", " ", "\n", "日", "👍🏽", "e\u{301}", "<s>", "1", "'"] {
        let text = piece.repeat(1_000_000 / piece.len());
        let policy = SpecialTokenPolicy::Allow.into();
        let answer = client.encode(EncodeRequest { special_tokens: policy, ..encode(&text) }).await.unwrap().into_inner();
        assert_eq!(answer.encodings.len(), 1);
    }
}

/// A text that was never seen before: words of letters in some scripts.
fn random_text(random: &mut StdRng) -> String {
    let mut text = String::new();
    for _ in 0..random.random_range(1..6) {
        let first = [0x61, 0x430, 0x4e00, 0x1f600][random.random_range(0..4)];
        text.extend((0..random.random_range(1..9)).filter_map(|_| char::from_u32(first + random.random_range(0..26))));
        text.push(' ');
    }
    text
}

/// What encoders remember is bounded: memory stays where it was after millions of texts, no two of them alike.
#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_flat_over_random_texts() {
    const STREAMS: u64 = 4;
    let process = Process::start("quintet-tokenization", &["--set", "server.log=error"]);
    let rounds: u64 = 4;
    let each: u64 = if soaks() { 10_000_000 / rounds / STREAMS } else { 5_000 };
    let mut resident = Vec::new();
    for round in 0..rounds {
        let mut streams = Vec::new();
        for stream in 0..STREAMS {
            let mut client = Client::new(process.channel().await);
            streams.push(async move {
                let mut random = StdRng::seed_from_u64(round << 32 | stream);
                let model = if stream % 2 == 0 { "gpt-english" } else { "all-minilm-l6-v2" };
                let requests = (0..each).map(move |_| {
                    let request = EncodeRequest { model: model.into(), ..request("", &[&random_text(&mut random)]) };
                    EncodeStreamRequest { request: Some(request) }
                });
                let mut answers = client.encode_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
                let mut count = 0;
                while let Some(answer) = answers.next().await {
                    count += answer.unwrap().response.unwrap().encodings.len() as u64;
                }
                assert_eq!(count, each);
            });
        }
        futures_util::future::join_all(streams).await;
        resident.push(process.resident());
    }
    // The first two rounds fill what there is to fill: the encoders remember words, and some millions of texts bring ever fewer new ones.
    let most = resident[1] as f64 * if soaks() { 1.05 } else { 1.2 };
    assert!(resident.iter().all(|bytes| *bytes as f64 <= most), "resident bytes after each round: {resident:?}");
}
