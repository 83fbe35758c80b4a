//! API keys: kept as hashes, each with what it may do.
//!
//! A key is 32 random bytes, so one round of SHA-256 protects it: there is no dictionary to try, and slow password
//! hashes would only make every call slow.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// What every key begins with, so that it is recognised where it was pasted by accident.
const PREFIX: &str = "qk_";

/// What an API key may do. The key itself is known to its holder alone.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The tenant: whose calls share one budget. Appears in logs and errors.
    pub name: Arc<str>,
    /// "text" (a service), "text/Generate" (an rpc), "admin" (admin rpcs), "metrics", or "*" (everything but admin).
    pub scopes: Vec<String>,
    /// Its share of a full server, beside the weights of the others: above 0; default 1.
    #[serde(default = "one")]
    pub weight: f64,
    /// Most calls in progress.
    pub max_concurrent: Option<usize>,
    /// Most calls a second.
    pub requests_per_second: Option<f64>,
    /// The best priority that it may ask for: 1 (first) to 9; default 1.
    #[serde(default = "first")]
    pub priority: u8,
}

fn one() -> f64 {
    1.0
}

fn first() -> u8 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    sha256: String,
    #[serde(flatten)]
    key: toml::Table,
}

/// The keys by their hash.
#[derive(Debug, Default)]
pub(crate) struct Keys(HashMap<[u8; 32], Arc<Key>>);

impl Keys {
    /// Reads a key file: `[[key]]` tables of `name`, `sha256`, `scopes` and the rest.
    pub(crate) fn read(text: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
        let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let mut keys = HashMap::new();
        for (index, entry) in file.key.into_iter().enumerate() {
            let wrong = |reason: String| format!("key[{index}]: {reason}");
            let mut hash = [0; 32];
            hex::decode_to_slice(&entry.sha256, &mut hash).map_err(|_| wrong("sha256 must be 64 hexadecimal digits".to_owned()))?;
            let key: Key = entry.key.try_into().map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
            if key.name.is_empty() || !key.name.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(wrong(format!("name = {:?}: must be visible ASCII", key.name)));
            }
            if !(key.weight > 0.0 && key.weight <= 1e6) {
                return Err(wrong(format!("weight = {}: must be above 0 and at most 1000000", key.weight)));
            }
            if key.requests_per_second.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
                return Err(wrong("requests_per_second must be above 0".to_owned()));
            }
            if key.max_concurrent == Some(0) {
                return Err(wrong("max_concurrent = 0: must be at least 1".to_owned()));
            }
            if !(1..=9).contains(&key.priority) {
                return Err(wrong(format!("priority = {}: must be 1 to 9", key.priority)));
            }
            if let Some(scope) = key.scopes.iter().find(|scope| !is_scope(scope)) {
                return Err(wrong(format!("scope {scope:?} is not known: there are {}, each also as SERVICE/RPC, and \"*\"", SCOPES.join(", "))));
            }
            if keys.insert(hash, Arc::new(key)).is_some() {
                return Err(wrong("the same key twice".to_owned()));
            }
        }
        Ok(Self(keys))
    }

    /// The key that hashes to one of ours. What is compared are hashes, so the time it takes tells nothing of a key.
    pub(crate) fn find(&self, given: &str) -> Option<&Arc<Key>> {
        let hash: [u8; 32] = Sha256::digest(given).into();
        self.0.get(&hash)
    }
}

/// The words that scopes are made of.
const SCOPES: [&str; 8] = ["tokenization", "text", "image", "anomaly", "evaluation", "inference", "admin", "metrics"];

fn is_scope(scope: &str) -> bool {
    scope == "*" || SCOPES.contains(&scope.split_once('/').map_or(scope, |(service, _)| service))
}

impl Key {
    /// Whether it may call the method. `service` is its full name.
    pub(crate) fn allows(&self, service: &str, method: &str, is_admin: bool) -> bool {
        let short = short_name(service);
        self.scopes.iter().any(|scope| match scope.as_str() {
            "admin" => is_admin,
            "*" => !is_admin,
            scope => !is_admin && (scope == short || scope.split_once('/') == Some((short, method))),
        })
    }
}

/// "quintet.text.v1.TextService" is "text" in scopes, and the Open Inference Protocol's service "inference".
fn short_name(service: &str) -> &str {
    let mut parts = service.split('.');
    match parts.next() {
        Some("quintet") => parts.next().unwrap_or(service),
        Some(first) => first,
        None => service,
    }
}

/// A fresh key, and the table of a key file that lets it in.
pub fn fresh_key(name: &str, scopes: &[String]) -> (String, String) {
    let key = format!("{PREFIX}{}", hex::encode(rand::random::<[u8; 32]>()));
    let mut table = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(table, "[[key]]\nname = {name:?}\nsha256 = \"{}\"\nscopes = {scopes:?}", hex::encode(Sha256::digest(&key)));
    (key, table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_key_opens_what_its_table_says() {
        let (key, table) = fresh_key("team", &["text".to_owned(), "image/Generate".to_owned()]);
        assert!(!table.contains(&key));
        let keys = Keys::read(table.as_bytes()).unwrap();
        let found = keys.find(&key).unwrap();
        assert_eq!((&*found.name, found.weight, found.priority), ("team", 1.0, 1));
        assert!(found.allows("quintet.text.v1.TextService", "Generate", false));
        assert!(found.allows("quintet.image.v1.ImageService", "Generate", false));
        assert!(!found.allows("quintet.image.v1.ImageService", "Discriminate", false));
        assert!(!found.allows("quintet.text.v1.TextService", "Reload", true));
        assert!(keys.find("qk_0000").is_none() && keys.find("").is_none());
    }

    #[test]
    fn everything_is_not_admin() {
        let key = |scope: &str| Key {
            name: "k".into(),
            scopes: vec![scope.to_owned()],
            weight: 1.0,
            max_concurrent: None,
            requests_per_second: None,
            priority: 1,
        };
        let service = "inference.GRPCInferenceService";
        assert!(key("*").allows(service, "ModelInfer", false) && !key("*").allows(service, "RepositoryModelLoad", true));
        assert!(key("admin").allows(service, "RepositoryModelLoad", true) && !key("admin").allows(service, "ModelInfer", false));
        assert!(key("inference").allows(service, "ModelInfer", false));
    }

    #[test]
    fn faults_of_a_key_file_are_named() {
        let good = "[[key]]\nname = \"a\"\nsha256 = \"00\"\nscopes = []\n";
        for (text, reason) in [
            (good.to_owned(), "64 hexadecimal"),
            (good.replace("00", &"0".repeat(64)).replace("scopes = []", ""), "scopes"),
            (good.replace("00", &"0".repeat(64)).replace("scopes", "weight = 0.0\nscopes"), "weight = 0"),
            (good.replace("00", &"0".repeat(64)).replace("scopes", "scope = 1\nscopes"), "scope"),
            (good.replace("00", &"0".repeat(64)).replace("\"a\"", "\"\""), "visible"),
            (good.replace("00", &"0".repeat(64)).repeat(2), "twice"),
        ] {
            let fault = Keys::read(text.as_bytes()).unwrap_err();
            assert!(fault.contains(reason), "{fault}");
        }
    }
}
