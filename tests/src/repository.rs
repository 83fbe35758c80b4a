//! Models that come, go and are replaced while requests run.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use quintet_proto::{
    image::v1::{GenerateRequest, ImageFormat, image_service_client::ImageServiceClient},
    inference::{
        ModelStatisticsRequest, RepositoryIndexRequest, RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
        grpc_inference_service_client::GrpcInferenceServiceClient,
    },
    text::v1::{GenerateRequest as TextRequest, Sampling, Stopping, text_service_client::TextServiceClient},
};
use tokio::task::JoinSet;
use tonic::{Code, transport::Channel};

use crate::harness::{Process, root, soaks};

type Inference = GrpcInferenceServiceClient<Channel>;

/// A version of an embedded model, copied to another place.
pub(crate) fn copy(model: &str, repository: &Path, version: &str) {
    let target = repository.join(model).join(version);
    std::fs::create_dir_all(&target).unwrap();
    for file in std::fs::read_dir(root().join("deploy/models").join(model).join("1")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), target.join(file.file_name())).unwrap();
    }
}

fn explicit(repository: &Path, load: &str) -> Process {
    let path = format!("models.path={}", repository.display());
    let load = format!("models.load={load}");
    Process::up(&["--set", &path, "--set", "models.control=explicit", "--set", &load])
}

pub(crate) async fn load(client: &mut Inference, model: &str) -> Result<(), tonic::Status> {
    let request = RepositoryModelLoadRequest { model_name: model.to_owned(), ..RepositoryModelLoadRequest::default() };
    client.repository_model_load(request).await.map(drop)
}

async fn unload(client: &mut Inference, model: &str) -> Result<(), tonic::Status> {
    let request = RepositoryModelUnloadRequest { model_name: model.to_owned(), ..RepositoryModelUnloadRequest::default() };
    client.repository_model_unload(request).await.map(drop)
}

async fn states(client: &mut Inference) -> Vec<(String, String, String)> {
    let index = client.repository_index(RepositoryIndexRequest::default()).await.unwrap().into_inner();
    index.models.into_iter().map(|model| (model.name, model.version, model.state)).collect()
}

fn state(model: &str, version: &str, state: &str) -> (String, String, String) {
    (model.into(), version.into(), state.into())
}

/// A swap under full load loses no request and adds no error; a version that fails its golden pairs leaves the old in place.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_replaced_under_load_and_a_bad_version_is_not_taken() {
    let repository = tempfile::tempdir().unwrap();
    copy("glyph-gan", repository.path(), "1");
    let process = explicit(repository.path(), "glyph-gan");
    let mut inference = Inference::new(process.channel().await);
    let image = |seed: u64| GenerateRequest { seed: Some(seed), format: ImageFormat::RawF32.into(), ..GenerateRequest::default() };
    let expected = ImageServiceClient::new(process.channel().await).generate(image(0)).await.unwrap().into_inner().images;

    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut callers = JoinSet::new();
    for caller in 0..8u64 {
        let (mut client, over, answered, expected) =
            (ImageServiceClient::new(process.channel().await), Arc::clone(&over), Arc::clone(&answered), expected.clone());
        callers.spawn(async move {
            let mut versions = std::collections::BTreeSet::new();
            while !over.load(Ordering::SeqCst) {
                let answer = client.generate(image(caller % 2)).await.unwrap().into_inner();
                assert!(caller % 2 == 1 || answer.images == expected, "the same weights give the same image");
                versions.insert(answer.model_version);
                answered.fetch_add(1, Ordering::SeqCst);
            }
            versions
        });
    }
    let swaps = if soaks() { 200 } else { 6 };
    for version in 2..2 + swaps {
        copy("glyph-gan", repository.path(), &version.to_string());
        let before = answered.load(Ordering::SeqCst);
        load(&mut inference, "glyph-gan").await.unwrap();
        std::fs::remove_dir_all(repository.path().join(format!("glyph-gan/{}", version - 1))).unwrap();
        // The load went on meanwhile.
        while answered.load(Ordering::SeqCst) < before + 8 {
            tokio::task::yield_now().await;
        }
    }
    // A file that was damaged on disk, and one that computes something else than its golden pair says.
    let last = (1 + swaps).to_string();
    copy("glyph-gan", repository.path(), "9998");
    let graph = repository.path().join("glyph-gan/9998/generator.onnx");
    let mut bytes = std::fs::read(&graph).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&graph, bytes).unwrap();
    let refused = load(&mut inference, "glyph-gan").await.unwrap_err();
    assert!(refused.code() == Code::FailedPrecondition && refused.message().contains("SHA-256"), "{refused}");
    let replaced = swaps.to_string();
    let expected_states =
        [state("glyph-gan", &replaced, "UNAVAILABLE"), state("glyph-gan", &last, "READY"), state("glyph-gan", "9998", "UNAVAILABLE")];
    let mut seen = states(&mut inference).await;
    seen.sort_by_key(|(_, version, _)| version.parse::<u64>().unwrap());
    assert_eq!(seen, expected_states);
    over.store(true, Ordering::SeqCst);
    let mut versions = std::collections::BTreeSet::new();
    while let Some(seen) = callers.join_next().await {
        versions.extend(seen.unwrap());
    }
    assert!(versions.len() >= 3 && versions.contains(&last), "{versions:?}");
}

/// What is unloaded is gone for new requests, and its memory comes back: load and unload, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn memory_comes_back_when_models_are_unloaded() {
    let repository = tempfile::tempdir().unwrap();
    copy("glyph-gan", repository.path(), "1");
    copy("vae-digits", repository.path(), "1");
    let process = explicit(repository.path(), "vae-digits");
    let mut inference = Inference::new(process.channel().await);
    let mut images = ImageServiceClient::new(process.channel().await);
    let cycle = async |inference: &mut Inference, images: &mut ImageServiceClient<Channel>| {
        load(inference, "glyph-gan").await.unwrap();
        images.generate(GenerateRequest::default()).await.unwrap();
        unload(inference, "glyph-gan").await.unwrap();
    };
    // The least of several looks: freed memory comes back a moment after the answer.
    let after_cycles = async |count: usize, inference: &mut Inference, images: &mut ImageServiceClient<Channel>| {
        let mut least = u64::MAX;
        for cycle_number in 0..count {
            cycle(inference, images).await;
            if cycle_number + 8 >= count {
                least = least.min(process.resident());
            }
        }
        least
    };
    // The allocator and the runtime settle first: until some 300 cycles what they keep grows, by a tenth in all, and then no more.
    let before = after_cycles(if soaks() { 300 } else { 24 }, &mut inference, &mut images).await;
    let missing = images.generate(GenerateRequest::default()).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound, "{missing}");
    let after = after_cycles(if soaks() { 1000 } else { 30 }, &mut inference, &mut images).await;
    // In the short form one arena of the allocator more is a good part of the whole.
    let most = if soaks() { 1.05 } else { 1.2 };
    assert!(after as f64 <= before as f64 * most, "{before} bytes before, {after} after");
}

/// A text that has begun is written to its end by the model and with the tokenizer that it began with.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_under_way_survives_the_unloading_of_its_model() {
    let repository = tempfile::tempdir().unwrap();
    copy("gpt-english", repository.path(), "1");
    let process = explicit(repository.path(), "gpt-english");
    let mut inference = Inference::new(process.channel().await);
    let mut text = TextServiceClient::new(process.channel().await);
    let request = TextRequest {
        prompt: "And it came to pass".into(),
        sampling: Some(Sampling { seed: Some(3), ..Sampling::default() }),
        stopping: Some(Stopping { max_new_tokens: Some(300), ignore_eos: true, ..Stopping::default() }),
        ..TextRequest::default()
    };
    let whole = text.generate(request.clone()).await.unwrap().into_inner().text;
    let stream = quintet_proto::text::v1::GenerateStreamRequest { request: Some(request.clone()) };
    let mut stream = text.generate_stream(stream).await.unwrap().into_inner();
    let mut written = stream.message().await.unwrap().unwrap().text;
    #[allow(clippy::disallowed_methods, reason = "the test awaits it")]
    let unloading = tokio::spawn(async move {
        unload(&mut inference, "gpt-english").await.unwrap();
        inference
    });
    while let Some(piece) = stream.message().await.unwrap() {
        written += &piece.text;
    }
    assert_eq!(written, whole);
    let mut inference = unloading.await.unwrap();
    assert_eq!(text.generate(request).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(states(&mut inference).await, [state("gpt-english", "1", "UNAVAILABLE")]);
    assert!(inference.model_statistics(ModelStatisticsRequest::default()).await.unwrap().into_inner().model_stats.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_explicit_control_clients_do_not_manage_models() {
    let process = Process::up(&[]);
    let mut inference = Inference::new(process.channel().await);
    let refused = load(&mut inference, "glyph-gan").await.unwrap_err();
    assert!(refused.code() == Code::FailedPrecondition && refused.message().contains("models.control"), "{refused}");
    assert_eq!(unload(&mut inference, "glyph-gan").await.unwrap_err().code(), Code::FailedPrecondition);
}
