use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::calls::Watched;
use crate::error::{Kind, ServiceError, status};

/// Calls in progress over all services, bounded.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    places: Arc<Semaphore>,
    limit: usize,
}

impl Admission {
    pub(crate) fn new(limit: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(limit)), limit }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the server is full: {0} calls are in progress")]
struct Full(usize);

impl ServiceError for Full {
    fn kind(&self) -> Kind {
        Kind::ResourceExhausted { retry_after: Duration::from_millis(500) }
    }
    fn reason(&self) -> &'static str {
        "SERVER_FULL"
    }
}

/// Lets a call in while there is room, and holds its place until its answer has been sent or dropped.
pub(crate) async fn admit(State(admission): State<Admission>, request: Request, next: Next) -> Response {
    // Operators must see in when the server is full.
    let path = request.uri().path();
    if path.starts_with("/grpc.") || path == "/metrics" || path == "/healthz" {
        return next.run(request).await;
    }
    let Ok(place) = Arc::clone(&admission.places).try_acquire_owned() else {
        return status(&Full(admission.limit)).into_http();
    };
    next.run(request).await.map(|body| Body::new(Watched::new(body, Place(place))))
}

/// A call's place among those in progress: free again when dropped.
struct Place(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl super::calls::Watch for Place {}
