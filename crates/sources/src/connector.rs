//! The HTTP client of all stores, which tells an error's status by its type.

use http::StatusCode;
use object_store::{
    ClientOptions,
    client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector},
};
use tokio_rustls::rustls::crypto::ring;

/// A server answered with this status. The store's own errors say it in words only, beside URLs and bodies.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("status {}", .0.as_u16())]
pub(crate) struct Answered(pub(crate) StatusCode);

/// Makes the clients of stores.
#[derive(Debug, Default)]
pub(crate) struct Connector(ReqwestConnector);

#[derive(Debug)]
struct Service(HttpClient);

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // The client asks the process for its cryptography, as the rest of the program does. It is there already where
        // somebody was first, which is as well.
        let _ = ring::default_provider().install_default();
        Ok(HttpClient::new(Service(self.0.connect(options)?)))
    }
}

#[async_trait::async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.0.execute(request).await?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            return Err(HttpError::new(HttpErrorKind::Unknown, Answered(status)));
        }
        Ok(response)
    }
}
