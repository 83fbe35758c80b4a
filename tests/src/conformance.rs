//! The conformance kit: the project's services pass it, and a service that is spoilt in one thing fails the rule that says so.

mod faults;
mod proxy;

use std::{collections::BTreeMap, path::Path, process::Output};

use crate::harness::{Process, command, root};

/// Runs the kit. Its outcomes by rule: a rule that fails in one of its checks has failed.
async fn kit(address: &str, arguments: &[&str]) -> (Output, BTreeMap<String, String>) {
    let mut command = tokio::process::Command::from(command("quintet", &["conformance", "--target", address, "--json"]));
    let output = command.args(arguments).output().await.unwrap();
    let mut outcomes = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let (rule, outcome) = (case["rule"].as_str().unwrap().to_owned(), case["outcome"].as_str().unwrap());
        let worst = outcomes.entry(rule).or_insert_with(|| outcome.to_owned());
        if outcome == "failed" {
            outcome.clone_into(worst);
        }
    }
    (output, outcomes)
}

/// What a run of the kit found not to hold.
fn failed(output: &Output) -> Vec<String> {
    let printed = String::from_utf8_lossy(&output.stdout);
    printed.lines().filter(|line| line.contains(r#""outcome":"failed""#)).map(str::to_owned).collect()
}

/// The counts of a report in `JUnit`'s XML: cases, failures and skipped ones, and what the file itself says of each.
fn junit(path: &Path) -> ([usize; 3], [usize; 3]) {
    let xml = std::fs::read_to_string(path).unwrap();
    let said = |name: &str| -> usize {
        let root = xml.split("<testsuites ").nth(1).unwrap().split('>').next().unwrap();
        root.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
    };
    let counted = ["<testcase ", "<failure ", "<skipped "].map(|element| xml.matches(element).count());
    (counted, ["tests", "failures", "skipped"].map(said))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_services_keep_their_contracts() {
    let process = Process::up(&[]);
    let report = tempfile::tempdir().unwrap();
    let path = report.path().join("report.xml");
    let (output, outcomes) = kit(&process.address, &["--service", "all", "--junit", path.to_str().unwrap()]).await;
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(failed(&output).is_empty() && output.status.success(), "{:#?}", failed(&output));
    for rule in ["O2", "E2", "L1", "D1", "D2", "R1", "H1", "K4", "X2", "I1", "A3", "V6"] {
        assert_eq!(outcomes.get(rule).map(String::as_str), Some("passed"), "{rule}: {printed}");
    }
    let (counted, said) = junit(&path);
    assert_eq!(counted, said);
    assert_eq!(counted[0], printed.lines().count(), "a case for each check");
}

/// Models that the kit has never seen: a decoder that chats, encoders and classifiers of every family, and their tokenizers.
#[tokio::test(flavor = "multi_thread")]
async fn other_models_keep_them_too() {
    let models = tempfile::tempdir().unwrap();
    let talker = models.path().join("talker/1");
    std::fs::create_dir_all(&talker).unwrap();
    for entry in std::fs::read_dir(root().join("tests/models/decoders/llama-genai/1")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), talker.join(entry.file_name())).unwrap();
    }
    let template =
        "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
    std::fs::write(talker.join("chat_template.jinja"), template).unwrap();
    let encoders = root().join("tests/models/encoders");
    for name in ["bert", "bert-mlm", "bert-rerank", "distilbert-classify", "mpnet", "roberta-mlm", "xlm-roberta"] {
        std::os::unix::fs::symlink(encoders.join(name), models.path().join(name)).unwrap();
    }
    let process = Process::up(&["--keep-going", "--set", &format!("models.path={}", models.path().display())]);
    let (output, outcomes) = kit(&process.address, &["--service", "text"]).await;
    assert!(failed(&output).is_empty() && output.status.success(), "{:#?}", failed(&output));
    assert_eq!(outcomes.get("X8").map(String::as_str), Some("passed"), "{outcomes:?}");
    for model in ["talker", "bert", "mpnet", "roberta-mlm", "xlm-roberta"] {
        let (output, _) = kit(&process.address, &["--service", "tokenization", "--model", model]).await;
        assert!(failed(&output).is_empty() && output.status.success(), "{model}: {:#?}", failed(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_flags_and_targets_that_are_not_there_have_their_exit_codes() {
    let (output, _) = kit("127.0.0.1:1", &[]).await;
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let (output, _) = kit("127.0.0.1:1", &["--service", "poetry"]).await;
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    let process = Process::up(&[]);
    let (output, _) = kit(&process.address, &["--service", "image", "--only", "Q9"]).await;
    assert_eq!(output.status.code(), Some(64), "{output:?}");
}
