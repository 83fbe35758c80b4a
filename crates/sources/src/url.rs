//! What a source's URL says, and how it is shown.

use percent_encoding::percent_decode_str;
use url::Url;

/// Schemes whose part before the '@' names a container, not a user.
const CONTAINERS: [&str; 5] = ["az", "adl", "azure", "abfs", "abfss"];

/// A source's URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceUrl {
    /// Where it is.
    pub(crate) address: Address,
    /// The URL as it may be shown.
    pub(crate) shown: String,
    /// The manifest's own SHA-256, in lower-case hexadecimal.
    pub(crate) pin: Option<String>,
    /// The model's name and version, if it is one model folder. None where its path names none.
    pub(crate) folder: Option<(String, String)>,
}

/// Where a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// In a store.
    Store {
        /// Its URL, without user, password and what follows the path.
        url: Url,
        /// User and password of a plain HTTP server.
        user: Option<(String, String)>,
    },
    /// On the Hugging Face Hub.
    Hub {
        /// "ORG/MODEL".
        model: String,
        /// A branch, a tag or a commit.
        revision: String,
    },
}

impl SourceUrl {
    /// Takes a URL apart, or says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let shown = redact(text);
        Self::parse_shown(text, shown.clone()).map_err(|reason| format!("'{shown}': {reason}"))
    }

    fn parse_shown(text: &str, shown: String) -> Result<Self, String> {
        let (whole, fragment) = text.split_once('#').map_or((text, None), |(whole, fragment)| (whole, Some(fragment)));
        let pin = fragment.map(pin).transpose()?;
        if whole.contains('?') {
            return Err("a query is not used: credentials come from the environment (AWS_…, GOOGLE_…, AZURE_…, HF_TOKEN)".to_owned());
        }
        if let Some(rest) = whole.strip_prefix("hf://") {
            let (model, revision) = hub(rest)?;
            let name = model.rsplit('/').next().unwrap_or_default().to_lowercase();
            return Ok(Self { address: Address::Hub { model, revision }, shown, pin, folder: Some((name, "1".to_owned())) });
        }
        let mut url = Url::parse(whole).map_err(|_| "it is no URL: write file:///…, s3://…, gs://…, az://…, https://… or hf://…".to_owned())?;
        if url.cannot_be_a_base() {
            return Err("it has no '//' after its scheme".to_owned());
        }
        let mut user = None;
        if CONTAINERS.contains(&url.scheme()) {
            if url.password().is_some() {
                return Err("a password is not used: credentials come from the environment (AZURE_…)".to_owned());
            }
        } else if !url.username().is_empty() || url.password().is_some() {
            if !matches!(url.scheme(), "http" | "https") {
                return Err("user and password are not used: credentials come from the environment".to_owned());
            }
            let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
            user = Some((decoded(url.username()), decoded(url.password().unwrap_or_default())));
            // Neither can fail: a URL with a host can have a user.
            let _ = url.set_username("");
            let _ = url.set_password(None);
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        let folder = folder(&url)?;
        Ok(Self { address: Address::Store { url, user }, shown, pin, folder })
    }
}

/// The name and version of the model folder at a URL.
fn folder(url: &Url) -> Result<Option<(String, String)>, String> {
    let mut parts = Vec::new();
    // A bucket may itself be a model folder; a server or a disk is none.
    if !matches!(url.scheme(), "file" | "http" | "https") {
        parts.extend(url.host_str().map(ToOwned::to_owned));
    }
    for part in url.path().split('/').filter(|part| !part.is_empty()) {
        let part = percent_decode_str(part).decode_utf8().map_err(|_| "its path is not UTF-8".to_owned())?;
        parts.push(part.into_owned());
    }
    let Some(last) = parts.pop() else { return Ok(None) };
    let (name, version) = if last.bytes().all(|byte| byte.is_ascii_digit()) {
        let Some(name) = parts.pop() else { return Ok(None) };
        (name, last)
    } else {
        (last, "1".to_owned())
    };
    // It may still be a repository.
    Ok(is_plain(&name).then_some((name, version)))
}

/// The hash of "sha256=HEX".
fn pin(fragment: &str) -> Result<String, String> {
    let hash = fragment.strip_prefix("sha256=").and_then(hash);
    hash.ok_or_else(|| "what follows '#' must be sha256= and 64 hexadecimal digits, the hash of quintet.toml".to_owned())
}

/// A SHA-256 in lower-case hexadecimal, if it is one.
pub(crate) fn hash(text: &str) -> Option<String> {
    (text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| text.to_ascii_lowercase())
}

/// "ORG/MODEL" and the revision of "ORG/MODEL@REVISION".
fn hub(rest: &str) -> Result<(String, String), String> {
    let (model, revision) = rest.split_once('@').unwrap_or((rest, "main"));
    let model = model.trim_end_matches('/');
    let is_word = |word: &str, more: &str| {
        !word.is_empty() && !word.starts_with('.') && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c) || more.contains(c))
    };
    match model.split_once('/') {
        Some((organisation, name)) if is_word(organisation, "") && is_word(name, "") => {}
        _ => return Err("write hf://ORG/MODEL or hf://ORG/MODEL@REVISION".to_owned()),
    }
    if !revision.split('/').all(|part| is_word(part, "+")) || revision.len() > 255 {
        return Err("what follows '@' must be a branch, a tag or a commit".to_owned());
    }
    Ok((model.to_owned(), revision.to_owned()))
}

/// Whether a name is one path component that neither hides nor leaves its folder.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && name.len() <= 255 && !name.contains(['/', '\\']) && !name.contains(char::is_control)
}

/// A URL without user, password, query and fragment: as it may be shown.
pub(crate) fn redact(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let authority = match authority.rsplit_once('@') {
        Some((user, _)) if scheme.is_some_and(|scheme| CONTAINERS.contains(&scheme)) && !user.contains(':') => authority,
        Some((_, host)) => host,
        None => authority,
    };
    // A name in one word, such as hf://model@revision, is taken for a host; that it is wrong is said anyway.
    scheme.map_or_else(|| format!("{authority}{path}"), |scheme| format!("{scheme}://{authority}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_of(text: &str) -> String {
        SourceUrl::parse(text).unwrap().folder.map_or_else(String::new, |(name, version)| format!("{name} {version}"))
    }

    #[test]
    fn a_url_names_a_model_and_a_version() {
        assert_eq!(folder_of("s3://bucket/a/gpt/12"), "gpt 12");
        assert_eq!(folder_of("s3://bucket/a/gpt/"), "gpt 1");
        assert_eq!(folder_of("s3://bucket"), "bucket 1");
        assert_eq!(folder_of("gs://bucket/3"), "bucket 3");
        assert_eq!(folder_of("file:///models/a%20b"), "a b 1");
        assert_eq!(folder_of("https://host/"), "");
        assert_eq!(folder_of("https://host/7"), "");
        assert_eq!(folder_of("hf://Org/My-Model"), "my-model 1");
        assert_eq!(folder_of("az://container@account/gan/2"), "gan 2");
    }

    #[test]
    fn a_hub_url_has_a_revision() {
        let parsed = SourceUrl::parse("hf://Org/Model@refs/pr/1").unwrap();
        assert_eq!(parsed.address, Address::Hub { model: "Org/Model".into(), revision: "refs/pr/1".into() });
        let parsed = SourceUrl::parse("hf://Org/Model").unwrap();
        assert_eq!(parsed.address, Address::Hub { model: "Org/Model".into(), revision: "main".into() });
        for wrong in ["hf://model", "hf://a/b/c", "hf://../b", "hf://a/b@", "hf://a/b@x/../y", "hf://a/b%2f@x"] {
            assert!(SourceUrl::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_fragment_pins_the_manifest() {
        let hash = "AB".repeat(32);
        assert_eq!(SourceUrl::parse(&format!("s3://b/m#sha256={hash}")).unwrap().pin, Some("ab".repeat(32)));
        for wrong in ["s3://b/m#sha256=12", "s3://b/m#md5=12", "hf://a/b#x"] {
            assert!(SourceUrl::parse(wrong).unwrap_err().contains("64 hexadecimal"), "{wrong}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(redact("https://user:secret@host:1/path?sig=secret#secret"), "https://host:1/path");
        assert_eq!(redact("https://secret@host/a@b"), "https://host/a@b");
        assert_eq!(redact("az://container@account/a"), "az://container@account/a");
        assert_eq!(redact("az://user:secret@account/a"), "az://account/a");
        assert_eq!(redact("user:secret@host/path"), "host/path");
        assert_eq!(redact("hf://org/model@main"), "hf://org/model@main");
        for wrong in ["https://host/m?sig=secret", "s3://user:secret@bucket/m", "nonsense:secret@x", "az://a:secret@b/c"] {
            let fault = SourceUrl::parse(wrong).unwrap_err();
            assert!(!fault.contains("secret"), "{fault}");
        }
        let parsed = SourceUrl::parse("http://me:pass%20word@host/m").unwrap();
        let Address::Store { url, user } = parsed.address else { panic!("a store") };
        assert_eq!((url.as_str(), user), ("http://host/m", Some(("me".into(), "pass word".into()))));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for wrong in ["models", "/models", "mailto:me", "https://host/%ff"] {
            assert!(SourceUrl::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(folder_of("https://host/a%2Fb"), "");
        assert_eq!(folder_of("s3://bucket/.hidden/2"), "");
        assert_eq!(folder_of("https://host/a/../../etc"), "etc 1", "a URL cannot climb above its host");
    }
}
