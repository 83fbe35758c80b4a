use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    sync::{Arc, Condvar, Mutex},
};

use super::{Bench, Files, manifest, names, server::Server, sha256, tree};
use crate::{Error, Sources, default_cache};

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    folder
}

fn url(path: &std::path::Path) -> String {
    url::Url::from_file_path(path).unwrap().into()
}

#[tokio::test]
async fn a_folder_of_this_machine_is_a_source_too() {
    let one = manifest(&[("a", b"one")]);
    let two = manifest(&[("b b", b"two")]);
    let store =
        folder(&[("gpt/7/a", b"one"), ("gpt/7/quintet.toml", one.as_bytes()), ("my gan/b b", b"two"), ("my gan/quintet.toml", two.as_bytes())]);
    let bench = Bench::new(&[url(store.path()), url(&store.path().join("my gan"))]);
    let root = bench.sync().await.unwrap();
    assert_eq!(names(&root), ["gpt/7/a", "gpt/7/quintet.toml", "my gan/1/b b", "my gan/1/quintet.toml"]);
    assert_eq!(names(&bench.open().roots()[1]), ["my gan/1/b b", "my gan/1/quintet.toml"]);
    let found = std::fs::metadata(root.join("gpt/7/a")).unwrap();
    assert_eq!((found.nlink(), found.permissions().mode() & 0o777), (2, 0o444), "a hard link, and not to be written");
    let found = std::fs::symlink_metadata(root.join("my gan/1/b b")).unwrap();
    assert!(found.is_file() && found.nlink() == 3, "both trees share one file");
    let fault = Bench::new(&[url(&store.path().join("nothing"))]).fault().await;
    assert!(matches!(fault, Error::NoFolder { .. }), "{fault}");
}

#[tokio::test]
async fn a_blob_that_changed_is_noticed_and_fetched_again() {
    let server = Server::start(Files::default().with_model("/m", &[("a", b"content")]).serve());
    let bench = Bench::new(&[server.url("/m")]);
    let root = bench.sync().await.unwrap();
    let (blob, file) = (bench.cache.path().join("blobs").join(sha256(b"content")), root.join("m/1/a"));
    for damage in ["cut", "changed"] {
        std::fs::set_permissions(&blob, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::write(&blob, damage).unwrap();
        // A clock that is coarse must not hide that it changed.
        std::fs::File::open(&blob).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        bench.sync().await.unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"content");
    }
    assert_eq!(server.seen("/a").len(), 3);
    // Records that are lost cost a look, and no download.
    std::fs::remove_file(bench.cache.path().join("records").join(sha256(b"content"))).unwrap();
    std::fs::remove_file(&file).unwrap();
    bench.sync().await.unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"content");
    assert_eq!(server.seen("/a").len(), 3);
}

#[tokio::test]
async fn two_at_once_fetch_each_file_once() {
    let files = Files::default().with_model("/one/m", &[("a", b"content")]).with_model("/two/m", &[("a", b"content")]);
    // No file is given before both have read their manifests.
    let gate = Arc::new((Mutex::new(0), Condvar::new()));
    let server = Server::start(move |request| {
        let (count, changed) = &*gate;
        if request.path.ends_with("quintet.toml") {
            *count.lock().unwrap() += 1;
            changed.notify_all();
        } else {
            drop(changed.wait_while(count.lock().unwrap(), |count| *count < 4).unwrap());
        }
        files.get(&request.path)
    });
    let bench = Bench::new(&[server.url("/one/m")]);
    let mut other = bench.config.clone();
    other.urls = vec![server.url("/two/m")];
    let (same, other) = (bench.open(), Sources::open(other).unwrap());
    let (one, two, three) = (bench.open(), bench.open(), other);
    let (a, b, c, d) = tokio::join!(one.sync(&|_| {}), two.sync(&|_| {}), three.sync(&|_| {}), same.sync(&|_| {}));
    for outcome in [a, b, c, d] {
        outcome.unwrap();
    }
    assert_eq!(server.seen("/a").len(), 1);
    for root in [one.roots(), three.roots()].concat() {
        assert_eq!(tree(&root)["m/1/a"], b"content");
    }
    assert!(bench.names("partial").is_empty());
}

#[tokio::test]
async fn a_download_that_is_dropped_goes_on_with_the_next() {
    let content = vec![7; 5 << 20];
    let server = Server::start(Files::default().with_model("/m", &[("a", &content)]).serve());
    let bench = Bench::new(&[server.url("/m")]);
    let (told, dropped) = tokio::sync::oneshot::channel();
    let told = Mutex::new(Some(told));
    {
        let sources = bench.open();
        let progress = move |progress: crate::Progress<'_>| {
            if progress.bytes >= 2 << 20 {
                told.lock().unwrap().take().map(|told| told.send(()));
            }
        };
        tokio::select! {
            biased;
            _ = dropped => {}
            _ = sources.sync(&progress) => panic!("it is dropped in the middle"),
        }
    }
    let left = std::fs::metadata(bench.cache.path().join("partial").join(sha256(&content))).unwrap().len();
    assert!((2 << 20..5 << 20).contains(&left), "{left}");
    let root = bench.sync().await.unwrap();
    assert_eq!(tree(&root)["m/1/a"], content);
    assert_eq!(server.ranges("/a"), [None, Some(format!("bytes={left}-"))]);
}

#[tokio::test]
async fn the_cache_keeps_its_limit() {
    let files = Files::default().with_model("/one/m", &[("a", &[1; 600])]).with_model("/two/m", &[("a", &[2; 600])]);
    let server = Server::start(files.serve());
    let mut bench = Bench::new(&[server.url("/one/m")]);
    bench.config.max_bytes = 1000;
    let one = bench.open();
    one.sync(&|_| {}).await.unwrap();

    // While somebody uses the first, there is no room for the second.
    bench.config.urls = vec![server.url("/two/m")];
    let fault = bench.fault().await;
    assert!(matches!(fault, Error::CacheLimit { needed: 1200, limit: 1000 }), "{fault}");
    assert!(fault.to_string().contains("models.cache_bytes is 1000"), "{fault}");
    assert!(bench.names("partial").is_empty());

    drop(one);
    let root = bench.sync().await.unwrap();
    assert_eq!(tree(&root)["m/1/a"], [2; 600]);
    assert_eq!(bench.names("blobs"), [sha256([2; 600])]);
    assert_eq!(bench.names("trees").len(), 1);

    bench.config.max_bytes = 599;
    let fault = bench.fault().await;
    assert!(matches!(fault, Error::CacheLimit { needed: 600, limit: 599 }), "{fault}");
    assert_eq!(tree(&root)["m/1/a"], [2; 600], "what is in use stays");
}

#[tokio::test]
async fn old_versions_go_when_there_is_no_room() {
    let files = Files::default().with_model("/m", &[("a", &[1; 600])]);
    let server = Server::start(files.serve());
    let mut bench = Bench::new(&[server.url("/m")]);
    bench.config.max_bytes = 1300;
    bench.sync().await.unwrap();
    for content in 2..5 {
        files.put_model("/m", &[("a", &[content; 600])]);
        let root = bench.sync().await.unwrap();
        assert_eq!(tree(&root)["m/1/a"], [content; 600]);
        assert!(bench.names("blobs").len() <= 2);
    }
}

#[test]
fn a_cache_that_cannot_be_made_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut bench = Bench::new(&[]);
    bench.config.cache = file.path().join("cache");
    let fault = Sources::open(bench.config).unwrap_err();
    assert!(matches!(&fault, Error::Cache { .. }) && fault.to_string().contains("models.cache"), "{fault}");
}

#[test]
fn the_cache_is_where_the_user_keeps_caches() {
    let cache = |variables: &[(&str, &str)]| {
        let variables: Vec<_> = variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        default_cache(&variables).map(|path| path.to_str().unwrap().to_owned())
    };
    assert_eq!(cache(&[("HOME", "/home/me"), ("XDG_CACHE_HOME", "/caches")]).unwrap(), "/caches/quintet");
    assert_eq!(cache(&[("HOME", "/home/me"), ("XDG_CACHE_HOME", "")]).unwrap(), "/home/me/.cache/quintet");
    assert_eq!(cache(&[("HOME", "relative")]), None);
    assert_eq!(cache(&[]), None);
}
