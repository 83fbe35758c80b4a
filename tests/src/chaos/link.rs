//! The network between two processes: it carries, falls silent, or breaks off.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// What the network does.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Bytes are taken and do not arrive; nobody is told.
    silent: bool,
    /// How often all connections were closed.
    breaks: u32,
}

/// A way to a server, which ends with this.
pub(super) struct Link {
    /// Where the server is reached by it.
    pub(super) address: SocketAddr,
    state: watch::Sender<State>,
    _tasks: JoinSet<()>,
}

impl Link {
    pub(super) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = watch::Sender::new(State::default());
        let seen = state.subscribe();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                connections.spawn(carry(client, server, seen.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, state, _tasks: tasks }
    }

    /// Lets nothing arrive any more, and tells nobody.
    pub(super) fn fall_silent(&self) {
        self.state.send_modify(|state| state.silent = true);
    }

    /// Closes all connections, and carries those to come.
    pub(super) fn break_off(&self) {
        self.state.send_modify(|state| *state = State { silent: false, breaks: state.breaks + 1 });
    }
}

async fn carry(client: TcpStream, server: SocketAddr, mut state: watch::Receiver<State>) {
    let breaks = state.borrow().breaks;
    let mut breaking = state.clone();
    let broken = async move { drop(breaking.wait_for(|state| state.breaks != breaks).await) };
    let carried = async {
        drop(state.wait_for(|state| !state.silent).await);
        // Where nothing listens the client's connection ends too.
        let Ok(server) = TcpStream::connect(server).await else { return };
        // As those at its ends have it: what they write in several parts would wait for an acknowledgement otherwise.
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
        }
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        tokio::join!(one_way(from_client, to_server, state.clone()), one_way(from_server, to_client, state.clone()));
    };
    tokio::select! { () = carried => (), () = broken => () }
}

async fn one_way(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut state: watch::Receiver<State>) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        // An end does not arrive either.
        drop(state.wait_for(|state| !state.silent).await);
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            drop(to.shutdown().await);
            return;
        }
    }
}
