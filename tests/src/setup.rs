//! What an operator gets wrong: said plainly, with the exit code for it.

use std::path::Path;

use crate::harness::{Process, root, run};

/// A copy of the model repository with links to the models, so that one can be broken.
fn repository_without(broken: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for model in std::fs::read_dir(root().join("deploy/models")).unwrap() {
        let model = model.unwrap();
        let target = copy.path().join(model.file_name());
        if model.file_name() == broken {
            std::fs::create_dir_all(target.join("1")).unwrap();
            for file in std::fs::read_dir(model.path().join("1")).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), target.join("1").join(file.file_name())).unwrap();
            }
        } else {
            std::os::unix::fs::symlink(model.path(), target).unwrap();
        }
    }
    copy
}

fn up(path: &Path, more: &[&str]) -> (i32, String) {
    let models = format!("models.path={}", path.display());
    let (code, _, message) = run("quintet", &[&["up", "--listen", "127.0.0.1:0", "--set", &models], more].concat());
    (code, message)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_model_is_named_and_the_rest_can_be_served() {
    let repository = repository_without("glyph-gan");
    let graph = repository.path().join("glyph-gan/1/generator.onnx");
    std::fs::write(&graph, &std::fs::read(&graph).unwrap()[..5000]).unwrap();
    let (code, message) = up(repository.path(), &[]);
    assert_eq!(code, 78, "{message}");
    assert!(message.contains("glyph-gan/1") && message.contains("generator.onnx") && message.contains("SHA-256"), "{message}");

    let models = format!("models.path={}", repository.path().display());
    let process = Process::up(&["--keep-going", "--set", &models]);
    let mut health = tonic_health::pb::health_client::HealthClient::new(process.channel().await);
    let mut status =
        async |service: &str| health.check(tonic_health::pb::HealthCheckRequest { service: service.into() }).await.unwrap().into_inner().status;
    assert_eq!(status("quintet.text.v1.TextService").await, 1);
    assert_eq!(status("quintet.image.v1.ImageService").await, 2);
    assert!(process.get("/healthz").await.starts_with("HTTP/1.1 503"));
}

#[test]
fn a_manifest_a_missing_file_and_a_missing_repository_are_named() {
    let repository = repository_without("vae-digits");
    let folder = repository.path().join("vae-digits/1");
    let manifest = std::fs::read_to_string(folder.join("quintet.toml")).unwrap();
    std::fs::write(folder.join("quintet.toml"), manifest.replace("latent_size", "latent_sise")).unwrap();
    let (code, message) = up(repository.path(), &[]);
    assert!(code == 78 && message.contains("quintet.toml") && message.contains("latent_sise"), "{code} {message}");
    std::fs::write(folder.join("quintet.toml"), manifest).unwrap();
    std::fs::remove_file(folder.join("decoder.onnx")).unwrap();
    let (code, message) = up(repository.path(), &[]);
    assert!(code == 78 && message.contains("decoder.onnx"), "{code} {message}");
    let (code, message) = up(Path::new("/nowhere/models"), &[]);
    assert!(code == 78 && message.contains("/nowhere/models"), "{code} {message}");
}

#[test]
fn a_missing_library_and_a_missing_gpu_say_what_to_do() {
    let (code, _, message) = run("quintet", &["up", "--listen", "127.0.0.1:0", "--set", "runtime.library=/nowhere/libonnxruntime.so"]);
    assert!(code == 78 && message.contains("/nowhere/libonnxruntime.so") && message.contains("scripts/onnxruntime"), "{code} {message}");
    // The CPU library has no CUDA: asking for it must not fall back in silence.
    let (code, _, message) = run("quintet", &["up", "--listen", "127.0.0.1:0", "--set", "runtime.provider=cuda"]);
    assert!(code == 78 && message.contains("'cuda:0'") && message.contains("auto"), "{code} {message}");
}

#[test]
fn a_wrong_configuration_is_refused_whole() {
    let (code, _, message) = run("quintet", &["up", "--set", "text.slot=4", "--set", "server.drain_seconds=soon", "--set", "text.slots=0"]);
    assert_eq!(code, 64, "{message}");
    assert!(message.contains("did you mean 'text.slots'") && message.contains("drain_seconds"), "{message}");
    let (code, _, message) = run("quintet", &["up", "--nonsense"]);
    assert!(code == 64 && message.contains("--nonsense"), "{code} {message}");
    let (code, print, _) = run("quintet", &["up", "--print-config", "--listen", "127.0.0.1:9"]);
    assert!(code == 0 && print.contains("listen = \"127.0.0.1:9\"  # flag --listen") && print.contains("slots = 32  # default"), "{print}");
}

#[test]
fn a_taken_port_is_said_with_its_own_code() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, message) = run("quintet", &["up", "--listen", &address]);
    assert!(code == 74 && message.contains(&address), "{code} {message}");
}
