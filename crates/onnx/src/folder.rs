use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{Error, Provider, Runtime, ServingSettings, bare};

/// The largest manifest.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Instances of a model where nobody says how many, and the most bytes of its files then.
const MOST_INSTANCES: usize = 8;
const SMALL_BYTES: u64 = 256 << 20;
/// The most bytes of a model whose runs take microseconds: less than it takes to wake a second thread.
const TINY_BYTES: u64 = 128 << 10;

/// The name of the file that makes a folder a model folder.
pub(crate) const MANIFEST: &str = "quintet.toml";

/// The kind of a folder whose graphs are served for their raw tensors alone.
pub const GRAPH_KIND: &str = "graph";

/// The kind of a folder that has a tokenizer and no graph.
pub const TOKENIZER_KIND: &str = "tokenizer";

/// The kind of a folder with an encoder of text, whatever head it has.
pub const ENCODER_KIND: &str = "encoder";

/// The kind of a folder with a decoder of text.
pub const CAUSAL_LM_KIND: &str = "causal-lm";

/// The kind of a folder with an encoder–decoder of text.
pub const SEQ2SEQ_KIND: &str = "seq2seq";

/// Whether a folder is a model folder.
pub(crate) fn is_model_folder(path: &Path) -> bool {
    path.join(MANIFEST).is_file() || bare::kind(path).is_some()
}

/// A model folder: its manifest, and where it is.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    /// The model's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What `quintet.toml` says.
    pub manifest: Manifest,
    path: PathBuf,
    section: toml::Table,
    /// The SHA-256 of the manifest itself, and so, by the hashes in it, of everything.
    fingerprint: [u8; 32],
    /// Whether it has no manifest, and so no hashes.
    is_bare: bool,
}

/// What every model's `quintet.toml` says, whatever its kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The manifest's format: 1.
    pub schema: u32,
    /// What the model is, in lower case: "causal-lm", "gan", "vae" and so on. The table of the same name, with
    /// '_' for '-', holds what only that kind has.
    pub kind: String,
    /// One line about it.
    pub description: String,
    /// Under which licence its weights may be used.
    pub license: String,
    /// What it was trained on.
    pub training_data: Vec<String>,
    /// The largest difference between a golden output and the runtime's: absolute below 1, relative above.
    pub golden_tolerance: f64,
    /// How it is run, where that differs from the service's own settings.
    #[serde(default)]
    pub serving: ServingSettings,
    /// What the files of its tokenizer do not say, for models that are more than a tokenizer.
    #[serde(default)]
    pub tokenizer: toml::Table,
    /// The SHA-256 of each file, in hexadecimal.
    pub sha256: BTreeMap<String, String>,
}

impl ModelFolder {
    /// Reads a folder's manifest; a folder that has none is what its files are: a decoder or an encoder as onnxruntime-genai,
    /// Optimum or transformers.js write it, a graph, or a tokenizer.
    pub(crate) fn open(name: String, version: String, path: &Path) -> Result<Self, Error> {
        if !path.join(MANIFEST).exists()
            && let Some(kind) = bare::kind(path)
        {
            return Self::bare(name, version, path, kind);
        }
        let broken = |reason: String| Error::Folder { folder: path.to_owned(), file: MANIFEST.to_owned(), reason };
        let length = std::fs::metadata(path.join(MANIFEST)).map_err(|error| broken(error.to_string()))?.len();
        if length > MAX_MANIFEST_BYTES {
            return Err(broken(format!("it is {length} bytes long: at most {MAX_MANIFEST_BYTES}")));
        }
        let text = std::fs::read_to_string(path.join(MANIFEST)).map_err(|error| broken(error.to_string()))?;
        let fingerprint = Sha256::digest(&text).into();
        let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| broken(error.message().to_owned()))?;
        let kind = table.get("kind").and_then(toml::Value::as_str).unwrap_or_default().replace('-', "_");
        let Some(toml::Value::Table(section)) = table.remove(&kind) else {
            return Err(broken(format!("the table [{kind}] is missing")));
        };
        let manifest: Manifest = table.try_into().map_err(|error: toml::de::Error| broken(error.message().to_owned()))?;
        if manifest.schema != 1 {
            return Err(broken(format!("schema {} is not known: 1 is", manifest.schema)));
        }
        if !manifest.golden_tolerance.is_finite() || manifest.golden_tolerance < 0.0 {
            return Err(broken(format!("golden_tolerance {} must be a number from 0", manifest.golden_tolerance)));
        }
        if let Some(fault) = manifest.serving.validate().into_iter().next() {
            return Err(broken(fault));
        }
        Ok(Self { name, version, manifest, path: path.to_owned(), section, fingerprint, is_bare: false })
    }

    /// A folder without a manifest. Nothing says what its files should be, so a change is seen by their sizes and dates.
    fn bare(name: String, version: String, path: &Path, kind: &str) -> Result<Self, Error> {
        let unreadable = |error: std::io::Error| Error::Folder { folder: path.to_owned(), file: MANIFEST.to_owned(), reason: error.to_string() };
        let files = bare::files(path).map_err(unreadable)?;
        let manifest = Manifest {
            schema: 1,
            kind: kind.to_owned(),
            description: String::new(),
            license: String::new(),
            training_data: Vec::new(),
            golden_tolerance: 0.0,
            serving: ServingSettings::default(),
            tokenizer: toml::Table::new(),
            sha256: files.keys().map(|name| (name.clone(), String::new())).collect(),
        };
        let fingerprint = Sha256::digest(format!("{files:?}")).into();
        Ok(Self { name, version, manifest, path: path.to_owned(), section: toml::Table::new(), fingerprint, is_bare: true })
    }

    /// Takes settings in place of the folder's own.
    pub(crate) fn overridden(mut self, settings: &ServingSettings) -> Self {
        self.manifest.serving = self.manifest.serving.overridden(settings);
        self.fingerprint = Sha256::digest(format!("{}{settings:?}", hex::encode(self.fingerprint))).into();
        self
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// "NAME@VERSION".
    pub fn id(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// Whether the folder has no `quintet.toml`, so that only its files say what it is.
    pub fn is_bare(&self) -> bool {
        self.is_bare
    }

    /// What `quintet.toml` says that only this kind of model has.
    pub fn section<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let section = self.section.clone();
        section.try_into().map_err(|error: toml::de::Error| self.broken(MANIFEST, error.message().to_owned()))
    }

    /// What `quintet.toml` says of the model's tokenizer: the table [tokenizer], which may be absent.
    pub fn tokenizer_section<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let section = if self.manifest.kind == TOKENIZER_KIND { &self.section } else { &self.manifest.tokenizer };
        section.clone().try_into().map_err(|error: toml::de::Error| self.broken(MANIFEST, format!("[tokenizer]: {}", error.message())))
    }

    /// The names of the folder's files.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.manifest.sha256.keys().map(String::as_str)
    }

    /// The path of one of the folder's files, which the manifest must list with its hash.
    pub fn file(&self, name: &str) -> Result<PathBuf, Error> {
        if self.manifest.sha256.contains_key(name) { Ok(self.path.join(name)) } else { Err(self.broken(name, "it is not listed under [sha256]")) }
    }

    /// Whether the folder has a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.manifest.sha256.contains_key(name)
    }

    /// The text of one of the folder's files.
    pub fn read_to_string(&self, name: &str) -> Result<String, Error> {
        std::fs::read_to_string(self.file(name)?).map_err(|error| self.broken(name, error.to_string()))
    }

    /// The bytes of one of the folder's files.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        std::fs::read(self.file(name)?).map_err(|error| self.broken(name, error.to_string()))
    }

    /// Whether it is the same version of the same model with the same contents.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.name, &self.version, self.fingerprint) == (&other.name, &other.version, other.fingerprint)
    }

    /// The SHA-256 of its manifest.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The bytes of its files together.
    pub(crate) fn size(&self) -> u64 {
        self.manifest.sha256.keys().filter_map(|name| std::fs::metadata(self.path.join(name)).ok()).map(|file| file.len()).sum()
    }

    /// The folder with the arrangement of its instances settled: as many as its own settings say, else `configured`; where
    /// that is 0, one for each processor, up to 8, if the model is small enough to be held so often, else one. Where there
    /// is an instance for each processor, each runs on its own thread alone: that gives the most throughput, since no two
    /// of them wait for the same threads. Otherwise instances share the process's pool. A model of some kilobytes has one
    /// instance on one thread: it is quicker than what it would take to share its work out.
    #[must_use]
    pub fn arranged(&self, configured: usize) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let mut folder = self.clone();
        let serving = &mut folder.manifest.serving;
        let size = self.size();
        let count = match serving.instances.unwrap_or(configured) {
            0 if size <= TINY_BYTES => 1,
            0 if size <= SMALL_BYTES => processors.min(MOST_INSTANCES),
            0 => 1,
            count => count,
        };
        serving.instances = Some(count);
        if count == 1 && size <= TINY_BYTES || count > 1 && count >= processors {
            serving.threads = serving.threads.or(Some(1));
        }
        folder
    }

    /// The folder with its graphs kept to so many threads, on a pool of their own where they would see more. Of no account on a GPU.
    #[must_use]
    pub fn with_threads_at_most(&self, most: usize, runtime: &Runtime) -> Self {
        let mut folder = self.clone();
        let serving = &mut folder.manifest.serving;
        let is_on_gpu = matches!(serving.provider.unwrap_or(runtime.provider), Provider::Cuda { .. });
        let seen = serving.threads.filter(|threads| *threads > 0).unwrap_or(runtime.threads);
        if seen > most && !is_on_gpu {
            serving.threads = Some(most.max(1));
        }
        folder
    }

    /// How many instances of the model run at once.
    pub fn instances(&self) -> usize {
        self.manifest.serving.instances.unwrap_or(1).max(1)
    }

    /// Checks that every file that is named lies in the folder.
    pub(crate) fn check_paths(&self) -> Result<(), Error> {
        let whole = self.path.canonicalize().map_err(|error| self.broken(MANIFEST, error.to_string()))?;
        for name in self.manifest.sha256.keys() {
            // A name that leaves the folder would let a manifest read any file of the machine; so would a link.
            if !bare::is_within(name) {
                return Err(self.broken(name, "it is not a plain file name"));
            }
            let real = self.path.join(name).canonicalize().map_err(|error| self.broken(name, error.to_string()))?;
            if !real.starts_with(&whole) {
                return Err(self.broken(name, "it is a link that leaves the folder"));
            }
        }
        Ok(())
    }

    /// Checks every file against its hash; a folder without a manifest has none.
    pub fn verify(&self) -> Result<(), Error> {
        self.check_paths()?;
        for (name, expected) in self.manifest.sha256.iter().filter(|_| !self.is_bare) {
            let actual = sha256(&self.path.join(name)).map_err(|error| self.broken(name, error.to_string()))?;
            if !actual.eq_ignore_ascii_case(expected) {
                return Err(self.broken(name, format!("its SHA-256 is {actual}, {MANIFEST} says {expected}")));
            }
        }
        Ok(())
    }

    /// An error about one of the folder's files.
    pub fn broken(&self, file: &str, reason: impl Into<String>) -> Error {
        Error::Folder { folder: self.path.clone(), file: file.to_owned(), reason: reason.into() }
    }
}

/// A file's SHA-256 in hexadecimal, read in pieces: model files may be larger than memory allows twice.
fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        let length = file.read(&mut piece)?;
        if length == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(piece.get(..length).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
schema = 1
kind = "image-classifier"
description = "d"
license = "Apache-2.0"
training_data = []
golden_tolerance = 0.001
[image_classifier]
classes = ["a", "b"]
[sha256]
"weights.bin" = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
"#;

    fn open(manifest: &str) -> (tempfile::TempDir, Result<ModelFolder, Error>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(MANIFEST), manifest).unwrap();
        std::fs::write(folder.path().join("weights.bin"), "test").unwrap();
        let opened = ModelFolder::open("m".into(), "1".into(), folder.path());
        (folder, opened)
    }

    fn fault(manifest: &str) -> String {
        let (_folder, opened) = open(manifest);
        opened.unwrap_err().to_string()
    }

    #[test]
    fn a_good_folder_opens_and_verifies() {
        #[derive(Deserialize)]
        struct Section {
            classes: Vec<String>,
        }
        let (_folder, opened) = open(GOOD);
        let opened = opened.unwrap();
        opened.verify().unwrap();
        assert_eq!(opened.section::<Section>().unwrap().classes, ["a", "b"]);
        assert!(opened.file("weights.bin").is_ok());
        assert!(opened.file("other.bin").is_err());
    }

    #[test]
    fn faults_name_the_file_and_the_reason() {
        assert!(fault("schema = ").contains("quintet.toml"));
        assert!(fault(&GOOD.replace("[image_classifier]", "[gan]")).contains("[image_classifier] is missing"));
        assert!(fault(&GOOD.replace("schema = 1", "schema = 2")).contains("schema 2"));
        assert!(fault(&GOOD.replace("license", "licence")).contains("licence"));
        assert!(fault(&GOOD.replace("0.001", "-1.0")).contains("golden_tolerance -1"));
    }

    #[test]
    fn a_changed_or_missing_file_is_found() {
        let (folder, opened) = open(GOOD);
        let opened = opened.unwrap();
        std::fs::write(folder.path().join("weights.bin"), "tested").unwrap();
        let fault = opened.verify().unwrap_err().to_string();
        assert!(fault.contains("weights.bin") && fault.contains("SHA-256"), "{fault}");
        std::fs::remove_file(folder.path().join("weights.bin")).unwrap();
        assert!(opened.verify().unwrap_err().to_string().contains("weights.bin"));
    }

    #[test]
    fn a_manifest_cannot_name_files_outside_its_folder() {
        let (_folder, opened) = open(&GOOD.replace("weights.bin", "../weights.bin"));
        assert!(opened.unwrap().verify().unwrap_err().to_string().contains("plain file name"));
        let (folder, opened) = open(&GOOD.replace("weights.bin", "link.bin"));
        let outside = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(outside.path(), "test").unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("link.bin")).unwrap();
        assert!(opened.unwrap().verify().unwrap_err().to_string().contains("leaves the folder"));
    }

    #[test]
    fn a_graph_without_a_manifest_is_a_folder_of_its_own_kind() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.onnx"), "graph").unwrap();
        let open = || ModelFolder::open("m".into(), "1".into(), folder.path()).unwrap();
        let bare = open();
        assert_eq!((bare.manifest.kind.as_str(), bare.has("model.onnx")), (GRAPH_KIND, true));
        bare.verify().unwrap();
        assert!(open().is_same(&bare));
        let settings = ServingSettings { instances: Some(2), ..ServingSettings::default() };
        let changed = open().overridden(&settings);
        assert_eq!(changed.manifest.serving.instances, Some(2));
        assert!(!changed.is_same(&bare));
        std::fs::write(folder.path().join("model.onnx"), "another graph").unwrap();
        assert!(!open().is_same(&bare));
    }

    #[test]
    fn an_encoder_without_a_manifest_is_known_by_its_class_its_type_or_its_modules() {
        let decoder = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}"#;
        let other = r#"{"architectures": ["Dinov2Model"], "model_type": "dinov2"}"#;
        for (config, modules, kind) in [
            (r#"{"architectures": ["BertModel"], "model_type": "bert"}"#, false, ENCODER_KIND),
            (r#"{"architectures": ["DebertaV2ForSequenceClassification"]}"#, false, ENCODER_KIND),
            (r#"{"architectures": ["NewForMaskedLM"], "model_type": "new"}"#, false, ENCODER_KIND),
            (r#"{"architectures": ["NewModel"], "model_type": "new"}"#, true, ENCODER_KIND),
            (decoder, false, CAUSAL_LM_KIND),
            (other, false, GRAPH_KIND),
            ("not JSON", true, GRAPH_KIND),
        ] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("config.json"), config).unwrap();
            std::fs::write(folder.path().join("model.onnx"), "graph").unwrap();
            std::fs::create_dir(folder.path().join("1_Pooling")).unwrap();
            std::fs::write(folder.path().join("1_Pooling/config.json"), "{}").unwrap();
            if modules {
                std::fs::write(folder.path().join("modules.json"), "[]").unwrap();
            }
            let bare = ModelFolder::open("m".into(), "1".into(), folder.path()).unwrap();
            assert_eq!(bare.manifest.kind, kind, "{config}");
            assert!(bare.has("1_Pooling/config.json"));
            bare.verify().unwrap();
        }
    }

    #[test]
    fn a_tokenizer_without_a_manifest_is_a_folder_of_its_own_kind() {
        for file in ["tokenizer.json", "tokenizer.model", "cl100k_base.tiktoken"] {
            let folder = tempfile::tempdir().unwrap();
            assert!(!is_model_folder(folder.path()));
            std::fs::write(folder.path().join(file), "{}").unwrap();
            assert!(is_model_folder(folder.path()));
            let bare = ModelFolder::open("m".into(), "1".into(), folder.path()).unwrap();
            assert_eq!((bare.manifest.kind.as_str(), bare.files().collect::<Vec<_>>()), (TOKENIZER_KIND, vec![file]));
            assert!(bare.tokenizer_section::<toml::Table>().unwrap().is_empty());
        }
    }

    #[test]
    fn every_kind_may_say_more_of_its_tokenizer() {
        let (_folder, opened) = open(&GOOD.replace("[sha256]", "[tokenizer]\npattern = \"x\"\n[sha256]"));
        assert_eq!(opened.unwrap().tokenizer_section::<toml::Table>().unwrap()["pattern"].as_str(), Some("x"));
    }

    #[test]
    fn a_manifest_that_is_too_long_or_has_settings_out_of_range_is_refused() {
        assert!(fault(&format!("{GOOD}#{}", "x".repeat(1 << 20))).contains("at most 1048576"));
        assert!(fault(&GOOD.replace("[sha256]", "[serving]\ninstances = 0\n[sha256]")).contains("serving.instances = 0"));
    }
}
