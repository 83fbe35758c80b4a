use std::path::PathBuf;

use clap::Args;
use http::Request as HttpRequest;
use http_body_util::BodyExt;
use tonic::{
    Request, Status,
    body::Body,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel as Transport, ClientTlsConfig, Endpoint, Identity},
};
use tower::{Service, ServiceExt};

use super::Error;

/// Messages may be large: a grid of pictures, a vocabulary.
pub(crate) const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// A channel to the services, with the caller's key.
pub(crate) type Channel = InterceptedService<Transport, Key>;

/// Where the service is, who calls, and how to print.
#[derive(Clone, Debug, Args)]
pub(crate) struct Connection {
    /// The service's address; https://… for TLS
    #[arg(long, visible_alias = "target", global = true, env = "QUINTET_ADDRESS", default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    address: String,
    /// An API key, where the server asks for one
    #[arg(long, global = true, env = "QUINTET_API_KEY", hide_env_values = true, value_name = "KEY")]
    api_key: Option<String>,
    /// The authority that signed the server's certificate (PEM)
    #[arg(long, global = true, env = "QUINTET_CA_CERTIFICATE", value_name = "FILE")]
    ca_certificate: Option<PathBuf>,
    /// Our own certificate, where the server asks for one (PEM)
    #[arg(long, global = true, env = "QUINTET_CERTIFICATE", requires = "key", value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, global = true, env = "QUINTET_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
    /// Print JSON, for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// Adds the API key to each call.
#[derive(Clone, Debug)]
pub(crate) struct Key(Option<MetadataValue<Ascii>>);

impl Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("authorization", key.clone());
        }
        Ok(request)
    }
}

impl Connection {
    /// The address, as it was given.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) async fn open(&self) -> Result<Channel, Error> {
        let key = self.bearer().map(|value| value.parse().map_err(|_| Error::Usage("--api-key: it is no API key".to_owned()))).transpose()?;
        Ok(InterceptedService::new(self.transport().await?, Key(key)))
    }

    /// The API key as calls carry it.
    pub(crate) fn bearer(&self) -> Option<String> {
        self.api_key.as_ref().map(|key| format!("Bearer {key}"))
    }

    /// The same connection without an API key.
    pub(crate) fn without_key(&self) -> Self {
        Self { api_key: None, ..self.clone() }
    }

    async fn transport(&self) -> Result<Transport, Error> {
        let url = if self.address.contains("://") { self.address.clone() } else { format!("http://{}", self.address) };
        let unreachable = |reason: String| Error::Unreachable { address: self.address.clone(), reason };
        let mut endpoint = Endpoint::from_shared(url.clone()).map_err(|error| unreachable(error.to_string()))?;
        if url.starts_with("https://") {
            let mut tls = ClientTlsConfig::new();
            let authority = self.ca_certificate.as_ref();
            let authority =
                authority.ok_or_else(|| Error::Usage("https needs --ca-certificate, the authority that signed the server's".to_owned()))?;
            tls = tls.ca_certificate(Certificate::from_pem(read(authority)?));
            if let (Some(certificate), Some(key)) = (&self.certificate, &self.key) {
                tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
            }
            endpoint = endpoint.tls_config(tls).map_err(|error| unreachable(error.to_string()))?;
        }
        endpoint.connect().await.map_err(|error| unreachable(deepest(&error)))
    }

    /// The server's page of metrics.
    pub(super) async fn metrics(&self) -> Result<String, Error> {
        let unreachable = |reason: String| Error::Unreachable { address: self.address.clone(), reason };
        let mut transport = self.transport().await?;
        let mut request = HttpRequest::get("/metrics");
        if let Some(bearer) = self.bearer() {
            request = request.header("authorization", bearer);
        }
        let request = request.body(Body::empty()).map_err(|error| unreachable(error.to_string()))?;
        let response = transport.ready().await.map_err(|error| unreachable(deepest(&error)))?.call(request).await;
        let (head, body) = response.map_err(|error| unreachable(deepest(&error)))?.into_parts();
        let body = body.collect().await.map_err(|error| unreachable(error.to_string()))?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        if head.status.is_success() { Ok(text) } else { Err(unreachable(format!("{}: {}", head.status, text.trim()))) }
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::File { path: path.display().to_string(), reason: error.to_string() })
}

fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
