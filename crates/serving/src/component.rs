//! What a service hands to the server.

use std::{fmt, future::Future, pin::Pin};

use tonic::service::RoutesBuilder;

type Register = Box<dyn FnOnce(&mut RoutesBuilder) + Send>;
type Hook = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// A service, ready to be served.
pub struct Component {
    pub(crate) name: &'static str,
    pub(crate) ready: bool,
    pub(crate) register: Option<Register>,
    pub(crate) on_drain: Option<Hook>,
    pub(crate) on_stop: Option<Hook>,
}

impl Component {
    /// A component under its full gRPC name, such as "quintet.text.v1.TextService".
    pub fn new(name: &'static str) -> Self {
        Self { name, ready: true, register: None, on_drain: None, on_stop: None }
    }

    /// What to register.
    #[must_use]
    pub fn register(self, register: impl FnOnce(&mut RoutesBuilder) + Send + 'static) -> Self {
        Self { register: Some(Box::new(register)), ..self }
    }

    /// Whether it can do its work: a service that is left without a model is registered but not ready.
    #[must_use]
    pub fn ready(self, ready: bool) -> Self {
        Self { ready, ..self }
    }

    /// What to do when the process begins to drain.
    #[must_use]
    pub fn on_drain<F: Future<Output = ()> + Send + 'static>(self, hook: impl FnOnce() -> F + Send + 'static) -> Self {
        Self { on_drain: Some(Box::new(move || Box::pin(hook()))), ..self }
    }

    /// What to do when all calls have ended.
    #[must_use]
    pub fn on_stop<F: Future<Output = ()> + Send + 'static>(self, hook: impl FnOnce() -> F + Send + 'static) -> Self {
        Self { on_stop: Some(Box::new(move || Box::pin(hook()))), ..self }
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component").field("name", &self.name).field("ready", &self.ready).finish_non_exhaustive()
    }
}
