use clap::Args;
use tonic::transport::{Channel, Endpoint};

use super::Error;

/// Messages may be large: a grid of pictures, a vocabulary.
pub(super) const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// Where the service is, and how to print.
#[derive(Clone, Debug, Args)]
pub(crate) struct Connection {
    /// The service's address
    #[arg(long, global = true, env = "QUINTET_ADDRESS", default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    address: String,
    /// Print JSON, for scripts
    #[arg(long, global = true)]
    pub(super) json: bool,
}

impl Connection {
    pub(super) async fn open(&self) -> Result<Channel, Error> {
        let url = if self.address.contains("://") { self.address.clone() } else { format!("http://{}", self.address) };
        let unreachable = |reason: String| Error::Unreachable { address: self.address.clone(), reason };
        let endpoint = Endpoint::from_shared(url).map_err(|error| unreachable(error.to_string()))?;
        endpoint.connect().await.map_err(|error| {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            unreachable(cause.to_string())
        })
    }
}
