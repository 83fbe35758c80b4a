use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    Bench, Files, manifest, names,
    server::{Reply, Server},
    sha256, tree,
};
use crate::{Config, Error, Sources};

const FILES: &[(&str, &[u8])] = &[("a.onnx", b"the graph"), ("b.json", b"{}")];

/// Something long, no part of which is like another.
fn long(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8 ^ (n / 251) as u8).collect()
}

#[tokio::test]
async fn a_folder_comes_and_is_not_fetched_again() {
    let files = Files::default().with_model("/models/gpt/3", FILES);
    files.put("/models/gpt/3/unlisted", b"x");
    let server = Server::start(files.serve());
    let bench = Bench::new(&[server.url("/models/gpt/3/")]);
    let root = bench.sync().await.unwrap();
    assert_eq!(names(&root), ["gpt/3/a.onnx", "gpt/3/b.json", "gpt/3/quintet.toml"]);
    assert_eq!(tree(&root)["gpt/3/a.onnx"], b"the graph");
    bench.sync().await.unwrap();
    assert_eq!((server.seen("a.onnx").len(), server.seen("unlisted").len()), (1, 0));
    assert!(bench.names("partial").is_empty());
}

#[tokio::test]
async fn progress_is_told() {
    let content = long(3 << 20);
    let server = Server::start(Files::default().with_model("/m", &[("a", &content)]).serve());
    let bench = Bench::new(&[server.url("/m").replace("//", "//user:secret@")]);
    let told = Mutex::new(Vec::new());
    bench
        .open()
        .sync(&|progress| told.lock().unwrap().push((progress.source.to_owned(), progress.file.to_owned(), progress.bytes, progress.total)))
        .await
        .unwrap();
    let told = told.into_inner().unwrap();
    let total = content.len() as u64;
    assert_eq!(told.first().unwrap(), &(server.url("/m"), "m/1/a".to_owned(), 0, total));
    assert_eq!(told.last().unwrap(), &(server.url("/m"), "m/1/a".to_owned(), total, total));
    assert!(told.len() >= 3 && told.is_sorted_by_key(|(_, _, bytes, _)| *bytes), "{told:?}");
    assert_eq!(server.seen("a")[0].header("authorization"), Some("Basic dXNlcjpzZWNyZXQ="));
}

#[tokio::test]
async fn a_server_that_cannot_list_needs_one_folder() {
    let server = Server::start(|_| Reply::Status(404));
    let fault = Bench::new(&[server.url("/models")]).fault().await;
    assert!(matches!(&fault, Error::NoFolder { url, .. } if *url == server.url("/models/quintet.toml")), "{fault}");
    assert!(fault.to_string().contains("cannot list"), "{fault}");
    let fault = Sources::open(Bench::new(&[server.url("/"), "nonsense".to_owned()]).config).unwrap_err().to_string();
    assert!(fault.contains("names no model") && fault.contains("'nonsense'"), "all faults at once: {fault}");
}

#[tokio::test]
async fn a_cut_download_is_resumed() {
    let content = long(3_000_000);
    let (files, count) = (Files::default().with_model("/m", &[("a", &content)]), AtomicUsize::new(0));
    let server = Server::start(move |request| match files.get(&request.path) {
        Reply::File(content) if request.path == "/m/a" && count.fetch_add(1, Ordering::Relaxed) < 2 => Reply::Cut(content, 1_200_000),
        reply => reply,
    });
    let mut bench = Bench::new(&[server.url("/m")]);
    // The first process gives up, the second goes on.
    bench.config.tries = 1;
    let fault = bench.fault().await;
    assert!(matches!(fault, Error::Truncated { received: 1_200_000, declared: 3_000_000, tries: 1, .. }), "{fault}");
    assert!(fault.is_transient());
    bench.config.tries = 3;
    let root = bench.sync().await.unwrap();
    assert_eq!(tree(&root)["m/1/a"], content);
    assert_eq!(server.ranges("/a"), [None, Some("bytes=1200000-".to_owned()), Some("bytes=2400000-".to_owned())]);
    assert!(bench.names("partial").is_empty());
}

#[tokio::test]
async fn a_download_that_was_whole_is_not_fetched_again() {
    let server = Server::start(Files::default().with_model("/m", FILES).serve());
    let bench = Bench::new(&[server.url("/m")]);
    drop(bench.open());
    std::fs::write(bench.cache.path().join("partial").join(sha256(b"the graph")), "the graph").unwrap();
    bench.sync().await.unwrap();
    assert!(server.seen("a.onnx").is_empty());
}

#[tokio::test]
async fn a_server_without_ranges_starts_over() {
    let files = Files::default().with_model("/m", FILES);
    let server = Server::start(move |request| match files.get(&request.path) {
        Reply::File(content) => Reply::Whole(content),
        reply => reply,
    });
    let bench = Bench::new(&[server.url("/m")]);
    drop(bench.open());
    std::fs::write(bench.cache.path().join("partial").join(sha256(b"the graph")), "the").unwrap();
    let root = bench.sync().await.unwrap();
    assert_eq!(tree(&root)["m/1/a.onnx"], b"the graph");
    assert_eq!(server.ranges("a.onnx"), [Some("bytes=3-".to_owned()), None]);
}

#[tokio::test]
async fn what_is_left_of_something_else_is_thrown_away() {
    let server = Server::start(Files::default().with_model("/m", FILES).serve());
    for (left, ranges) in [("xyz", vec![Some("bytes=3-".to_owned()), None]), ("much longer than it", vec![Some("bytes=19-".to_owned()), None])] {
        let before = server.seen("a.onnx").len();
        let bench = Bench::new(&[server.url("/m")]);
        drop(bench.open());
        std::fs::write(bench.cache.path().join("partial").join(sha256(b"the graph")), left).unwrap();
        let root = bench.sync().await.unwrap();
        assert_eq!(tree(&root)["m/1/a.onnx"], b"the graph");
        assert_eq!(server.ranges("a.onnx")[before..], ranges);
    }
}

#[tokio::test]
async fn a_store_that_stops_again_and_again_is_given_up() {
    let files = Files::default().with_model("/m", FILES);
    let server = Server::start(move |request| match files.get(&request.path) {
        Reply::File(content) if request.path == "/m/a.onnx" => Reply::Cut(content, 1),
        reply => reply,
    });
    let fault = Bench::new(&[server.url("/m")]).fault().await;
    assert!(matches!(fault, Error::Truncated { received: 4, declared: 9, tries: 4, .. }), "{fault}");
    let ranges = server.ranges("a.onnx").into_iter().flatten().collect::<Vec<_>>();
    assert_eq!(ranges, ["bytes=1-", "bytes=2-", "bytes=3-"]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_given_up() {
    let server = Server::start(|_| Reply::Hang);
    let fault = Bench::new(&[server.url("/m")]).fault().await;
    assert!(matches!(fault, Error::Stalled { tries: 4, .. }), "{fault}");
    assert!(fault.to_string().contains("nothing came for 60 s (4 tries)"), "{fault}");
}

#[tokio::test]
async fn a_download_that_hangs_in_the_middle_is_resumed() {
    let (files, count) = (Files::default().with_model("/m", FILES), AtomicUsize::new(0));
    let server = Server::start(move |request| match files.get(&request.path) {
        Reply::File(content) if request.path == "/m/a.onnx" && count.fetch_add(1, Ordering::Relaxed) == 0 => Reply::Stall(content, 4),
        reply => reply,
    });
    let mut bench = Bench::new(&[server.url("/m")]);
    // However slow the machine is, one of the tries gets through.
    (bench.config.stall, bench.config.tries) = (Duration::from_millis(300), 1000);
    let root = bench.sync().await.unwrap();
    assert_eq!(tree(&root)["m/1/a.onnx"], b"the graph");
    assert!(server.ranges("a.onnx").contains(&Some("bytes=4-".to_owned())) || server.seen("a.onnx").len() > 2);
}

#[tokio::test]
async fn a_file_that_is_not_what_its_manifest_says_is_not_kept() {
    let files = Files::default().with_model("/m", FILES);
    files.put("/m/a.onnx", b"another graph");
    let server = Server::start(files.serve());
    let bench = Bench::new(&[server.url("/m")]);
    let Error::Hash { url, expected, actual } = bench.fault().await else { panic!("a wrong hash") };
    assert_eq!((url, expected, actual), (server.url("/m/a.onnx"), sha256(b"the graph"), sha256(b"another graph")));
    assert_eq!(server.seen("a.onnx").len(), 1);
    assert!(bench.names("blobs").is_empty() && bench.names("partial").is_empty());
    assert!(names(&bench.open().roots()[0]).is_empty());
}

#[tokio::test]
async fn faults_of_the_server_pass_and_refusals_do_not() {
    let (files, count) = (Files::default().with_model("/m", FILES), AtomicUsize::new(0));
    // Every other request fails, each time otherwise.
    let server = Server::start(move |request| match count.fetch_add(1, Ordering::Relaxed) {
        n if n % 2 == 0 => Reply::Status([500, 503, 429][n / 2 % 3]),
        _ => files.get(&request.path),
    });
    let bench = Bench::new(&[server.url("/m")]);
    bench.sync().await.unwrap();
    assert_eq!(server.seen("a.onnx").len(), 2);

    let server = Server::start(|_| Reply::Status(500));
    let fault = Bench::new(&[server.url("/m")]).fault().await;
    assert!(matches!(fault, Error::Status { status: 500, .. }), "{fault}");
    assert_eq!(server.seen("").len(), 4);

    let server = Server::start(|_| Reply::Status(403));
    let fault = Bench::new(&[server.url("/m").replace("//", "//user:secret@")]).fault().await;
    assert_eq!(server.seen("").len(), 1);
    let words = fault.to_string();
    assert!(words.contains("403") && words.contains(&server.url("/m/quintet.toml")) && words.contains("credentials"), "{words}");
    assert!(!words.contains("secret"), "{words}");

    let files = Files::default().with_model("/m", FILES);
    files.remove("/m/a.onnx");
    let server = Server::start(files.serve());
    let fault = Bench::new(&[server.url("/m")]).fault().await;
    assert!(matches!(&fault, Error::Status { status: 404, url, .. } if url.ends_with("/m/a.onnx")), "{fault}");
    assert_eq!(server.seen("a.onnx").len(), 1);
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let fault = Bench::new(&[format!("http://{address}/m")]).fault().await;
    assert!(matches!(fault, Error::Unreachable { tries: 4, .. }), "{fault}");
    assert!(fault.to_string().contains("refused"), "{fault}");
}

#[tokio::test]
async fn names_that_leave_the_folder_are_refused() {
    let files = Files::default();
    files.put("/m/quintet.toml", format!("[sha256]\n\"../../evil\" = \"{}\"", sha256(b"evil")).as_bytes());
    files.put("/evil", b"evil");
    let server = Server::start(files.serve());
    let fault = Bench::new(&[server.url("/m")]).fault().await;
    assert!(matches!(&fault, Error::Manifest { reason, .. } if reason.contains("../../evil")), "{fault}");
    assert_eq!(server.seen("").len(), 1);
}

#[tokio::test]
async fn a_manifest_that_is_too_long_is_refused() {
    let files = Files::default();
    files.put("/m/quintet.toml", &vec![b'#'; (1 << 20) + 1]);
    let server = Server::start(files.serve());
    let fault = Bench::new(&[server.url("/m")]).fault().await;
    assert!(matches!(fault, Error::Overlong { limit: 1_048_576, .. }), "{fault}");
}

#[tokio::test]
async fn a_pin_holds_the_manifest() {
    let server = Server::start(Files::default().with_model("/m", FILES).serve());
    let right = sha256(manifest(FILES));
    Bench::new(&[server.url(&format!("/m#sha256={}", right.to_uppercase()))]).sync().await.unwrap();
    let wrong = sha256("other");
    let bench = Bench::new(&[server.url(&format!("/m#sha256={wrong}"))]);
    let Error::Pin { expected, actual, .. } = bench.fault().await else { panic!("a wrong pin") };
    assert_eq!((expected, actual), (wrong, right));
    assert!(bench.names("blobs").is_empty());
}

#[test]
fn the_work_may_move_between_threads_and_secrets_are_not_printed() {
    fn is_send<T: Send>(_: &T) {}
    let mut bench = Bench::new(&["https://user:secret@host/m".to_owned()]).set("HF_TOKEN", "secret");
    bench.config.urls.push("file:///m".to_owned());
    let config: Config = bench.config.clone();
    let sources = bench.open();
    is_send(&sources.sync(&|_| {}));
    assert_eq!(sources.roots().len(), 2);
    assert!(!format!("{config:?} {sources:?}").contains("secret"));
}
