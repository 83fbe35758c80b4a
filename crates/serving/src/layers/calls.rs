use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, HeaderValue};
use http_body::{Frame, SizeHint};
use metrics::{counter, gauge, histogram};
use pin_project_lite::pin_project;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, Status};
use tracing::Instrument;

use crate::error::fresh_id;

const REQUEST_ID: &str = "x-request-id";

/// The calls in progress, and what ends them when the drain's limit has passed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls {
    /// The full names of the services there are: labels come from here and never from a client.
    pub(crate) services: Arc<Vec<&'static str>>,
    pub(crate) in_progress: Arc<AtomicUsize>,
    pub(crate) cut: CancellationToken,
}

pub(crate) fn describe() {
    metrics::describe_counter!("quintet_rpc_requests_total", "Calls that have ended, by service, method and gRPC code");
    metrics::describe_histogram!("quintet_rpc_duration_seconds", metrics::Unit::Seconds, "How long calls took, streams to their end");
    metrics::describe_gauge!("quintet_rpc_in_flight", "Calls in progress");
}

/// Gives a call its id and span, counts and times it, and ends it when the drain's limit has passed.
pub(crate) async fn observe(State(calls): State<Calls>, request: Request, next: Next) -> Response {
    let Some((service, method)) = calls.names(request.uri().path()) else {
        return next.run(request).await;
    };
    let id = request.headers().get(REQUEST_ID).filter(|id| id.len() <= 128).cloned();
    let id = id.or_else(|| HeaderValue::from_str(&fresh_id()).ok());
    let span = tracing::info_span!("rpc", service, method, request_id = id.as_ref().and_then(|id| id.to_str().ok()));
    let mut call = Call::begin(service, method, calls.in_progress);

    let mut response = tokio::select! {
        response = next.run(request).instrument(span) => response,
        () = calls.cut.cancelled() => cut().into_http(),
    };
    call.code = code(response.headers());
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let cut = Box::pin(calls.cut.cancelled_owned());
    response.map(|body| Body::new(Watched { body, watch: call, cut: Some(cut) }))
}

fn cut() -> Status {
    Status::unavailable("the server is shutting down and its time to finish calls is over")
}

fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}

impl Calls {
    /// The service and the method of a path, if it is one of ours.
    fn names(&self, path: &str) -> Option<(&'static str, String)> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let service = self.services.iter().find(|known| **known == service)?;
        Some((service, method.to_owned()))
    }
}

/// A call in progress. What becomes of it is recorded when it is dropped: without a code it was given up by its
/// client.
struct Call {
    service: &'static str,
    method: String,
    begun: Instant,
    code: Option<Code>,
    in_progress: Arc<AtomicUsize>,
}

impl Call {
    fn begin(service: &'static str, method: String, in_progress: Arc<AtomicUsize>) -> Self {
        let now = in_progress.fetch_add(1, Ordering::Relaxed) + 1;
        gauge!("quintet_rpc_in_flight").set(now as f64);
        Self { service, method, begun: Instant::now(), code: None, in_progress }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let now = self.in_progress.fetch_sub(1, Ordering::Relaxed) - 1;
        gauge!("quintet_rpc_in_flight").set(now as f64);
        let code = self.code.unwrap_or(Code::Cancelled);
        // A method that does not exist is a client's invention and must not become a label.
        let method = if code == Code::Unimplemented { "unknown".to_owned() } else { std::mem::take(&mut self.method) };
        counter!("quintet_rpc_requests_total", "service" => self.service, "method" => method.clone(), "code" => name(code)).increment(1);
        histogram!("quintet_rpc_duration_seconds", "service" => self.service, "method" => method).record(self.begun.elapsed());
    }
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// What rides along with a response's body, to its end.
pub(super) trait Watch: Send + 'static {
    /// The body's trailers.
    fn trailers(&mut self, _trailers: &HeaderMap) {}
}

impl Watch for Call {
    fn trailers(&mut self, trailers: &HeaderMap) {
        self.code = code(trailers).or(self.code);
    }
}

pin_project! {
    /// A body that carries a [`Watch`] and can be cut short.
    pub(super) struct Watched<W> {
        #[pin]
        body: Body,
        watch: W,
        cut: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    }
}

impl<W: Watch> Watched<W> {
    pub(super) fn new(body: Body, watch: W) -> Self {
        Self { body, watch, cut: None }
    }
}

impl<W: Watch> http_body::Body for Watched<W> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.project();
        let polled = this.body.poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            this.watch.trailers(trailers);
        }
        if polled.is_pending()
            && let Some(ended) = this.cut
            && ended.as_mut().poll(context).is_ready()
        {
            *this.cut = None;
            let trailers = cut().into_http::<()>().headers().clone();
            this.watch.trailers(&trailers);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
