use std::{collections::VecDeque, pin::Pin, sync::Arc, task::Poll};

use quintet_proto::tokenization::v1::{EncodeRequest, EncodeResponse, EncodeStreamRequest, EncodeStreamResponse};
use quintet_serving::error::status;
use tokio_stream::Stream as _;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};
use tracing::Instrument;

use super::Service;
use crate::Error;

/// Encodes a client's requests, several at once, and answers in their order. It reads on only while it is asked for answers and
/// has room for more: a client that does not read is not read from either.
#[derive(Debug)]
pub(crate) struct Encoding {
    requests: Streaming<EncodeStreamRequest>,
    service: Arc<Service>,
    /// The model that requests without one mean.
    model: String,
    in_progress: VecDeque<Work>,
    at_once: usize,
    is_over: bool,
}

#[derive(Debug)]
enum Work {
    /// A task of its own: were it driven from here, one whose turn has come would stand still, with the thread it was given, while
    /// the client does not read.
    Running(AbortOnDropHandle<Result<EncodeResponse, Error>>),
    Done(Box<Result<EncodeResponse, Status>>),
}

impl Encoding {
    /// At most `at_once` requests are worked on or wait to be taken.
    pub(super) fn new(requests: Streaming<EncodeStreamRequest>, service: Arc<Service>, at_once: usize) -> Self {
        Self { requests, service, model: String::new(), in_progress: VecDeque::new(), at_once, is_over: false }
    }

    fn begin(&mut self, mut request: EncodeRequest) -> Work {
        if request.model.is_empty() {
            request.model.clone_from(&self.model);
        } else {
            self.model.clone_from(&request.model);
        }
        let service = Arc::clone(&self.service);
        let work = async move { service.encode(request).await }.in_current_span();
        Work::Running(AbortOnDropHandle::new(self.service.tasks().spawn(work)))
    }

    /// Takes requests while there is room. A fault is answered in its turn, and is the last answer.
    fn read(&mut self, context: &mut std::task::Context<'_>) {
        while !self.is_over && self.in_progress.len() < self.at_once {
            let work = match Pin::new(&mut self.requests).poll_next(context) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(EncodeStreamRequest { request: Some(request) }))) => self.begin(request),
                Poll::Ready(Some(Ok(EncodeStreamRequest { request: None }))) => {
                    self.is_over = true;
                    Work::Done(Box::new(Err(status(&Error::invalid("request", "absent: each message must have one")))))
                }
                Poll::Ready(Some(Err(fault))) => {
                    self.is_over = true;
                    Work::Done(Box::new(Err(fault)))
                }
                Poll::Ready(None) => {
                    self.is_over = true;
                    return;
                }
            };
            self.in_progress.push_back(work);
        }
    }
}

impl tokio_stream::Stream for Encoding {
    type Item = Result<EncodeStreamResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.read(context);
        let answer = match this.in_progress.pop_front() {
            None if this.is_over => return Poll::Ready(None),
            None => return Poll::Pending,
            Some(Work::Done(answer)) => *answer,
            Some(Work::Running(mut work)) => match Pin::new(&mut work).poll(context) {
                Poll::Pending => {
                    this.in_progress.push_front(Work::Running(work));
                    return Poll::Pending;
                }
                Poll::Ready(Ok(answer)) => answer.map_err(|error| status(&error)),
                Poll::Ready(Err(_)) => Err(status(&Error::Cancelled)),
            },
        };
        if answer.is_err() {
            (this.is_over, this.in_progress) = (true, VecDeque::new());
        } else {
            // There is room for one more: it is read before the client asks for the next answer.
            this.read(context);
        }
        Poll::Ready(Some(answer.map(|response| EncodeStreamResponse { response: Some(response) })))
    }
}
