//! A call from the moment it is let in to the last byte of its answer.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as Poller, Poll},
    time::{Duration, Instant},
};

use axum::body::{Body, Bytes};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use metrics::gauge;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, Status};

use super::{
    admission::Place,
    methods::{Method, code_name},
    undecodable::blame_the_client,
};
use crate::context::Context;

/// A call in progress. What becomes of it is recorded when it is dropped: without a code it was given up by its
/// client.
#[derive(Debug)]
pub(crate) struct Call {
    method: Arc<Method>,
    begun: Instant,
    code: Option<Code>,
    /// The call's span: what is logged of it carries its id.
    span: tracing::Span,
    in_progress: Arc<AtomicUsize>,
    /// Its place among those in progress, if it needs one.
    pub(crate) place: Option<Place>,
}

impl Call {
    pub(crate) fn begin(method: &Arc<Method>, in_progress: &Arc<AtomicUsize>, span: tracing::Span) -> Self {
        in_progress.fetch_add(1, Ordering::Relaxed);
        // Not set to the number: calls that begin and end at once would set it in any order.
        gauge!("quintet_rpc_in_flight").increment(1.0);
        Self { method: Arc::clone(method), begun: Instant::now(), code: None, span, in_progress: Arc::clone(in_progress), place: None }
    }

    /// Notes the code that headers or trailers carry.
    pub(crate) fn note(&mut self, headers: &HeaderMap) {
        self.code = headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes())).or(self.code);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.in_progress.fetch_sub(1, Ordering::Relaxed);
        gauge!("quintet_rpc_in_flight").decrement(1.0);
        let (code, after) = (self.code.unwrap_or(Code::Cancelled), self.begun.elapsed());
        tracing::debug!(parent: &self.span, code = code_name(code), milliseconds = after.as_secs_f64() * 1e3, "a call has ended");
        self.method.ended(code, after);
    }
}

/// What ends a call before it is over.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    pub(crate) deadline: Option<Instant>,
    pub(crate) cut: CancellationToken,
    /// Whether `cut` ends the call well: an operator's stream has told all there is to tell.
    pub(crate) cut_is_well: bool,
}

impl Ends {
    fn status(&self, is_late: bool) -> Status {
        match (is_late, self.cut_is_well) {
            (true, _) => Status::deadline_exceeded("the call's deadline has passed"),
            (false, true) => Status::ok(""),
            (false, false) => Status::unavailable("the server is shutting down and its time to finish calls is over"),
        }
    }

    /// Waits for an end before the answer has begun; the status that it has. What ends well is a stream that has said
    /// all there is to say, so never before its beginning.
    pub(crate) async fn come(&self) -> Status {
        let cut = async {
            if self.cut_is_well {
                std::future::pending::<()>().await;
            } else {
                self.cut.cancelled().await;
            }
        };
        let late = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let is_late = tokio::select! { () = late => true, () = cut => false };
        self.status(is_late)
    }
}

pin_project! {
    /// A response's body that carries its call, and can be ended before it is over.
    pub(crate) struct Answering {
        #[pin]
        body: Option<Body>,
        call: Call,
        context: Context,
        span: tracing::Span,
        ends: Ends,
        waiting: Option<(Pin<Box<WaitForCancellationFutureOwned>>, Option<Pin<Box<Sleep>>>)>,
    }
}

impl Answering {
    pub(crate) fn new(body: Body, call: Call, context: Context, span: tracing::Span, ends: Ends) -> Self {
        Self { body: Some(body), call, context, span, ends, waiting: None }
    }
}

impl http_body::Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut this = self.project();
        let Some(body) = this.body.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let _entered = this.span.enter();
        let mut polled = this.context.enter(|| body.poll_frame(poller));
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            blame_the_client(trailers);
            this.call.note(trailers);
        }
        if polled.is_ready() {
            return polled;
        }
        // Most answers never wait, and so never need these.
        let ends = &*this.ends;
        let (cut, late) = this.waiting.get_or_insert_with(|| {
            let late = ends.deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline.into())));
            (Box::pin(ends.cut.clone().cancelled_owned()), late)
        });
        let is_late = late.as_mut().is_some_and(|late| late.as_mut().poll(poller).is_ready());
        if !is_late && cut.as_mut().poll(poller).is_pending() {
            return Poll::Pending;
        }
        // The handler's side is dropped, and with it the work for this call.
        this.body.set(None);
        let trailers = ends.status(is_late).into_http::<()>().headers().clone();
        this.call.note(&trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, http_body::Body::size_hint)
    }
}

pin_project! {
    /// A request's body that fails when its client sends nothing for too long.
    pub(crate) struct Arriving {
        #[pin]
        body: Body,
        patience: Duration,
        waiting: Option<Pin<Box<Sleep>>>,
    }
}

impl Arriving {
    pub(crate) fn new(body: Body, patience: Duration) -> Self {
        Self { body, patience, waiting: None }
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.project();
        let polled = this.body.poll_frame(poller);
        if polled.is_ready() {
            *this.waiting = None;
            return polled;
        }
        let patience = *this.patience;
        let waiting = this.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match waiting.as_mut().poll(poller) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Some(Err(axum::Error::new(Status::deadline_exceeded("nothing of the request came for too long"))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
