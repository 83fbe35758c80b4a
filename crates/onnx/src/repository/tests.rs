use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use super::*;
use crate::folder::MANIFEST;

const MANIFEST_TEXT: &str =
    "schema = 1\nkind = \"gan\"\ndescription = \"\"\nlicense = \"\"\ntraining_data = []\ngolden_tolerance = 0.0\n[gan]\n[serving]\n[sha256]\n";

fn write(root: &Path, folder: &str, manifest: &str) {
    let path = root.join(folder);
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join(MANIFEST), manifest).unwrap();
}

fn repository(folders: &[&str], change: impl FnOnce(&mut ModelsConfig)) -> (tempfile::TempDir, Result<Repository, Error>) {
    let root = tempfile::tempdir().unwrap();
    folders.iter().for_each(|folder| write(root.path(), folder, MANIFEST_TEXT));
    let mut config = ModelsConfig::local(root.path().to_owned());
    change(&mut config);
    let repository = Repository::open(&config);
    (root, repository)
}

/// A "model" that counts how many of it live, and fails where its folder says so.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn start(repository: &Repository) -> (Result<Registry<Counted>, Error>, Arc<AtomicUsize>) {
    let alive = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&alive);
    let load = move |folder: &ModelFolder| {
        if folder.manifest.description == "bad" {
            return Err("it does not reproduce its golden pair");
        }
        count.fetch_add(1, Ordering::SeqCst);
        Ok(Counted(Arc::clone(&count)))
    };
    (Registry::open("image", repository, |folder| folder.manifest.kind == "gan", load), alive)
}

fn fleet(repository: &Repository, registry: &Registry<Counted>) -> Fleet {
    Fleet::new(repository, vec![Arc::new(registry.clone())])
}

fn ids(registry: &Registry<Counted>) -> Vec<String> {
    registry.all().iter().map(|loaded| loaded.folder.id()).collect()
}

fn bad() -> String {
    MANIFEST_TEXT.replace("description = \"\"", "description = \"bad\"")
}

#[test]
fn the_highest_version_is_served_unless_a_policy_says_otherwise() {
    let (root, repository) = repository(&["b/2", "b/10", "b/9", "a", "c/1", "c/2", "d/1"], |_| ());
    write(root.path(), "c/2", &MANIFEST_TEXT.replace("[serving]\n", "[serving]\nversions = \"all\"\n"));
    write(root.path(), "d/1", &MANIFEST_TEXT.replace("\"gan\"", "\"vae\"").replace("[gan]", "[vae]"));
    let (registry, _) = start(&repository.unwrap());
    let registry = registry.unwrap();
    assert_eq!(ids(&registry), ["a@1", "b@10", "c@1", "c@2"]);
    assert_eq!(registry.find("c", "").unwrap().folder.version, "2");
    assert_eq!(registry.find("c", "1").unwrap().folder.version, "1");
    assert_eq!(registry.find("c", "3").err(), Some(Missing::Version { name: "c".into(), version: "3".into(), loaded: vec!["1".into(), "2".into()] }));
    assert!(matches!(registry.find("x", ""), Err(Missing::Model { known, .. }) if known == ["a", "b", "c"]));
}

#[test]
fn a_broken_folder_ends_the_whole_unless_told_to_keep_going() {
    let (root, opened) = repository(&["good/1", "bad/1"], |_| ());
    write(root.path(), "bad/1", "kind = 3");
    let fault = start(&opened.unwrap()).0.unwrap_err().to_string();
    assert!(fault.contains("bad") && fault.contains(MANIFEST), "{fault}");
    let (root, opened) = repository(&["good/1", "bad/1"], |config| config.keep_going = true);
    write(root.path(), "bad/1", "kind = 3");
    assert_eq!(ids(&start(&opened.unwrap()).0.unwrap()), ["good@1"]);
}

#[test]
fn a_missing_repository_is_named() {
    let missing = Repository::open(&ModelsConfig::local("/nowhere/models".into()));
    assert!(missing.unwrap_err().to_string().contains("/nowhere/models"));
}

#[test]
fn a_new_version_takes_over_and_a_bad_one_leaves_the_old_in_place() {
    let (root, opened) = repository(&["a/1"], |config| config.control = Control::Poll);
    let opened = opened.unwrap();
    let (registry, alive) = start(&opened);
    let registry = registry.unwrap();
    let fleet = fleet(&opened, &registry);
    let held = registry.find("a", "").unwrap();
    write(root.path(), "a/2", MANIFEST_TEXT);
    let before = registry.generation();
    fleet.refresh();
    assert_eq!(ids(&registry), ["a@2"]);
    assert!(registry.generation() > before);
    // A request that holds the old version keeps it until its end.
    assert_eq!(alive.load(Ordering::SeqCst), 2);
    drop(held);
    assert!(registry.settled(Duration::from_secs(10)));
    assert_eq!(alive.load(Ordering::SeqCst), 1);

    write(root.path(), "a/3", &bad());
    assert!(fleet.load("a").unwrap_err().to_string().contains("golden pair"));
    assert_eq!(ids(&registry), ["a@2"]);
    let failed = registry.index().into_iter().find(|index| index.version == "3").unwrap();
    assert_eq!(failed.state, State::Unavailable);
    assert!(failed.reason.contains("golden pair"), "{failed:?}");

    // The same version with other files is another model; the same files are not.
    let (same, generation) = (registry.find("a", "").unwrap(), registry.generation());
    std::fs::remove_dir_all(root.path().join("a/3")).unwrap();
    fleet.refresh();
    assert!(Arc::ptr_eq(&same, &registry.find("a", "").unwrap()));
    write(root.path(), "a/2", &MANIFEST_TEXT.replace("license = \"\"", "license = \"other\""));
    drop(same);
    assert!(fleet.load("a").unwrap());
    assert!(registry.generation() > generation);
    assert_eq!(registry.find("a", "").unwrap().folder.manifest.license, "other");

    std::fs::remove_dir_all(root.path().join("a")).unwrap();
    fleet.refresh();
    assert!(registry.is_empty());
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    assert_eq!(registry.find("a", "").err(), Some(Missing::Nothing { what: "image" }));
}

#[test]
fn explicit_control_loads_what_is_named_and_what_is_asked_for() {
    let (_root, opened) = repository(&["a/1", "b/1"], |config| {
        config.control = Control::Explicit;
        config.load = vec!["b".into()];
    });
    let opened = opened.unwrap();
    let (registry, alive) = start(&opened);
    let registry = registry.unwrap();
    let fleet = fleet(&opened, &registry);
    assert_eq!(ids(&registry), ["b@1"]);
    assert!(fleet.load("a").unwrap());
    assert!(!fleet.load("../a").unwrap() && !fleet.load("none").unwrap());
    assert!(fleet.unload("b") && !fleet.unload("b"));
    assert_eq!(ids(&registry), ["a@1"]);
    assert_eq!(alive.load(Ordering::SeqCst), 1);

    let (_root, opened) = repository(&["a/1"], |config| (config.control, config.load) = (Control::Explicit, vec!["z".into()]));
    assert!(start(&opened.unwrap()).0.unwrap_err().to_string().contains("'z'"));
}

#[test]
fn files_beyond_the_memory_limit_are_refused() {
    let (root, opened) = repository(&["a/1"], |_| ());
    std::fs::write(root.path().join("a/1/weights.bin"), vec![0u8; 3 << 20]).unwrap();
    let manifest = MANIFEST_TEXT.replace("[serving]\n", "[serving]\nmax_memory_mb = 2\n") + "\"weights.bin\" = \"00\"\n";
    write(root.path(), "a/1", &manifest);
    let fault = start(&opened.unwrap()).0.unwrap_err().to_string();
    assert!(fault.contains("3 MiB") && fault.contains("allows 2"), "{fault}");
}

#[test]
fn an_uploaded_model_goes_over_the_repositorys_own() {
    let (_root, opened) = repository(&["a/1"], |_| ());
    let opened = opened.unwrap();
    let upload = tempfile::tempdir().unwrap();
    write(upload.path(), "7", MANIFEST_TEXT);
    let (registry, _) = start(&opened);
    let registry = registry.unwrap();
    let fleet = fleet(&opened, &registry);
    opened.overlay("a", Some(Overlay { files: Some(upload.path().to_owned()), ..Overlay::default() }));
    fleet.load("a").unwrap();
    assert_eq!(ids(&registry), ["a@7"]);
    opened.overlay("a", None);
    fleet.load("a").unwrap();
    assert_eq!(ids(&registry), ["a@1"]);
}

#[test]
fn what_changes_changes_in_every_service_or_in_none() {
    let (root, opened) = repository(&["a/1"], |_| ());
    let opened = opened.unwrap();
    // The first service takes every version, as one of tokenizers would; the second refuses what is bad.
    let first = Registry::open_lingering("tokenizer", &opened, |_| true, Duration::from_mins(10), |_| Ok::<_, Error>(())).unwrap();
    let second = start(&opened).0.unwrap();
    let fleet = Fleet::new(&opened, vec![Arc::new(first.clone()), Arc::new(second.clone())]);
    write(root.path(), "a/2", &bad());
    assert!(fleet.load("a").is_err());
    assert_eq!(first.find("a", "").unwrap().folder.version, "1");
    // Polling does not try again what failed in the same form.
    assert!(matches!(fleet.change("a", false), Err(Error::FailedBefore { .. })));
    assert!(matches!(fleet.change("a", true), Err(Error::Load { .. })));
    write(root.path(), "a/3", MANIFEST_TEXT);
    assert!(fleet.load("a").unwrap());
    assert_eq!((first.find("a", "").unwrap().folder.version.as_str(), ids(&second)), ("3", vec!["a@3".to_owned()]));
    // A caller that still runs the old version finds its tokenizer.
    assert_eq!(first.find("a", "1").unwrap().folder.version, "1");
    assert!(second.find("a", "1").is_err());
    assert_eq!(
        fleet.index().iter().map(|index| (index.version.as_str(), index.state)).collect::<Vec<_>>(),
        [("1", State::Unavailable), ("2", State::Unavailable), ("3", State::Ready)]
    );
}
