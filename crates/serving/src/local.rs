//! Calls from one service to another in the same process.
//!
//! They go through generated clients, the contracts' messages and the gate, as between processes; but what a client sends is handed
//! to the services' router as it is, and runs as a part of the call that caused it. So they need no port, no certificate, no
//! connection and no task of their own, and still work while the listener drains.

use axum::Router;
use tokio::sync::watch;
use tonic::{Status, body::Body};

/// The services of this process, for each other: closed before the server serves, and again when this is dropped.
///
/// Services hold ways to others, and so to this. That it closes lets them go.
#[derive(Debug)]
pub(crate) struct Services(watch::Sender<Option<Router>>);

impl Services {
    pub(crate) fn closed() -> Self {
        Self(watch::channel(None).0)
    }

    pub(crate) fn open(&self, router: Router) {
        self.0.send_replace(Some(router));
    }

    /// A way to them. Calls wait until they are open.
    pub(crate) fn way(&self) -> Way {
        Way(self.0.subscribe())
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Way(watch::Receiver<Option<Router>>);

impl Way {
    pub(crate) async fn call(mut self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        let open = self.0.borrow().clone();
        let router = if let Some(router) = open {
            router
        } else {
            let opened = self.0.wait_for(Option::is_some).await.ok().and_then(|router| router.clone());
            opened.ok_or_else(|| Status::unavailable("the server has stopped"))?
        };
        let response = tower::ServiceExt::oneshot(router, request).await;
        Ok(response.unwrap_or_else(|never| match never {}).map(Body::new))
    }
}
