use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use config::{Config, ValueKind};
use serde::de::DeserializeOwned;

use super::{
    ConfigError, Validate,
    layers::{self, Layers, Settings},
};

/// A configuration, and where each of its values came from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The configuration.
    pub value: T,
    /// Each key with its value and its source, as text.
    pub sources: BTreeMap<String, (String, String)>,
}

impl<T> Loaded<T> {
    /// The configuration as TOML, with the source of each value beside it.
    pub fn print(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for (key, (value, source)) in &self.sources {
            let (of, name) = key.rsplit_once('.').unwrap_or(("", key));
            if of != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{gap}[{of}]");
                section = of;
            }
            let _ = writeln!(text, "{name} = {value}  # {source}");
        }
        text
    }
}

/// Loads a configuration, or says everything that is wrong with it.
pub fn load<T: DeserializeOwned + Validate>(layers: &Layers<'_>) -> Result<Loaded<T>, ConfigError> {
    let mut faults = Vec::new();
    let mut settings = Settings::new();
    for defaults in layers.defaults {
        match layers::toml(defaults, "default") {
            Ok(found) => settings.extend(found),
            Err(fault) => faults.push(fault),
        }
    }
    let known = settings.clone();

    let mut given = Vec::new();
    if let Some(path) = &layers.file {
        layers::file(path).map_or_else(|fault| faults.push(fault), |found| given.push((found, Spelling::Toml)));
    }
    given.push((layers::variables(&layers.environment, &known), Spelling::Text));
    given.push((layers::flags(&layers.overrides), Spelling::Text));
    let given = given.into_iter().flat_map(|(settings, spelling)| settings.into_iter().map(move |setting| (setting, spelling)));
    for ((key, (value, source)), spelling) in given {
        match known.get(&key) {
            None => faults.push(format!("{source}: unknown key '{key}'{}", suggestion(&key, &known))),
            Some((like, _)) => match convert(value, like, spelling) {
                Ok(value) => drop(settings.insert(key, (value, source))),
                Err(fault) => faults.push(format!("{source}: {key} = {fault}")),
            },
        }
    }
    // A value that does not make sense is noted and its default taken, so that the next one is found too.
    let value: T = loop {
        match deserialize(&settings) {
            Ok(value) => break value,
            Err(message) => {
                let culprit =
                    settings.iter().find(|(key, _)| message.contains(&format!("`{key}`"))).map(|(key, (_, source))| (key.clone(), source.clone()));
                let default = culprit.as_ref().and_then(|(key, _)| known.get(key));
                match (culprit, default) {
                    (Some((key, source)), Some(default)) if source != default.1 => {
                        faults.push(format!("{source}: {message}"));
                        settings.insert(key, default.clone());
                    }
                    _ => {
                        faults.push(message);
                        return Err(ConfigError(faults));
                    }
                }
            }
        }
    };
    faults.extend(value.validate().into_iter().map(|fault| {
        let source = fault.split_once(" = ").and_then(|(key, _)| settings.get(key)).map(|(_, source)| source);
        source.map_or_else(|| fault.clone(), |source| format!("{source}: {fault}"))
    }));
    if !faults.is_empty() {
        return Err(ConfigError(faults));
    }
    let sources = settings.into_iter().map(|(key, (value, source))| (key, (spell(&value), source))).collect();
    Ok(Loaded { value, sources })
}

/// How a value was written.
#[derive(Clone, Copy, PartialEq)]
enum Spelling {
    /// In TOML, with a type of its own.
    Toml,
    /// As text, whose type is the default's.
    Text,
}

fn deserialize<T: DeserializeOwned>(settings: &Settings) -> Result<T, String> {
    let mut builder = Config::builder();
    for (key, (value, _)) in settings {
        builder = builder.set_override(key, value.clone()).map_err(|error| error.to_string())?;
    }
    builder.build().and_then(Config::try_deserialize).map_err(|error| error.to_string())
}

/// A value in the type of the default.
fn convert(value: ValueKind, like: &ValueKind, spelling: Spelling) -> Result<ValueKind, String> {
    let expected = |given: &ValueKind, what: &str| Err(format!("{}: must be {what}", spell(given)));
    match (like, value) {
        (ValueKind::Boolean(_), ValueKind::String(text)) if spelling == Spelling::Text => match text.parse() {
            Ok(value) => Ok(ValueKind::Boolean(value)),
            Err(_) => expected(&ValueKind::String(text), "true or false"),
        },
        (ValueKind::Boolean(_), value @ ValueKind::Boolean(_))
        | (ValueKind::String(_), value @ ValueKind::String(_))
        | (ValueKind::I64(_), value @ (ValueKind::I64(_) | ValueKind::U64(_)))
        | (ValueKind::Float(_), value @ (ValueKind::Float(_) | ValueKind::I64(_)))
        | (ValueKind::Array(_), value @ ValueKind::Array(_)) => Ok(value),
        (ValueKind::I64(_), ValueKind::String(text)) if spelling == Spelling::Text => match text.parse() {
            Ok(value) => Ok(ValueKind::I64(value)),
            Err(_) => expected(&ValueKind::String(text), "a whole number"),
        },
        (ValueKind::Float(_), ValueKind::String(text)) if spelling == Spelling::Text => match text.parse() {
            Ok(value) => Ok(ValueKind::Float(value)),
            Err(_) => expected(&ValueKind::String(text), "a number"),
        },
        (ValueKind::Array(_), ValueKind::String(text)) if spelling == Spelling::Text => {
            Ok(ValueKind::Array(text.split(',').filter(|item| !item.is_empty()).map(|item| item.trim().to_owned().into()).collect()))
        }
        (ValueKind::Boolean(_), value) => expected(&value, "true or false"),
        (ValueKind::String(_), value) => expected(&value, "a text"),
        (ValueKind::I64(_), value) => expected(&value, "a whole number"),
        (ValueKind::Float(_), value) => expected(&value, "a number"),
        (ValueKind::Array(_), value) => expected(&value, "a list"),
        (_, value) => Ok(value),
    }
}

fn spell(value: &ValueKind) -> String {
    match value {
        ValueKind::String(text) => format!("{:?}", without_password(text)),
        ValueKind::Array(items) => format!("[{}]", items.iter().map(|item| spell(&item.kind)).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// The text, and in place of the password of a URL "…".
fn without_password(text: &str) -> Cow<'_, str> {
    let hidden = || {
        let (scheme, rest) = text.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (who, host) = authority.rsplit_once('@')?;
        let (user, _) = who.split_once(':')?;
        Some(format!("{scheme}://{user}:…@{host}{path}"))
    };
    hidden().map_or(Cow::Borrowed(text), Cow::Owned)
}

fn suggestion(key: &str, known: &Settings) -> String {
    known
        .keys()
        .map(|candidate| (strsim::damerau_levenshtein(key, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= key.len() / 3)
        .map_or_else(String::new, |(_, candidate)| format!("; did you mean '{candidate}'?"))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::config::{Override, SERVER_DEFAULTS, ServerConfig};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        server: ServerConfig,
        #[expect(dead_code, reason = "read to see that it can be")]
        peers: crate::config::PeersConfig,
        runtime: Runtime,
    }

    #[derive(Debug, Deserialize)]
    struct Runtime {
        library: String,
    }

    impl Validate for Example {
        fn validate(&self) -> Vec<String> {
            self.server.validate()
        }
    }

    fn layers(file: Option<&str>, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> (Option<tempfile::NamedTempFile>, Layers<'static>) {
        let file = file.map(|text| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            file
        });
        let layers = Layers {
            defaults: &[SERVER_DEFAULTS, "[runtime]\nlibrary = \"\"\n"],
            file: file.as_ref().map(|file| file.path().to_owned()),
            environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            overrides: flags.iter().map(|(key, value)| Override { key: (*key).into(), value: (*value).into(), flag: "--set".into() }).collect(),
        };
        (file, layers)
    }

    #[test]
    fn the_defaults_load() {
        let (_file, layers) = layers(None, &[], &[]);
        let loaded: Loaded<Example> = load(&layers).unwrap();
        assert_eq!(loaded.value.server.listen.port(), 50051);
        assert!(loaded.sources.values().all(|(_, source)| source == "default"));
    }

    #[test]
    fn each_layer_goes_over_the_one_before() {
        let text = "[server]\ndrain_seconds = 1\nmax_concurrent_requests = 1\nlog = \"warn\"\n";
        let environment = [("QUINTET_SERVER__DRAIN_SECONDS", "2"), ("QUINTET_SERVER__MAX_CONCURRENT_REQUESTS", "2"), ("HOME", "/")];
        let (_file, layers) = layers(Some(text), &environment, &[("server.drain_seconds", "3")]);
        let loaded: Loaded<Example> = load(&layers).unwrap();
        let server = &loaded.value.server;
        assert_eq!((server.drain_seconds, server.max_concurrent_requests, server.log.as_str()), (3, 2, "warn"));
        let print = loaded.print();
        assert!(print.contains("drain_seconds = 3  # flag --set"), "{print}");
        assert!(print.contains("max_concurrent_requests = 2  # environment QUINTET_SERVER__MAX_CONCURRENT_REQUESTS"), "{print}");
        assert!(print.contains("max_request_bytes = 16777216  # default"), "{print}");
    }

    #[test]
    fn the_password_of_a_url_is_not_printed() {
        for url in ["postgres://q:hunter22@db/jobs?sslmode=require", "https://q:hunt@er22@host"] {
            let (_file, layers) = layers(None, &[("QUINTET_RUNTIME__LIBRARY", url)], &[]);
            let loaded: Loaded<Example> = load(&layers).unwrap();
            assert_eq!(loaded.value.runtime.library, url);
            let print = loaded.print();
            assert!(print.contains("://q:…@") && !print.contains("er22"), "{print}");
        }
        for plain in ["https://host:5/a:b@c", "a:b@c", "https://q@host"] {
            assert_eq!(without_password(plain), plain);
        }
    }

    #[test]
    fn the_librarys_usual_variable_is_understood() {
        let (_file, both) = layers(None, &[("ORT_DYLIB_PATH", "/a"), ("QUINTET_RUNTIME__LIBRARY", "/b")], &[]);
        assert_eq!(load::<Example>(&both).unwrap().value.runtime.library, "/b");
        let (_file, one) = layers(None, &[("ORT_DYLIB_PATH", "/a")], &[]);
        assert_eq!(load::<Example>(&one).unwrap().value.runtime.library, "/a");
    }

    #[test]
    fn every_fault_is_reported_at_once_with_its_source() {
        let text = "[server]\ndrain_secs = 1\nmax_request_bytes = \"16\"\n[sever]\nx = 1\n";
        let environment = [("QUINTET_SERVER__LOG", "info,=,"), ("QUINTET_SERVER__DRAIN_SECONDS", "soon"), ("QUINTET_SERVER__LISTEN", "nowhere")];
        let (_file, layers) = layers(Some(text), &environment, &[("nothing", "1"), ("server.auth.admin", "maybe"), ("server.max_connections", "0")]);
        let ConfigError(faults) = load::<Example>(&layers).unwrap_err();
        assert_eq!(faults.len(), 9, "{faults:#?}");
        assert!(faults.iter().any(|fault| fault.starts_with("environment QUINTET_SERVER__LISTEN")), "{faults:#?}");
        assert!(faults.iter().any(|fault| fault.starts_with("environment QUINTET_SERVER__LOG")), "{faults:#?}");
        assert!(faults.iter().any(|fault| fault.starts_with("flag --set: server.max_connections = 0")), "{faults:#?}");
        assert!(faults.iter().any(|fault| fault.contains("maybe")), "{faults:#?}");
        assert!(faults[0].contains("unknown key 'server.drain_secs'; did you mean 'server.drain_seconds'?"), "{faults:#?}");
        assert!(faults.iter().any(|fault| fault.contains("max_request_bytes = \"16\": must be a whole number")));
        assert!(faults.iter().any(|fault| fault.starts_with("environment QUINTET_SERVER__DRAIN_SECONDS")));
        assert!(faults.iter().any(|fault| fault.starts_with("flag --set: unknown key 'nothing'")));
    }

    #[test]
    fn values_out_of_range_name_their_limit_and_source() {
        let (_file, zero) = layers(None, &[], &[("server.max_concurrent_requests", "0")]);
        let ConfigError(faults) = load::<Example>(&zero).unwrap_err();
        assert_eq!(faults, ["flag --set: server.max_concurrent_requests = 0: must be at least 1"]);
        let (_file, address) = layers(None, &[("QUINTET_SERVER__LISTEN", "nowhere")], &[]);
        let ConfigError(faults) = load::<Example>(&address).unwrap_err();
        assert!(faults[0].contains("server.listen") || faults[0].contains("socket address"), "{faults:?}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let layers = Layers { file: Some("/nowhere/quintet.toml".into()), defaults: &[SERVER_DEFAULTS], ..Layers::default() };
        let ConfigError(faults) = load::<Example>(&layers).unwrap_err();
        assert!(faults[0].contains("/nowhere/quintet.toml"), "{faults:?}");
    }
}
