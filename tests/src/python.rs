//! A client in another language: Python, with stubs generated from the contracts by this very run.

use std::process::Command;

use crate::harness::{Process, root};

#[test]
fn pythons_client_uses_every_service() {
    let process = Process::up(&[]);
    let python = option_env("QUINTET_TEST_PYTHON").unwrap_or_else(|| root().join(".venv-test/bin/python").display().to_string());
    let stubs = tempfile::tempdir().unwrap();
    let output = Command::new(&python)
        .arg(root().join("tests/python/client.py"))
        .args(["--address", &process.address, "--process", &process.id().to_string(), "--stubs"])
        .arg(stubs.path())
        .current_dir(root())
        .output()
        .unwrap_or_else(|error| panic!("{python}: {error}; scripts/test sets it up"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).trim_end().ends_with("all of it works"), "{}", text(&output.stdout));
}

/// Triton's own client, unmodified, over every rpc of the Open Inference Protocol.
#[test]
fn tritons_client_uses_every_rpc() {
    let repository = tempfile::tempdir().unwrap();
    let models = format!("models.path={}", repository.path().display());
    let process = Process::up(&["--keep-going", "--set", "models.control=explicit", "--set", &models]);
    let python = option_env("QUINTET_TEST_PYTHON").unwrap_or_else(|| root().join(".venv-test/bin/python").display().to_string());
    let output = Command::new(&python)
        .arg(root().join("tests/python/triton.py"))
        .args(["--address", &process.address, "--repository"])
        .arg(repository.path())
        .current_dir(root())
        .output()
        .unwrap_or_else(|error| panic!("{python}: {error}; scripts/test sets it up"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).trim_end().ends_with("all of it works"), "{}", text(&output.stdout));
}

#[allow(clippy::disallowed_methods, reason = "the test script hands the interpreter over this way")]
fn option_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
