//! Where the service's jobs are kept: in this process, or in a ledger that replicas share.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
};

use futures_util::stream::{BoxStream, StreamExt, poll_fn};
use quintet_proto::evaluation::v1::CreateEvaluationRequest;
use tokio_stream::{Stream, wrappers::WatchStream};

use super::Evaluator;
use crate::{
    Error,
    engine::{job::Job, jobs::Jobs, journal::Noted, shared::SharedJobs},
};

type Request = CreateEvaluationRequest;

/// The jobs that this service answers for.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    /// Those of this process.
    Own(Jobs<Request>),
    /// Those of all replicas.
    Shared(SharedJobs<Request>),
}

impl Kept {
    /// Starts a job whose request was checked.
    pub(super) async fn start(&self, request: Request, evaluator: &Arc<Evaluator>) -> Result<Noted<Request>, Error> {
        match self {
            Self::Own(jobs) => jobs.start(request.clone(), evaluator.work(request)).await.map(|job| job.noted(job.snapshot())),
            Self::Shared(jobs) => jobs.start(request).await,
        }
    }

    /// A job by its id.
    pub(super) async fn find(&self, id: &str) -> Result<Noted<Request>, Error> {
        match self {
            Self::Own(jobs) => jobs.find(id).map(|job| job.noted(job.snapshot())),
            Self::Shared(jobs) => jobs.find(id).await,
        }
    }

    /// Jobs from the newest, those before the page's end; and where the next page goes on.
    pub(super) async fn list(&self, size: usize, before: Option<u64>) -> Result<(Vec<Noted<Request>>, Option<u64>), Error> {
        match self {
            Self::Own(jobs) => {
                let (page, more) = jobs.list(size, before);
                Ok((page.iter().map(|job| job.noted(job.snapshot())).collect(), more))
            }
            Self::Shared(jobs) => jobs.list(size, before).await,
        }
    }

    /// Follows a job: how it stands now and after each change. The state in which it ended is the last.
    pub(super) async fn watch(&self, id: &str) -> Result<BoxStream<'static, Result<Noted<Request>, Error>>, Error> {
        match self {
            Self::Own(jobs) => jobs.find(id).map(|job| watch(job).boxed()),
            Self::Shared(jobs) => jobs.watch(id).await.map(StreamExt::boxed),
        }
    }

    /// Cancels a job, and waits for its end.
    pub(super) async fn cancel(&self, id: &str) -> Result<Noted<Request>, Error> {
        let jobs = match self {
            Self::Own(jobs) => jobs,
            Self::Shared(jobs) => return jobs.cancel(id).await,
        };
        let job = jobs.find(id)?;
        job.cancel();
        let mut watch = job.watch();
        // It ends at once: what it has under way is dropped.
        let ended = tokio::select! {
            biased;
            ended = watch.wait_for(|snapshot| snapshot.state.has_ended()) => ended.map(|snapshot| snapshot.clone()),
            () = job.left() => return Err(Error::Stopping),
        };
        Ok(job.noted(ended.unwrap_or_else(|_| job.snapshot())))
    }

    /// This process takes no more jobs, and ends or leaves those that it has.
    pub(crate) fn shut_down(&self) {
        match self {
            Self::Own(jobs) => jobs.shut_down(),
            Self::Shared(jobs) => jobs.shut_down(),
        }
    }
}

fn watch(job: Arc<Job<Request>>) -> impl Stream<Item = Result<Noted<Request>, Error>> + Send {
    let mut states = Some((WatchStream::new(job.watch()), Box::pin(job.left())));
    poll_fn(move |context| {
        let Some((open, left)) = states.as_mut() else { return Poll::Ready(None) };
        let Poll::Ready(snapshot) = Pin::new(open).poll_next(context) else {
            // Its end comes after that of this process.
            ready!(left.as_mut().poll(context));
            states = None;
            return Poll::Ready(Some(Err(Error::Stopping)));
        };
        // The state in which it ended is the last that is sent.
        if snapshot.as_ref().is_none_or(|snapshot| snapshot.state.has_ended()) {
            states = None;
        }
        Poll::Ready(snapshot.map(|snapshot| Ok(job.noted(snapshot))))
    })
}
