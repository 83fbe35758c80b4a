//! Connections, from the listener to the protocol: bounded in number, and closed when nothing comes over them.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use metrics::{counter, gauge};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Sleep,
};
use tokio_rustls::server::TlsStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::server::Connected;

use crate::security::Acceptor;

/// Bytes after which the protocol's own limits hold: HTTP/2's preface, which is shorter than any HTTP/1.1 request. Until then
/// nobody knows which of the two it is.
const BEGINNING: usize = 24;

/// Connections that are ready and wait to be taken up.
const READY: usize = 64;

/// How connections are taken up.
#[derive(Clone, Debug)]
pub(crate) struct Listening {
    pub(crate) tls: Option<Acceptor>,
    pub(crate) max_connections: usize,
    /// How long a TLS handshake, and then the first byte, may take.
    pub(crate) patience: Duration,
}

impl Listening {
    /// Takes connections up until `close`. A failed handshake is that client's affair alone.
    pub(crate) fn accept(self, listener: TcpListener, tasks: &TaskTracker, close: CancellationToken) -> mpsc::Receiver<io::Result<Connection>> {
        let (ready, connections) = mpsc::channel(READY);
        let tracker = tasks.clone();
        tasks.spawn(async move {
            let places = Arc::new(Semaphore::new(self.max_connections));
            loop {
                // Beyond the limit, connections wait in the system's queue.
                let accepted = async {
                    let place = Arc::clone(&places).acquire_owned().await.ok()?;
                    Some((listener.accept().await, place))
                };
                let (stream, place) = tokio::select! {
                    biased;
                    () = close.cancelled() => return,
                    accepted = accepted => match accepted {
                        Some((Ok((stream, _)), place)) => (stream, place),
                        Some((Err(error), _)) => {
                            // Out of file descriptors, most likely: some will come free.
                            tracing::warn!(%error, "a connection could not be taken up");
                            tokio::time::sleep(Duration::from_millis(50)).await;
                            continue;
                        }
                        None => return,
                    },
                };
                let place = Place::taken(place);
                let (tls, patience, ready, close) = (self.tls.clone(), self.patience, ready.clone(), close.clone());
                tracker.spawn(async move {
                    let made = tokio::select! {
                        made = tokio::time::timeout(patience, Connection::make(stream, tls, place, patience)) => made,
                        () = close.cancelled() => return,
                    };
                    match made {
                        Ok(Ok(connection)) => drop(ready.send(Ok(connection)).await),
                        Ok(Err(error)) => {
                            counter!("quintet_handshakes_failed_total").increment(1);
                            tracing::debug!(%error, "a handshake failed");
                        }
                        Err(_) => counter!("quintet_handshakes_failed_total").increment(1),
                    }
                });
            }
        });
        connections
    }
}

/// A connection's place among those there may be.
#[derive(Debug)]
struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn taken(permit: OwnedSemaphorePermit) -> Self {
        gauge!("quintet_connections").increment(1.0);
        Self { _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        gauge!("quintet_connections").decrement(1.0);
    }
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection, with its place among the connections there may be.
#[derive(Debug)]
pub(crate) struct Connection {
    io: Io,
    _place: Place,
    /// Until a beginning has come: when to give up, and how many bytes are left to come until then.
    silent: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Connection {
    async fn make(stream: TcpStream, tls: Option<Acceptor>, place: Place, patience: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let io = match tls {
            None => Io::Plain(stream),
            Some(tls) => Io::Tls(Box::new(tls.accept(stream).await?)),
        };
        Ok(Self { io, _place: place, silent: Some((Box::pin(tokio::time::sleep(patience)), BEGINNING)) })
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = match &mut this.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
        };
        let Some((silent, left)) = &mut this.silent else { return polled };
        *left = left.saturating_sub(buffer.filled().len() - before);
        if *left == 0 {
            this.silent = None;
        } else if silent.as_mut().poll(context).is_ready() && polled.is_pending() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing came over the connection")));
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, pieces: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(context),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }
}
