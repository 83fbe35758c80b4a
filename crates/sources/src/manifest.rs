//! What a model folder's `quintet.toml` says about its files.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::url::{hash, is_plain};

/// The name of the file that makes a folder a model folder.
pub(crate) const MANIFEST: &str = "quintet.toml";

/// The largest manifest.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// A model folder: what it is called, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    /// The model's name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// The manifest as it came.
    pub(crate) manifest: Vec<u8>,
    /// The SHA-256 of each file, in lower-case hexadecimal.
    pub(crate) files: BTreeMap<String, String>,
}

/// The one table that matters here.
#[derive(Deserialize)]
struct Listed {
    sha256: BTreeMap<String, String>,
}

impl Folder {
    /// Reads a manifest, or says what is wrong with it.
    pub(crate) fn parse(name: &str, version: &str, manifest: Vec<u8>) -> Result<Self, String> {
        let files = files(&manifest)?;
        Ok(Self { name: name.to_owned(), version: version.to_owned(), manifest, files })
    }
}

/// The SHA-256 of each file that a manifest lists.
pub(crate) fn files(manifest: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let text = std::str::from_utf8(manifest).map_err(|_| "it is not UTF-8".to_owned())?;
    let listed: Listed = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let mut files = BTreeMap::new();
    for (file, text) in listed.sha256 {
        if !is_plain(&file) || file == MANIFEST {
            return Err(format!("[sha256] names '{}', which is not a plain file name", file.escape_debug()));
        }
        let hash = hash(&text).ok_or_else(|| format!("[sha256] gives '{file}' a hash that is not 64 hexadecimal digits"))?;
        files.insert(file, hash);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(manifest: &str) -> String {
        files(manifest.as_bytes()).unwrap_err()
    }

    #[test]
    fn files_come_with_their_hashes() {
        let hash = "AB".repeat(32);
        let found = files(format!("schema = 1\n[sha256]\n\"a.onnx\" = \"{hash}\"").as_bytes()).unwrap();
        assert_eq!(found, BTreeMap::from([("a.onnx".to_owned(), "ab".repeat(32))]));
    }

    #[test]
    fn names_that_leave_or_hide_are_refused() {
        let hash = "ab".repeat(32);
        for name in ["../x", "a/b", "/etc/passwd", ".hidden", "..", "a\\\\b", "", "a\\u0000b", "quintet.toml"] {
            let fault = fault(&format!("[sha256]\n\"{name}\" = \"{hash}\""));
            assert!(fault.contains("not a plain file name"), "{name}: {fault}");
        }
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        assert!(fault("").contains("sha256"));
        assert!(fault("[sha256").contains("table"), "{}", fault("[sha256"));
        assert!(fault("[sha256]\na = \"xyz\"").contains("64 hexadecimal"));
        assert!(files(&[0xff]).unwrap_err().contains("UTF-8"));
    }
}
