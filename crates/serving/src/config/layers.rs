use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use config::{File, FileFormat, Source, Value, ValueKind};

/// The prefix of environment variables: `QUINTET_SECTION__KEY`.
const PREFIX: &str = "QUINTET_";

/// A variable that other programs use for the same thing, and the key it feeds.
const FOREIGN: (&str, &str) = ("ORT_DYLIB_PATH", "runtime.library");

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Layers<'a> {
    /// The compiled-in defaults, as TOML; each names sections of its own.
    pub defaults: &'a [&'a str],
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// The process's environment.
    pub environment: Vec<(String, String)>,
    /// Flags, in order; the last one for a key wins.
    pub overrides: Vec<Override>,
}

/// A key set by a flag.
#[derive(Clone, Debug)]
pub struct Override {
    /// The key, such as `server.listen`.
    pub key: String,
    /// The value as written.
    pub value: String,
    /// The flag, for messages.
    pub flag: String,
}

/// The process's environment. Variables that are not UTF-8 are none of ours.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// A value with where it came from.
pub(super) type Settings = BTreeMap<String, (ValueKind, String)>;

/// The keys and values of a TOML text, flat.
pub(super) fn toml(text: &str, source: &str) -> Result<Settings, String> {
    let tables = File::from_str(text, FileFormat::Toml).collect().map_err(|error| format!("{source}: {error}"))?;
    let mut settings = Settings::new();
    tables.into_iter().for_each(|(key, value)| flatten(key, value, source, &mut settings));
    Ok(settings)
}

pub(super) fn file(path: &Path) -> Result<Settings, String> {
    let source = format!("file {}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| format!("{source}: {error}"))?;
    toml(&text, &source)
}

fn flatten(key: String, value: Value, source: &str, settings: &mut Settings) {
    match value.kind {
        ValueKind::Table(table) => table.into_iter().for_each(|(inner, value)| flatten(format!("{key}.{inner}"), value, source, settings)),
        kind => drop(settings.insert(key, (kind, source.to_owned()))),
    }
}

/// The settings among environment variables, as written.
pub(super) fn variables(environment: &[(String, String)], known: &Settings) -> Settings {
    let mut settings = Settings::new();
    let mut set = |key: String, name: &str, value: &str| {
        settings.insert(key, (ValueKind::String(value.to_owned()), format!("environment {name}")));
    };
    if let Some((name, value)) = environment.iter().find(|(name, value)| name == FOREIGN.0 && !value.is_empty())
        && known.contains_key(FOREIGN.1)
    {
        set(FOREIGN.1.to_owned(), name, value);
    }
    for (name, value) in environment {
        // Only names with a section are settings; QUINTET_ alone may be somebody else's.
        if let Some(key) = name.strip_prefix(PREFIX).filter(|key| key.contains("__")) {
            set(key.replace("__", ".").to_lowercase(), name, value);
        }
    }
    settings
}

/// The settings among flags, as written.
pub(super) fn flags(overrides: &[Override]) -> Settings {
    overrides.iter().map(|flag| (flag.key.clone(), (ValueKind::String(flag.value.clone()), format!("flag {}", flag.flag)))).collect()
}
