//! Calls from one service to another in the same process.
//!
//! They go through generated clients and HTTP/2, as between processes, but over a pipe in memory instead of the
//! listener: so they need no port and no certificate, and still work while the listener drains.

use hyper_util::rt::TokioIo;
use tokio::{io::DuplexStream, sync::mpsc};
use tonic::transport::Endpoint;

use crate::peer::{self, Peer};

/// Bytes that each direction of a pipe holds.
const PIPE: usize = 1 << 18;

/// Connections that may wait to be taken up; services share one channel each, so few ever do.
const WAITING: usize = 64;

/// The two ends: what makes channels, and where their connections arrive.
pub(crate) fn transport() -> (Connector, mpsc::Receiver<DuplexStream>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Connector(sender), receiver)
}

#[derive(Clone, Debug)]
pub(crate) struct Connector(mpsc::Sender<DuplexStream>);

impl Connector {
    /// A channel that connects when it is first used.
    pub(crate) fn channel(&self) -> Peer {
        let connections = self.0.clone();
        // The address only fills the requests' authority.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(move |_| {
            let connections = connections.clone();
            async move {
                let (client, server) = tokio::io::duplex(PIPE);
                let gone = |_| std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "the server has stopped");
                connections.send(server).await.map_err(gone)?;
                Ok::<_, std::io::Error>(TokioIo::new(client))
            }
        }));
        peer::own(channel)
    }
}
