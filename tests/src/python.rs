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

/// The tokenization service beside the reference implementations, on some hundred thousand lines in many scripts, with a tokenizer
/// of each kind that is trained on the spot.
#[test]
fn tokenization_agrees_with_the_reference_implementations() {
    let models = tempfile::tempdir().unwrap();
    let python = option_env("QUINTET_TEST_PYTHON").unwrap_or_else(|| root().join(".venv-test/bin/python").display().to_string());
    let parity = |arguments: &[&str]| {
        let mut command = Command::new(&python);
        command.arg(root().join("tests/python/parity/parity.py")).arg("--models").arg(models.path()).args(arguments).current_dir(root());
        let output = command.output().unwrap_or_else(|error| panic!("{python}: {error}; scripts/test sets it up"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    };
    parity(&["--make"]);
    let process = Process::start("quintet-tokenization", &["--set", &format!("models.path={}", models.path().display())]);
    let said = parity(&["--address", &process.address]);
    println!("{said}");
    assert!(said.trim_end().ends_with("all of it agrees"), "{said}");
}

#[allow(clippy::disallowed_methods, reason = "the test script hands the interpreter over this way")]
fn option_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
