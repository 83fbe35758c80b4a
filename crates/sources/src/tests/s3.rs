use percent_encoding::percent_decode_str;

use super::{
    Bench, Files, names,
    server::{Reply, Request, Server},
    tree,
};
use crate::Error;

/// A server that speaks as much of S3 as is needed here: GET with Range, and listings.
fn s3(files: &Files) -> Server {
    let files = files.clone();
    Server::start(move |request| match parameter(request, "list-type") {
        Some(_) => Reply::File(list(&files, request).into_bytes()),
        None => files.get(&request.path),
    })
}

fn parameter(request: &Request, name: &str) -> Option<String> {
    let mut pairs = request.query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| percent_decode_str(value).decode_utf8().unwrap().into_owned())
}

fn list(files: &Files, request: &Request) -> String {
    let (bucket, prefix) = (format!("{}/", request.path.trim_end_matches('/')), parameter(request, "prefix").unwrap_or_default());
    let (mut folders, mut objects) = (std::collections::BTreeSet::new(), Vec::new());
    for (path, content) in files.0.lock().unwrap().iter() {
        let Some(key) = path.strip_prefix(&bucket).filter(|key| key.starts_with(&prefix)) else { continue };
        match key[prefix.len()..].split_once('/') {
            Some((folder, _)) => drop(folders.insert(format!("<CommonPrefixes><Prefix>{prefix}{folder}/</Prefix></CommonPrefixes>"))),
            None => objects.push(format!(
                "<Contents><Key>{key}</Key><Size>{}</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"e\"</ETag></Contents>",
                content.len()
            )),
        }
    }
    let folders: String = folders.into_iter().collect();
    let objects = objects.concat();
    format!("<ListBucketResult><IsTruncated>false</IsTruncated>{objects}{folders}</ListBucketResult>")
}

fn bench(server: &Server, url: &str) -> Bench {
    let bench = Bench::new(&[url.to_owned()]).set("AWS_ENDPOINT", &server.url("")).set("AWS_ALLOW_HTTP", "true");
    bench.set("AWS_ACCESS_KEY_ID", "the-key").set("AWS_SECRET_ACCESS_KEY", "the-secret").set("AWS_REGION", "eu-central-1")
}

fn repository() -> Files {
    let files = Files::default();
    files.put_model("/bucket/models/gpt/1", &[("a.onnx", b"one"), ("shared", b"shared")]);
    files.put_model("/bucket/models/gpt/2", &[("a.onnx", b"two"), ("shared", b"shared")]);
    files.put_model("/bucket/models/gan", &[("g.onnx", b"gan")]);
    files.put("/bucket/models/gpt/3/a.onnx", b"still without its manifest");
    files.put("/bucket/models/.git/x", b"hidden");
    files.put("/bucket/models/README.md", b"no model");
    files
}

#[tokio::test]
async fn a_repository_comes_changes_and_goes() {
    let files = repository();
    let server = s3(&files);
    let bench = bench(&server, "s3://bucket/models");
    let sources = bench.open();
    let root = sources.roots()[0].clone();
    sources.sync(&|_| {}).await.unwrap();
    let expected = [
        "gan/1/g.onnx",
        "gan/1/quintet.toml",
        "gpt/1/a.onnx",
        "gpt/1/quintet.toml",
        "gpt/1/shared",
        "gpt/2/a.onnx",
        "gpt/2/quintet.toml",
        "gpt/2/shared",
    ];
    assert_eq!(names(&root), expected);
    assert_eq!(server.seen("shared").len(), 1, "what two versions share is fetched once");
    assert!(server.seen("a.onnx")[0].header("authorization").unwrap().contains("Credential=the-key/"));

    files.put_model("/bucket/models/gpt/3", &[("a.onnx", b"three"), ("shared", b"shared")]);
    files.put_model("/bucket/models/gan", &[("g.onnx", b"changed")]);
    files.remove("/bucket/models/gpt/1");
    sources.sync(&|_| {}).await.unwrap();
    let now = tree(&root);
    assert_eq!(now["gpt/3/a.onnx"], b"three");
    assert_eq!(now["gan/1/g.onnx"], b"changed");
    assert!(!now.contains_key("gpt/1/a.onnx") && now.contains_key("gpt/2/a.onnx"));
    let counts = |end: &str| server.seen(end).len();
    assert_eq!((counts("shared"), counts("gpt/2/a.onnx"), counts("gan/g.onnx")), (1, 1, 2));

    files.remove("/bucket/models/gan");
    sources.sync(&|_| {}).await.unwrap();
    assert!(!root.join("gan").exists());

    // A mistake in the bucket does not take every model away.
    files.remove("/bucket/models");
    let fault = sources.sync(&|_| {}).await.unwrap_err();
    assert!(matches!(fault, Error::NoFolder { .. }), "{fault}");
    assert!(root.join("gpt/3/a.onnx").exists());
}

#[tokio::test]
async fn a_broken_model_does_not_keep_the_others_away() {
    let files = repository();
    files.put("/bucket/models/gpt/2/a.onnx", b"not two");
    let server = s3(&files);
    let bench = bench(&server, "s3://bucket/models/");
    let sources = bench.open();
    let fault = sources.sync(&|_| {}).await.unwrap_err();
    assert!(matches!(&fault, Error::Hash { url, .. } if url == "s3://bucket/models/gpt/2/a.onnx"), "{fault}");
    let root = sources.roots()[0].clone();
    assert!(root.join("gan/1").exists() && root.join("gpt/1").exists() && !root.join("gpt/2").exists());

    // While the new version is broken, the old one stays, though it is gone.
    files.remove("/bucket/models/gpt/1");
    sources.sync(&|_| {}).await.unwrap_err();
    assert!(root.join("gpt/1").exists());
    files.put("/bucket/models/gpt/2/quintet.toml", b"nonsense");
    let fault = sources.sync(&|_| {}).await.unwrap_err();
    assert!(matches!(fault, Error::Manifest { .. }), "{fault}");
    assert!(root.join("gpt/1").exists());
}

#[tokio::test]
async fn one_folder_of_a_bucket_comes_by_itself() {
    let server = s3(&repository());
    let bench = bench(&server, "s3://bucket/models/gpt/2");
    assert_eq!(names(&bench.sync().await.unwrap()), ["gpt/2/a.onnx", "gpt/2/quintet.toml", "gpt/2/shared"]);
}

#[tokio::test]
async fn refusals_name_no_secret() {
    let server = Server::start(|_| Reply::Status(403));
    let fault = bench(&server, "s3://bucket/models").fault().await.to_string();
    assert!(fault.contains("s3://bucket/models/quintet.toml was answered with status 403"), "{fault}");
    assert!(!fault.contains("the-secret") && !fault.contains("the-key"), "{fault}");
}

#[tokio::test]
async fn names_that_cannot_be_models_are_refused() {
    let files = Files::default().with_model("/bucket/models/a\\b", &[("a", b"a")]);
    let server = s3(&files);
    let fault = bench(&server, "s3://bucket/models").fault().await;
    assert!(matches!(fault, Error::Name { .. }), "{fault}");
    let files = Files::default().with_model("/bucket/models/../../evil", &[("a", b"a")]);
    let bench = bench(&s3(&files), "s3://bucket/models");
    bench.fault().await;
    assert!(bench.names("blobs").is_empty());
}
