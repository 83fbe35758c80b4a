//! The gRPC face: the only place, with the peers' adapters, that names generated types.

mod anomaly;
pub(crate) mod convert;
mod image;
mod journal;
mod kept;
mod text;

use std::{pin::Pin, sync::Arc};

use futures_util::StreamExt;
use quintet_onnx::{Loaded, Registry};
use quintet_proto::evaluation::v1::{
    CancelEvaluationRequest, CancelEvaluationResponse, CreateEvaluationRequest, CreateEvaluationResponse, GetEvaluationRequest,
    GetEvaluationResponse, ListDatasetsRequest, ListDatasetsResponse, ListEvaluationsRequest, ListEvaluationsResponse, WatchEvaluationRequest,
    WatchEvaluationResponse, create_evaluation_request::Evaluation as What, evaluation_service_server,
};
use quintet_serving::error::{Checks, status};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::{
    Error,
    engine::{
        Metric,
        classifier::Classifier,
        datasets::{Dataset, Kind},
        job::Progress,
    },
    peers::Peers,
};
pub(crate) use journal::Folder;
pub(crate) use kept::Kept;

/// What is said of a request that names nothing to evaluate.
const MISSING: &str = "missing: image, text or anomaly is needed";

/// What every evaluation needs.
#[derive(Debug)]
pub(crate) struct Evaluator {
    pub(crate) peers: Peers,
    pub(crate) classifiers: Registry<Classifier>,
    pub(crate) datasets: Vec<Dataset>,
}

#[derive(Clone, Debug)]
pub(crate) struct EvaluationService {
    pub(crate) evaluator: Arc<Evaluator>,
    pub(crate) jobs: Kept,
}

/// How an evaluation draws and resamples.
#[derive(Clone, Copy, Debug)]
struct Draws {
    seed: u64,
    resamples: usize,
}

/// How a running evaluation tells of its progress, and what comes of it.
type Running = Progress<CreateEvaluationRequest>;
type Measuring = Pin<Box<dyn Future<Output = Result<Vec<Metric>, Error>> + Send>>;

/// Resamples of an evaluation that does not say.
const RESAMPLES: u32 = 1000;

impl Evaluator {
    /// The data set of this name and kind; empty = the only one of its kind.
    fn dataset(&self, name: &str, kind: Kind) -> Result<&Dataset, Error> {
        let of_kind = || self.datasets.iter().filter(|dataset| dataset.kind == kind);
        let found = if name.is_empty() && of_kind().count() == 1 { of_kind().next() } else { of_kind().find(|dataset| dataset.name == name) };
        found.ok_or_else(|| Error::Unknown {
            what: "data set of that kind",
            name: name.to_owned(),
            known: of_kind().map(|d| d.name.clone()).collect(),
        })
    }

    /// The classifier of this name; empty = the only one.
    fn classifier(&self, name: &str) -> Result<Arc<Loaded<Classifier>>, Error> {
        let all = self.classifiers.all();
        let known: Vec<String> = all.iter().map(|classifier| classifier.name.clone()).collect();
        let is_only = name.is_empty() && known.len() == 1;
        let found = all.into_iter().rev().find(|classifier| is_only || classifier.name == name);
        found.ok_or_else(|| Error::Unknown { what: "image classifier", name: name.to_owned(), known })
    }

    /// Fills in the defaults and checks what can be checked before the job begins.
    async fn check(&self, request: CreateEvaluationRequest) -> Result<CreateEvaluationRequest, Error> {
        let resamples = request.bootstrap_resamples.unwrap_or(RESAMPLES);
        let mut checks = Checks::new();
        checks.require((100..=10_000).contains(&resamples), "bootstrap_resamples", || format!("{resamples}: must be 100 to 10000"));
        checks.require(request.evaluation.is_some(), "evaluation", || MISSING.to_owned());
        if let Some(What::Image(asked)) = &request.evaluation {
            image::check_samples(asked, &mut checks);
        }
        checks.finish().map_err(Error::Invalid)?;
        let what = match request.evaluation {
            None => return Err(Error::invalid("evaluation", MISSING)),
            Some(What::Image(asked)) => What::Image(self.check_image(asked)?),
            Some(What::Text(asked)) => What::Text(self.check_text(asked)?),
            Some(What::Anomaly(asked)) => What::Anomaly(self.check_anomaly(asked).await?),
        };
        Ok(CreateEvaluationRequest { evaluation: Some(what), bootstrap_resamples: Some(resamples), ..request })
    }

    /// The work of a job whose request was checked.
    pub(crate) fn work(self: &Arc<Self>, request: CreateEvaluationRequest) -> impl FnOnce(Running) -> Measuring + Send + 'static {
        let evaluator = Arc::clone(self);
        let draws = Draws { seed: request.seed, resamples: request.bootstrap_resamples.unwrap_or(RESAMPLES) as usize };
        move |progress| {
            Box::pin(async move {
                match request.evaluation {
                    None => Err(Error::invalid("evaluation", MISSING)),
                    Some(What::Image(asked)) => evaluator.run_image(asked, draws, progress).await,
                    Some(What::Text(asked)) => evaluator.run_text(asked, draws, progress).await,
                    Some(What::Anomaly(asked)) => evaluator.run_anomaly(asked, draws, progress).await,
                }
            })
        }
    }
}

impl EvaluationService {
    async fn create(&self, request: CreateEvaluationRequest) -> Result<CreateEvaluationResponse, Error> {
        let request = self.evaluator.check(request).await?;
        let job = self.jobs.start(request, &self.evaluator).await?;
        Ok(CreateEvaluationResponse { evaluation: Some(convert::evaluation(job)) })
    }

    async fn list(&self, request: &ListEvaluationsRequest) -> Result<ListEvaluationsResponse, Error> {
        let size = match request.page_size {
            0 => 100,
            size @ 1..=1000 => size as usize,
            size => return Err(Error::invalid("page_size", format!("{size}: must be 0 to 1000"))),
        };
        let before = match request.page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|_| Error::invalid("page_token", format!("'{token}' is none of this service's")))?),
        };
        let (page, more) = self.jobs.list(size, before).await?;
        Ok(ListEvaluationsResponse {
            evaluations: page.into_iter().map(convert::evaluation).collect(),
            next_page_token: more.map_or_else(String::new, |number| number.to_string()),
        })
    }
}

#[tonic::async_trait]
impl evaluation_service_server::EvaluationService for EvaluationService {
    type WatchEvaluationStream = Pin<Box<dyn Stream<Item = Result<WatchEvaluationResponse, Status>> + Send>>;

    async fn list_datasets(&self, _: Request<ListDatasetsRequest>) -> Result<Response<ListDatasetsResponse>, Status> {
        Ok(Response::new(ListDatasetsResponse { datasets: self.evaluator.datasets.iter().map(convert::dataset).collect() }))
    }

    async fn create_evaluation(&self, request: Request<CreateEvaluationRequest>) -> Result<Response<CreateEvaluationResponse>, Status> {
        self.create(request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }

    async fn get_evaluation(&self, request: Request<GetEvaluationRequest>) -> Result<Response<GetEvaluationResponse>, Status> {
        let job = self.jobs.find(&request.into_inner().id).await.map_err(|error| status(&error))?;
        Ok(Response::new(GetEvaluationResponse { evaluation: Some(convert::evaluation(job)) }))
    }

    async fn watch_evaluation(&self, request: Request<WatchEvaluationRequest>) -> Result<Response<Self::WatchEvaluationStream>, Status> {
        let states = self.jobs.watch(&request.into_inner().id).await.map_err(|error| status(&error))?;
        let stream = states.map(|job| match job {
            Ok(job) => Ok(WatchEvaluationResponse { evaluation: Some(convert::evaluation(job)) }),
            Err(error) => Err(status(&error)),
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_evaluations(&self, request: Request<ListEvaluationsRequest>) -> Result<Response<ListEvaluationsResponse>, Status> {
        self.list(&request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }

    async fn cancel_evaluation(&self, request: Request<CancelEvaluationRequest>) -> Result<Response<CancelEvaluationResponse>, Status> {
        let job = self.jobs.cancel(&request.into_inner().id).await.map_err(|error| status(&error))?;
        Ok(Response::new(CancelEvaluationResponse { evaluation: Some(convert::evaluation(job)) }))
    }
}

#[cfg(test)]
mod tests;
