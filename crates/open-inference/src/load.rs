//! What a client may say of a model that it loads: settings in the form of Triton's model configuration, and files.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use quintet_onnx::{ServingSettings, VersionPolicy};
use quintet_proto::inference::{ModelRepositoryParameter, model_repository_parameter::ParameterChoice as Choice};
use serde_json::Value;
use tempfile::TempDir;

use crate::Error;

/// What the parameters of a load say.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    pub(crate) settings: ServingSettings,
    /// The files handed over, written to a folder of the model's versions.
    pub(crate) files: Option<TempDir>,
}

/// Keys of a configuration that ask for what graphs here cannot do.
const UNSUPPORTED: [&str; 5] = ["sequence_batching", "ensemble_scheduling", "model_operations", "batch_input", "batch_output"];

impl Wish {
    /// Reads the parameters, and writes the files among them below `folder`.
    pub(crate) fn of(parameters: HashMap<String, ModelRepositoryParameter>, folder: &Path) -> Result<Self, Error> {
        let mut config = None;
        let mut files = Vec::new();
        for (name, parameter) in parameters {
            match (name.strip_prefix("file:"), parameter.parameter_choice) {
                (Some(path), Some(Choice::BytesParam(bytes))) => files.push((plain(&name, path)?, bytes)),
                (None, Some(Choice::StringParam(text))) if name == "config" => config = Some(settings(&text)?),
                (..) => {
                    let description = "not known: \"config\" (a text) and \"file:VERSION/NAME\" (bytes) are";
                    return Err(Error::invalid(format!("parameters[{name}]"), description));
                }
            }
        }
        if files.is_empty() {
            return Ok(Self { settings: config.unwrap_or_default(), files: None });
        }
        let Some(settings) = config else {
            return Err(Error::invalid("parameters[config]", "missing: files come with a configuration, \"{}\" at least"));
        };
        std::fs::create_dir_all(folder)?;
        let kept = TempDir::with_prefix_in("upload-", folder)?;
        for (path, bytes) in files {
            let path = kept.path().join(path);
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(path, bytes)?;
        }
        Ok(Self { settings, files: Some(kept) })
    }
}

/// "VERSION/NAME" as a path, which leads nowhere else.
fn plain(parameter: &str, path: &str) -> Result<PathBuf, Error> {
    let wrong = || Error::invalid(format!("parameters[{parameter}]"), "must be \"file:VERSION/NAME\", a number and a plain file name");
    let (version, name) = path.split_once('/').ok_or_else(wrong)?;
    let is_version = !version.is_empty() && version.len() <= 18 && version.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    if is_version && is_name { Ok(Path::new(version).join(name)) } else { Err(wrong()) }
}

/// The settings that a configuration's JSON holds. What describes the graph itself is not read: the graph says it.
fn settings(text: &str) -> Result<ServingSettings, Error> {
    let wrong = |key: &str, description: String| Error::invalid(format!("parameters[config].{key}"), description);
    let config: Value = serde_json::from_str(text).map_err(|error| Error::invalid("parameters[config]", error.to_string()))?;
    let Value::Object(config) = config else { return Err(Error::invalid("parameters[config]", "must be an object")) };
    if let Some(key) = UNSUPPORTED.iter().find(|key| config.get(**key).is_some_and(|value| !value.is_null() && value != &Value::Array(Vec::new()))) {
        return Err(wrong(key, "not supported: graphs keep no state, and pipelines are the callers'".to_owned()));
    }
    // JSON has 64-bit numbers as texts.
    let number = |key: &str, value: &Value| -> Result<usize, Error> {
        let read = match value {
            Value::String(text) => text.parse().ok(),
            value => value.as_u64().and_then(|value| usize::try_from(value).ok()),
        };
        read.ok_or_else(|| wrong(key, format!("{value}: must be a whole number from 0")))
    };
    let mut settings = ServingSettings::default();
    if let Some(backend) = config.get("backend").or_else(|| config.get("platform")).and_then(Value::as_str)
        && !["", "onnxruntime", "onnxruntime_onnx"].contains(&backend)
    {
        return Err(wrong("backend", format!("{backend:?}: graphs run on \"onnxruntime\"")));
    }
    if let Some(rows) = config.get("max_batch_size") {
        // 0 says that the model does not batch.
        settings.max_batch_rows = Some(number("max_batch_size", rows)?.max(1));
    }
    if let Some(batching) = config.get("dynamic_batching") {
        for rows in batching.get("preferred_batch_size").and_then(Value::as_array).into_iter().flatten() {
            settings.preferred_batch_rows.push(number("dynamic_batching.preferred_batch_size", rows)?);
        }
        settings.preferred_batch_rows.sort_unstable();
        if let Some(delay) = batching.get("max_queue_delay_microseconds") {
            settings.max_delay_ms = Some(number("dynamic_batching.max_queue_delay_microseconds", delay)? as f64 / 1e3);
        }
        if let Some(size) = batching.get("default_queue_policy").and_then(|policy| policy.get("max_queue_size")) {
            settings.max_queue_rows = Some(number("dynamic_batching.default_queue_policy.max_queue_size", size)?).filter(|size| *size > 0);
        }
    }
    let groups = config.get("instance_group").and_then(Value::as_array).into_iter().flatten();
    let mut count = 0;
    for group in groups {
        count += group.get("count").map_or(Ok(1), |count| number("instance_group.count", count))?;
        if group.get("kind").and_then(Value::as_str) == Some("KIND_GPU") {
            settings.provider = Some(quintet_onnx::Provider::Cuda { device: 0 });
        }
    }
    settings.instances = (count > 0).then_some(count);
    if let Some(policy) = config.get("version_policy") {
        settings.versions = version_policy(policy, number)?;
    }
    match settings.validate().into_iter().next() {
        Some(fault) => Err(Error::invalid("parameters[config]", fault)),
        None => Ok(settings),
    }
}

fn version_policy(policy: &Value, number: impl Fn(&str, &Value) -> Result<usize, Error>) -> Result<Option<VersionPolicy>, Error> {
    if policy.get("all").is_some() {
        return Ok(Some(VersionPolicy::All));
    }
    if let Some(latest) = policy.get("latest") {
        let count = latest.get("num_versions").map_or(Ok(1), |count| number("version_policy.latest.num_versions", count))?;
        return Ok(Some(VersionPolicy::Latest(count.max(1))));
    }
    if let Some(versions) = policy.get("specific").and_then(|specific| specific.get("versions")).and_then(Value::as_array) {
        let listed: Result<Vec<String>, Error> =
            versions.iter().map(|version| number("version_policy.specific.versions", version).map(|version| version.to_string())).collect();
        return Ok(Some(VersionPolicy::Listed(listed?)));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(choice: Choice) -> ModelRepositoryParameter {
        ModelRepositoryParameter { parameter_choice: Some(choice) }
    }

    fn bytes(text: &'static str) -> ModelRepositoryParameter {
        parameter(Choice::BytesParam(bytes::Bytes::from_static(text.as_bytes())))
    }

    #[test]
    fn a_configuration_becomes_settings() {
        let text = r#"{"name": "m", "backend": "onnxruntime", "max_batch_size": 8, "input": [],
            "dynamic_batching": {"preferred_batch_size": [8, 4], "max_queue_delay_microseconds": "1500"},
            "instance_group": [{"count": 2, "kind": "KIND_CPU"}, {"kind": "KIND_CPU"}],
            "version_policy": {"specific": {"versions": ["1", 3]}}}"#;
        let settings = settings(text).unwrap();
        assert_eq!((settings.max_batch_rows, settings.instances, settings.max_delay_ms), (Some(8), Some(3), Some(1.5)));
        assert_eq!(settings.preferred_batch_rows, [4, 8]);
        assert_eq!(settings.versions, Some(VersionPolicy::Listed(vec!["1".into(), "3".into()])));
        for wrong in [
            "",
            "[]",
            r#"{"backend": "tensorflow"}"#,
            r#"{"max_batch_size": -1}"#,
            r#"{"sequence_batching": {}}"#,
            r#"{"instance_group": [{"count": 99}]}"#,
        ] {
            assert!(super::settings(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_are_written_where_they_belong_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let config = || ("config".to_owned(), parameter(Choice::StringParam("{}".into())));
        let wish = Wish::of(HashMap::from([config(), ("file:3/model.onnx".to_owned(), bytes("graph"))]), folder.path()).unwrap();
        let kept = wish.files.unwrap();
        assert_eq!(std::fs::read_to_string(kept.path().join("3/model.onnx")).unwrap(), "graph");
        for path in ["../x", "1/../../x", "1/a/b", "x/model.onnx", "/1/x", "1/", "1", "1/.x", "1/a\\b"] {
            let wish = Wish::of(HashMap::from([config(), (format!("file:{path}"), bytes("x"))]), folder.path());
            assert!(wish.is_err(), "{path}");
        }
        assert!(Wish::of(HashMap::from([("file:1/model.onnx".to_owned(), bytes("x"))]), folder.path()).is_err(), "needs a configuration");
        assert!(Wish::of(HashMap::from([("other".to_owned(), bytes("x"))]), folder.path()).is_err());
    }
}
