//! Health, as `grpc.health.v1` says it: which services there are, and which of them can do their work now.

use std::{collections::BTreeMap, pin::Pin};

use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt, wrappers::WatchStream};
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{self, HealthServer},
};

/// The most bytes of a question. Who asks may go on watching a name that nobody has, and that name is kept meanwhile.
const MOST_BYTES: usize = 4096;

/// What is known of each service by its full name; "" is all of the process. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Health(watch::Sender<BTreeMap<String, ServingStatus>>);

impl Health {
    /// Nothing is known yet.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }

    /// The service that answers for it.
    pub(crate) fn server(&self) -> HealthServer<Self> {
        HealthServer::new(self.clone()).max_decoding_message_size(MOST_BYTES)
    }

    /// Notes which of these services can do their work, and tells those who watch.
    pub(crate) fn set<'a>(&self, services: impl IntoIterator<Item = (&'a str, bool)>) {
        self.0.send_modify(|statuses| {
            for (name, ready) in services {
                statuses.insert(name.to_owned(), if ready { ServingStatus::Serving } else { ServingStatus::NotServing });
            }
        });
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let status = self.0.borrow().get(&request.get_ref().service).copied();
        let status = status.ok_or_else(|| Status::not_found("no such service: server reflection lists those there are"))?;
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let HealthCheckRequest { service } = request.into_inner();
        let mut last = None;
        let changes = WatchStream::new(self.0.subscribe()).filter_map(move |statuses| {
            // A service that is not there may come to be.
            let status = statuses.get(&service).copied().unwrap_or(ServingStatus::ServiceUnknown);
            (last.replace(status) != Some(status)).then(|| Ok(HealthCheckResponse { status: status.into() }))
        });
        Ok(Response::new(Box::pin(changes)))
    }
}

#[cfg(test)]
mod tests {
    use super::{health_server::Health as _, *};

    fn ask(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: service.to_owned() })
    }

    #[tokio::test]
    async fn a_service_that_nobody_knows_is_watched_until_it_is_there() {
        let health = Health::new();
        health.set([("", true)]);
        assert_eq!(health.check(ask("late")).await.unwrap_err().code(), tonic::Code::NotFound);
        let mut watch = health.watch(ask("late")).await.unwrap().into_inner();
        let mut next = async || watch.next().await.unwrap().unwrap().status();
        assert_eq!(next().await, ServingStatus::ServiceUnknown);
        // What others do is no news of this one.
        health.set([("", false)]);
        health.set([("late", true)]);
        assert_eq!(next().await, ServingStatus::Serving);
        health.set([("late", false)]);
        assert_eq!(next().await, ServingStatus::NotServing);
        assert_eq!(health.check(ask("late")).await.unwrap().into_inner().status(), ServingStatus::NotServing);
    }
}
