//! A disk that is full: the cache of models says so, what is there serves on, and with room again the next try goes through.

use std::process::{Command, Stdio};

use quintet_proto::{
    anomaly::v1::{SampleData, ScoreRequest, Values, anomaly_service_client::AnomalyServiceClient, sample_data::Data},
    inference::grpc_inference_service_client::GrpcInferenceServiceClient,
};
use tonic::{Code, Status, transport::Channel};

use crate::{
    harness::{Process, program, root},
    repository::{copy, load},
};

/// A disk of seven megabytes with a file of four on it, which this command and its children alone see; the file goes when a line comes
/// through the pipe, which is answered.
const WITH_A_SMALL_DISK: &str = r#"
    mount -t tmpfs -o size=7m small "$0" && head -c 4194304 /dev/zero > "$0/ballast" || exit 99
    { read -r _ < "$1" && rm "$0/ballast" && echo gone > "$1"; } > /dev/null 2>&1 &
    cd "$2" && shift 2 && exec "$@"
"#;

fn in_a_namespace() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn score(client: &mut AnomalyServiceClient<Channel>, model: &str, columns: usize) -> Result<(), Status> {
    let sample = SampleData { data: Some(Data::Values(Values { values: vec![0.1; columns] })) };
    client.score(ScoreRequest { model: model.to_owned(), samples: vec![sample], ..ScoreRequest::default() }).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_cache_is_said_and_got_over() {
    if !in_a_namespace().arg("true").status().is_ok_and(|status| status.success()) {
        println!("left out: this system does not let its users mount");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (store, cache, pipe) = (folder.path().join("store"), folder.path().join("cache"), folder.path().join("pipe"));
    std::fs::create_dir(&cache).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let serve = |model: &str| {
        let mut command = in_a_namespace();
        command.args(["sh", "-c", WITH_A_SMALL_DISK]).args([&cache, &pipe, &root(), &program("quintet-anomaly")]);
        let settings = [
            "models.path=".to_owned(),
            format!("models.sources=file://{}", store.display()),
            format!("models.cache={}", cache.display()),
            "models.control=explicit".to_owned(),
            format!("models.load={model}"),
        ];
        command.args(["--listen", "127.0.0.1:0"]).args(settings.iter().flat_map(|setting| ["--set", setting]));
        command
    };
    let make_room = || {
        std::fs::write(&pipe, "go\n").unwrap();
        assert_eq!(std::fs::read_to_string(&pipe).unwrap(), "gone\n");
    };
    let full = format!("the disk of the model cache {} is full", cache.display());

    // At the start: the model does not fit, and the process says why it ends.
    copy("vae-glyphs", &store, "1");
    let ended = serve("vae-glyphs").output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(78), "{said}");
    assert!(said.contains(&full) && said.contains("more bytes were needed"), "{said}");
    // Who waits at the pipe would wait for ever.
    make_room();

    // Later: the load fails, what is there serves on.
    std::fs::remove_dir_all(store.join("vae-glyphs")).unwrap();
    copy("vae-breast-cancer", &store, "1");
    let process = Process::of(serve("vae-breast-cancer"));
    let mut models = GrpcInferenceServiceClient::new(process.channel().await);
    let mut scores = AnomalyServiceClient::new(process.channel().await);
    copy("vae-glyphs", &store, "1");
    let refusal = load(&mut models, "vae-glyphs").await.unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition, "{refusal}");
    assert!(refusal.message().contains(&full), "{refusal}");
    score(&mut scores, "vae-breast-cancer", 30).await.unwrap();

    // With room again the next try goes through.
    make_room();
    load(&mut models, "vae-glyphs").await.unwrap();
    score(&mut scores, "vae-breast-cancer", 30).await.unwrap();
}
