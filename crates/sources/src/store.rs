//! A folder in a store, whatever the store.

use std::sync::Arc;

use base64::Engine;
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use object_store::{
    ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreScheme, RetryConfig, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder, http::HttpBuilder, local::LocalFileSystem, path::Path,
};
use url::Url;

use crate::{connector::Connector, environment::Environment, fault::Fault, url::redact};

/// The most folders that a folder may list.
const MAX_ENTRIES: usize = 100_000;

/// A folder in a store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    objects: Arc<dyn ObjectStore>,
    environment: Arc<Environment>,
    /// The folder within `objects`, without slashes at its ends.
    base: String,
    /// Its URL as it may be shown.
    shown: String,
    /// Whether it can say what it holds.
    pub(crate) lists: bool,
}

/// What a store gives.
pub(crate) struct Answer {
    /// The bytes, from where they were asked for.
    pub(crate) stream: BoxStream<'static, Result<bytes::Bytes, Fault>>,
    /// The length of the whole.
    pub(crate) total: u64,
}

impl Store {
    /// Opens the store of a URL. Nothing is asked of it yet.
    pub(crate) fn open(url: &Url, user: Option<&(String, String)>, environment: &Arc<Environment>) -> Result<Self, String> {
        let (scheme, path) =
            ObjectStoreScheme::parse(url).map_err(|_| "no store is known for it: write file:///…, s3://…, gs://…, az://… or https://…")?;
        // An endpoint of one's own decides whether TLS and which proxy are used.
        let over = |endpoint: &[&str]| match environment.first(endpoint) {
            Some(endpoint) if endpoint.starts_with("http://") => "http",
            _ => "https",
        };
        let wrong = |error: object_store::Error| match Fault::of(&error, environment) {
            Fault::Odd(reason) | Fault::Lost(reason) => reason,
            other => format!("{other:?}"),
        };
        macro_rules! opened {
            ($builder:ty, $prefix:literal, $client:expr) => {{
                let mut builder = <$builder>::new().with_url(url.as_str()).with_client_options($client).with_retry(no_retries());
                builder = builder.with_http_connector(Connector::default());
                for (key, value) in environment.with_prefix($prefix) {
                    if let Ok(key) = key.parse() {
                        builder = builder.with_config(key, value);
                    }
                }
                Arc::new(builder.build().map_err(wrong)?) as Arc<dyn ObjectStore>
            }};
        }
        let objects = match scheme {
            ObjectStoreScheme::Local => Arc::new(LocalFileSystem::new()) as Arc<dyn ObjectStore>,
            // TLS or not is for AWS_ALLOW_HTTP to say, as everywhere else.
            ObjectStoreScheme::AmazonS3 => {
                let client = environment.client(over(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"])).with_allow_http(false);
                opened!(AmazonS3Builder, "AWS_", client)
            }
            ObjectStoreScheme::GoogleCloudStorage => opened!(GoogleCloudStorageBuilder, "GOOGLE_", environment.client("https")),
            ObjectStoreScheme::MicrosoftAzure => {
                let client = environment.client(over(&["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"])).with_allow_http(false);
                opened!(MicrosoftAzureBuilder, "AZURE_", client)
            }
            ObjectStoreScheme::Http => {
                let authorization =
                    user.map(|(user, password)| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))));
                return Self::web(url, authorization.as_deref(), environment);
            }
            _ => return Err("such a store is not known".to_owned()),
        };
        let (environment, shown) = (environment.clone(), redact(url.as_str()));
        Ok(Self { objects, environment, base: path.to_string(), shown, lists: true })
    }

    /// The folder at a URL of a plain HTTP server.
    pub(crate) fn web(url: &Url, authorization: Option<&str>, environment: &Arc<Environment>) -> Result<Self, String> {
        let mut client: ClientOptions = environment.client(url.scheme());
        if let Some(authorization) = authorization {
            let mut value = HeaderValue::from_str(authorization).map_err(|_| "its token or password cannot stand in a header")?;
            value.set_sensitive(true);
            client = client.with_default_headers(HeaderMap::from_iter([(AUTHORIZATION, value)]));
        }
        let builder = HttpBuilder::new().with_url(url.as_str()).with_client_options(client).with_retry(no_retries());
        let objects =
            Arc::new(builder.with_http_connector(Connector::default()).build().map_err(|_| "it cannot be a web address, or its proxy cannot")?);
        // The store's root is the folder itself, so that its path goes out as it was written.
        Ok(Self { objects, environment: environment.clone(), base: String::new(), shown: redact(url.as_str()), lists: false })
    }

    /// A folder in this folder.
    pub(crate) fn below(&self, name: &str) -> Self {
        let base = if self.base.is_empty() { name.to_owned() } else { format!("{}/{name}", self.base) };
        Self { base, shown: self.shown(name), ..self.clone() }
    }

    /// The URL of one of its files, as it may be shown; of itself where the name is empty.
    pub(crate) fn shown(&self, name: &str) -> String {
        if name.is_empty() { self.shown.clone() } else { format!("{}/{name}", self.shown.trim_end_matches('/')) }
    }

    fn path(&self, name: &str) -> Result<Path, Fault> {
        Path::parse(if name.is_empty() { self.base.clone() } else { format!("{}/{name}", self.base) })
            .map_err(|_| Fault::Odd("its name cannot be asked for: it holds an empty part, '.', '..' or a control character".to_owned()))
    }

    /// Asks for one of its files, from a byte on.
    pub(crate) async fn get(&self, name: &str, from: u64) -> Result<Answer, Fault> {
        let range = (from > 0).then_some(GetRange::Offset(from));
        let answer = self.objects.get_opts(&self.path(name)?, GetOptions { range, ..GetOptions::default() }).await;
        let answer = answer.map_err(|error| Fault::of(&error, &self.environment))?;
        if answer.range.start != from {
            return Err(Fault::Odd(format!("it begins at byte {} instead of {from}", answer.range.start)));
        }
        let (total, environment) = (answer.meta.size, self.environment.clone());
        let stream = answer.into_stream().map_err(move |error| Fault::of(&error, &environment)).boxed();
        Ok(Answer { stream, total })
    }

    /// The names of the folders in it.
    pub(crate) async fn list(&self) -> Result<Vec<String>, Fault> {
        let path = self.path("")?;
        let listed = match self.objects.list_with_delimiter((!path.is_root()).then_some(&path)).await {
            Ok(listed) => listed,
            Err(error) => match Fault::of(&error, &self.environment) {
                Fault::Status(404) => return Ok(Vec::new()),
                fault => return Err(fault),
            },
        };
        if listed.common_prefixes.len() > MAX_ENTRIES {
            return Err(Fault::Odd(format!("it lists more than {MAX_ENTRIES} folders: name a folder of model folders")));
        }
        Ok(listed.common_prefixes.iter().filter_map(|path| path.filename().map(ToOwned::to_owned)).collect())
    }
}

/// Retries are this crate's own affair: it resumes where the store's client would start again.
fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}
