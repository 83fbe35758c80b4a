//! Models on the Hugging Face Hub: where their files are, and which commit a revision is.
//!
//! The crate `hf-hub` is not used: it brings a second transfer engine and licences that `deny.toml` does not allow, reads
//! the process's environment, and keeps a cache of its own. Its part here is two addresses and one header.

use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use url::Url;

use crate::{Error, environment::Environment, fetch::small, patience::Patience, store::Store, url::redact};

/// The longest description of a model.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// A model on the Hub.
#[derive(Clone)]
pub(crate) struct Hub {
    endpoint: Url,
    model: String,
    revision: String,
    authorization: Option<String>,
    environment: Arc<Environment>,
}

/// What the Hub says about a revision.
#[derive(Deserialize)]
struct Revision {
    sha: String,
}

impl Hub {
    /// A model of the Hub at `HF_ENDPOINT`, asked for with `HF_TOKEN`.
    pub(crate) fn open(model: &str, revision: &str, environment: &Arc<Environment>) -> Result<Self, String> {
        let text = environment.first(&["HF_ENDPOINT"]).unwrap_or("https://huggingface.co");
        let endpoint = Url::parse(text.trim_end_matches('/')).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let endpoint = endpoint.ok_or_else(|| format!("HF_ENDPOINT = '{}' is no web address", redact(text)))?;
        let token = environment.first(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]);
        let authorization = token.map(|token| format!("Bearer {}", token.trim()));
        let hub = Self { endpoint, model: model.to_owned(), revision: revision.to_owned(), authorization, environment: environment.clone() };
        // That the address and the token can be used is found out now, not at the first request.
        hub.store("/resolve/main").map(|_| hub)
    }

    /// The folder of the commit that the revision is now: all files come from one commit, also while a branch moves.
    pub(crate) async fn resolve(&self, patience: &Patience) -> Result<Store, Error> {
        let is_commit = |text: &str| text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let unusable = |reason: String| Error::Unusable { url: format!("hf://{}", self.model), reason };
        let mut commit = self.revision.clone();
        if !is_commit(&commit) {
            let revision =
                utf8_percent_encode(&self.revision, NON_ALPHANUMERIC).to_string().replace("%2D", "-").replace("%2E", ".").replace("%5F", "_");
            let store = self.api(&revision).map_err(unusable)?;
            let answer = small(&store, "", MAX_ANSWER_BYTES, patience).await?;
            let revision = serde_json::from_slice::<Revision>(&answer).ok().filter(|revision| is_commit(&revision.sha));
            commit = revision.ok_or_else(|| Error::Unusable { url: store.shown(""), reason: "it names no commit".to_owned() })?.sha;
        }
        self.store(&format!("/resolve/{commit}")).map_err(unusable)
    }

    fn api(&self, revision: &str) -> Result<Store, String> {
        self.web(&format!("/api/models/{}/revision/{revision}", self.model))
    }

    fn store(&self, path: &str) -> Result<Store, String> {
        self.web(&format!("/{}{path}", self.model))
    }

    fn web(&self, path: &str) -> Result<Store, String> {
        let text = format!("{}{path}", self.endpoint.as_str().trim_end_matches('/'));
        let url = Url::parse(&text).map_err(|_| format!("'{}' is no web address", redact(&text)))?;
        Store::web(&url, self.authorization.as_deref(), &self.environment)
    }
}
