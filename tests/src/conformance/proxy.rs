//! A service between the kit and the real one, which spoils one thing.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use prost::Message;
use tokio::{net::TcpListener, task::AbortHandle};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{
    Request, Response, Status, Streaming,
    server::StreamingService,
    service::Routes,
    transport::{Channel, Server},
};

use crate::raw::Raw;

/// What is spoilt.
#[derive(Clone)]
pub(crate) enum Spoil {
    /// The request's messages.
    Request(fn(Bytes) -> Bytes),
    /// The whole answer: its messages, and its status.
    Answer(fn(Vec<Bytes>, Status) -> (Vec<Bytes>, Status)),
    /// The same, of calls that have company.
    AnswerInCompany(fn(Vec<Bytes>, Status) -> (Vec<Bytes>, Status)),
    /// The deadline is not passed on.
    Deadline,
    /// A call goes on when its client has gone.
    Cancellation,
}

type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

#[derive(Clone)]
struct Forward {
    upstream: Channel,
    path: http::uri::PathAndQuery,
    /// None: the call is not concerned.
    spoil: Option<Spoil>,
    in_flight: Arc<AtomicUsize>,
}

/// A proxy that runs until it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: String,
    server: AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Proxy {
    /// Spoils what `rpc` (empty: every one) does.
    pub(crate) async fn start(upstream: Channel, rpc: &'static str, spoil: Spoil) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let in_flight = Arc::default();
        let forward = tower::service_fn(move |request: http::Request<_>| {
            let path = request.uri().path_and_query().unwrap().clone();
            let spoil = path.path().ends_with(rpc).then(|| spoil.clone());
            let forward = Forward { upstream: upstream.clone(), path, spoil, in_flight: Arc::clone(&in_flight) };
            async move {
                let mut server = tonic::server::Grpc::new(Raw).max_decoding_message_size(1 << 28);
                Ok::<_, Infallible>(server.streaming(forward, request).await)
            }
        });
        let routes = Routes::from(Routes::default().into_axum_router().fallback_service(forward));
        let serving = Server::builder().add_routes(routes).serve_with_incoming(TcpListenerStream::new(listener));
        #[allow(clippy::disallowed_methods, reason = "it ends with the proxy")]
        let server = tokio::spawn(async move { serving.await.unwrap() }).abort_handle();
        Self { address, server }
    }
}

impl StreamingService<Bytes> for Forward {
    type Response = Bytes;
    type ResponseStream = Answers;
    type Future = std::future::Ready<Result<Response<Answers>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        // The answer begins at once: no deadline of the proxy's own server is waiting for it.
        let answers = stream::once(self.clone().forward(request)).flatten();
        std::future::ready(Ok(Response::new(Box::pin(answers))))
    }
}

impl Forward {
    async fn forward(self, request: Request<Streaming<Bytes>>) -> Answers {
        let company = self.in_flight.fetch_add(1, Ordering::SeqCst);
        let guard = Leaving(Arc::clone(&self.in_flight));
        let (mut metadata, _, messages) = request.into_parts();
        let spoil_message: fn(Bytes) -> Bytes = match self.spoil {
            Some(Spoil::Request(spoil)) => spoil,
            _ => |message| message,
        };
        if matches!(self.spoil, Some(Spoil::Deadline)) {
            metadata.remove("grpc-timeout");
        }
        // A client that goes ends the requests; what it had not sent is not there.
        let messages = messages.take_while(|message| std::future::ready(message.is_ok())).filter_map(|message| std::future::ready(message.ok()));
        let mut upstream = Request::new(messages.map(spoil_message));
        *upstream.metadata_mut() = metadata;
        let mut client = tonic::client::Grpc::new(self.upstream).max_decoding_message_size(1 << 28);
        client.ready().await.unwrap();
        let answers: Answers = match client.streaming(upstream, self.path, Raw).await {
            Ok(answers) => answers.into_inner().boxed(),
            Err(status) => stream::iter([Err(status)]).boxed(),
        };
        match self.spoil {
            Some(Spoil::Answer(spoil)) => whole(answers, spoil).await,
            Some(Spoil::AnswerInCompany(spoil)) if company > 0 => whole(answers, spoil).await,
            Some(Spoil::Cancellation) => detached(answers),
            // It has left before its client sees that it has ended.
            // It has left before its client sees that it has ended.
            _ => stream::unfold(Some((answers, guard)), |state| async move {
                let (mut answers, guard) = state?;
                let answer = answers.next().await?;
                Some((answer, Some((answers, guard))))
            })
            .boxed(),
        }
    }
}

/// Counts a call out.
struct Leaving(Arc<AtomicUsize>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The whole answer, spoilt.
async fn whole(mut answers: Answers, spoil: fn(Vec<Bytes>, Status) -> (Vec<Bytes>, Status)) -> Answers {
    let (mut messages, mut status) = (Vec::new(), Status::ok(""));
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(message) => messages.push(message),
            Err(error) => status = error,
        }
    }
    let (messages, status) = spoil(messages, status);
    let end = (status.code() != tonic::Code::Ok).then_some(Err(status));
    stream::iter(messages.into_iter().map(Ok).chain(end)).boxed()
}

/// An answer that is read to its end, whether or not anybody wants it.
fn detached(mut answers: Answers) -> Answers {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    #[allow(clippy::disallowed_methods, reason = "it ends with the answer, which the test's server gives")]
    tokio::spawn(async move {
        while let Some(answer) = answers.next().await {
            // Nobody may listen any more.
            let _ = sender.send(answer).await;
        }
    });
    ReceiverStream::new(receiver).boxed()
}

/// Changes a message.
pub(crate) fn edited<M: Message + Default>(bytes: Bytes, change: impl FnOnce(&mut M)) -> Bytes {
    let Ok(mut message) = M::decode(bytes.clone()) else { return bytes };
    change(&mut message);
    message.encode_to_vec().into()
}

/// Changes each message of an answer.
pub(crate) fn each<M: Message + Default>((messages, status): (Vec<Bytes>, Status), change: impl Fn(&mut M)) -> (Vec<Bytes>, Status) {
    (messages.into_iter().map(|message| edited(message, &change)).collect(), status)
}
