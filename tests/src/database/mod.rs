//! Evaluations in a PostgreSQL database: they outlive processes, replicas share them, and each ends once whatever happens to either.

mod postgres;
mod replicas;
mod secrets;

use std::time::Duration;

use quintet_proto::evaluation::v1::{
    AnomalyEvaluation, CancelEvaluationRequest, CreateEvaluationRequest, Evaluation, EvaluationState, GetEvaluationRequest, ImageEvaluation,
    ListEvaluationsRequest, TextEvaluation, WatchEvaluationRequest, create_evaluation_request::Evaluation as What,
    evaluation_service_client::EvaluationServiceClient,
};
use tokio::net::TcpListener;
use tonic::{
    Request, Status, Streaming,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::harness::Process;
use postgres::{PASSWORD, Postgres};

/// The shortest lease that may be configured.
const LEASE: &str = "evaluation.database.lease_seconds=3";

/// How long anything here may take: far longer than it does.
const BOUND: Duration = Duration::from_secs(100);

/// The services that evaluations draw from, and one that takes calls and never answers.
struct Stage {
    behind: Process,
    silent: TcpListener,
}

impl Stage {
    async fn set() -> Self {
        Self { behind: Process::up(&[]), silent: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// A replica of the evaluation service. Its texts are scored by a service that never answers where it `stalls`.
    async fn replica(&self, postgres: &Postgres, stalls: bool, settings: &[&str]) -> Replica {
        let behind = &self.behind.address;
        let text = if stalls { self.silent.local_addr().unwrap().to_string() } else { behind.clone() };
        let endpoints = [
            format!("evaluation.text_endpoint=http://{text}"),
            format!("evaluation.image_endpoint=http://{behind}"),
            format!("evaluation.anomaly_endpoint=http://{behind}"),
        ];
        let all = endpoints.iter().map(String::as_str).chain([LEASE]).chain(settings.iter().copied());
        let arguments: Vec<&str> = all.flat_map(|setting| ["--set", setting]).collect();
        let url = postgres.url("sslmode=disable");
        let environment = [("QUINTET_EVALUATION__DATABASE__URL", url.as_str())];
        let process = tokio::task::block_in_place(|| Process::start_with("quintet-evaluation", &arguments, &environment));
        let replica = Replica::of(process);
        replica.is(ServingStatus::Serving).await;
        replica
    }
}

/// A replica, and a way to it.
struct Replica {
    process: Process,
    channel: Channel,
}

impl Replica {
    fn of(process: Process) -> Self {
        Self { channel: Endpoint::from_shared(format!("http://{}", process.address)).unwrap().connect_lazy(), process }
    }

    fn client(&self) -> EvaluationServiceClient<Channel> {
        EvaluationServiceClient::new(self.channel.clone())
    }

    /// Waits until the service says that of itself.
    async fn is(&self, wanted: ServingStatus) {
        let service = "quintet.evaluation.v1.EvaluationService".to_owned();
        let mut health = HealthClient::new(self.channel.clone()).watch(within(HealthCheckRequest { service })).await.unwrap().into_inner();
        while health.message().await.unwrap().unwrap().status() != wanted {}
    }

    async fn create(&self, what: What) -> Result<String, Status> {
        let request = CreateEvaluationRequest { evaluation: Some(what), bootstrap_resamples: Some(100), ..CreateEvaluationRequest::default() };
        Ok(self.client().create_evaluation(within(request)).await?.into_inner().evaluation.unwrap().id)
    }

    async fn get(&self, id: &str) -> Result<Evaluation, Status> {
        let request = GetEvaluationRequest { id: id.to_owned() };
        Ok(self.client().get_evaluation(within(request)).await?.into_inner().evaluation.unwrap())
    }

    async fn cancel(&self, id: &str) -> Result<Evaluation, Status> {
        let request = CancelEvaluationRequest { id: id.to_owned() };
        Ok(self.client().cancel_evaluation(within(request)).await?.into_inner().evaluation.unwrap())
    }

    async fn list(&self, page_size: u32, page_token: String) -> (Vec<Evaluation>, String) {
        let page = self.client().list_evaluations(within(ListEvaluationsRequest { page_size, page_token })).await.unwrap().into_inner();
        (page.evaluations, page.next_page_token)
    }

    async fn watch(&self, id: &str) -> Watched {
        let request = WatchEvaluationRequest { id: id.to_owned() };
        Watched { states: self.client().watch_evaluation(within(request)).await.unwrap().into_inner(), seen: Vec::new() }
    }

    /// Waits until it is so of an evaluation.
    async fn until(&self, id: &str, state: EvaluationState) -> Evaluation {
        self.watch(id).await.until(state).await
    }

    /// Waits until it has logged that so many times.
    async fn has_logged(&self, words: &str, times: usize) {
        let looked = async {
            while self.process.log().matches(words).count() < times {
                // Any call takes long enough not to look without a pause.
                self.list(1, String::new()).await;
            }
        };
        tokio::time::timeout(BOUND, looked).await.unwrap_or_else(|_| panic!("'{words}' is not in the log: {}", self.process.log()));
    }
}

/// What was heard of an evaluation, in order.
struct Watched {
    states: Streaming<quintet_proto::evaluation::v1::WatchEvaluationResponse>,
    seen: Vec<Evaluation>,
}

impl Watched {
    /// Waits for a state.
    async fn until(&mut self, state: EvaluationState) -> Evaluation {
        while let Some(now) = self.states.message().await.unwrap() {
            let now = now.evaluation.unwrap();
            // States never go back, and no stage's progress does.
            if let Some(last) = self.seen.last() {
                assert!(last.state <= now.state, "{last:?} {now:?}");
                assert!(last.stage != now.stage || last.progress_done <= now.progress_done, "{last:?} {now:?}");
            }
            self.seen.push(now.clone());
            if now.state() == state {
                return now;
            }
        }
        panic!("it never was {state:?}: {:?}", self.seen)
    }
}

fn within<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(BOUND);
    request
}

fn anomaly() -> What {
    What::Anomaly(AnomalyEvaluation { model: "vae-digits".into(), dataset: String::new() })
}

fn text() -> What {
    What::Text(TextEvaluation { documents: Some(2), ..TextEvaluation::default() })
}

/// Some seconds of work.
fn image() -> What {
    What::Image(ImageEvaluation { samples: Some(1000), ..ImageEvaluation::default() })
}
