use super::{
    Bench, Files, names,
    server::{Reply, Server},
};
use crate::Error;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A Hub with one model, whose large file is elsewhere.
fn hub() -> (Server, Server) {
    let elsewhere = Server::start(Files::default().with_model("/lfs", &[("large.onnx", b"large")]).serve());
    let files = Files::default().with_model(&format!("/Org/My-Model/resolve/{COMMIT}"), &[("large.onnx", b"large"), ("a.json", b"{}")]);
    for revision in ["main", "refs%2Fpr%2F1", "v1.0-rc_2"] {
        let path = format!("/api/models/Org/My-Model/revision/{revision}");
        files.put(&path, format!("{{\"id\": \"Org/My-Model\", \"sha\": \"{COMMIT}\", \"siblings\": []}}").as_bytes());
    }
    let large = elsewhere.url("/lfs/large.onnx");
    let hub = Server::start(move |request| match () {
        () if request.header("authorization") != Some("Bearer hf_secret") => Reply::Status(401),
        () if request.path.ends_with("large.onnx") => Reply::Redirect(large.clone()),
        () => files.get(&request.path),
    });
    (hub, elsewhere)
}

fn bench(hub: &Server, url: &str) -> Bench {
    Bench::new(&[url.to_owned()]).set("HF_ENDPOINT", &hub.url("/"))
}

#[tokio::test]
async fn a_model_of_the_hub_comes_from_one_commit() {
    let (hub, elsewhere) = hub();
    for revision in ["", "@main", "@refs/pr/1", "@v1.0-rc_2", &format!("@{COMMIT}")] {
        let bench = bench(&hub, &format!("hf://Org/My-Model{revision}")).set("HF_TOKEN", "hf_secret");
        let root = bench.sync().await.unwrap();
        assert_eq!(names(&root), ["my-model/1/a.json", "my-model/1/large.onnx", "my-model/1/quintet.toml"]);
    }
    assert_eq!(hub.seen("/revision/main").len(), 2);
    let large = elsewhere.seen("large.onnx");
    assert_eq!(large.len(), 5);
    assert!(large.iter().all(|request| request.header("authorization").is_none()), "the token stays with the Hub");
}

#[tokio::test]
async fn refusals_of_the_hub_name_the_token_and_do_not_show_it() {
    let (hub, _) = hub();
    let fault = bench(&hub, "hf://Org/My-Model").set("HF_TOKEN", "hf_other").fault().await.to_string();
    assert!(fault.contains("401") && fault.contains("HF_TOKEN") && !fault.contains("hf_other"), "{fault}");
    let fault = bench(&hub, "hf://Org/My-Model@gone").set("HF_TOKEN", "hf_secret").fault().await;
    assert!(matches!(&fault, Error::Status { status: 404, url, .. } if url.ends_with("/revision/gone")), "{fault}");
}

#[tokio::test]
async fn a_hub_that_talks_nonsense_is_not_followed() {
    for answer in ["", "{}", "{\"sha\": \"../../evil\"}", "[]"] {
        let server = Server::start(move |_| Reply::File(answer.into()));
        let fault = bench(&server, "hf://Org/My-Model").fault().await;
        assert!(matches!(&fault, Error::Unusable { reason, .. } if reason.contains("no commit")), "{fault}");
    }
    let fault = crate::Sources::open(Bench::new(&["hf://a/b".to_owned()]).set("HF_ENDPOINT", "ftp://x:secret@y").config).unwrap_err().to_string();
    assert!(fault.contains("HF_ENDPOINT = 'ftp://y'"), "{fault}");
}
