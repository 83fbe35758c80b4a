//! What a service hands to the server.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use tonic::service::RoutesBuilder;

use crate::gate::{Generation, Marks};

type Register = Box<dyn FnOnce(&mut RoutesBuilder) + Send>;
type Hook = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Whether a component can do its work.
#[derive(Clone)]
pub(crate) enum Ready {
    Always(bool),
    While(Arc<dyn Fn() -> bool + Send + Sync>),
}

impl Ready {
    pub(crate) fn get(&self) -> bool {
        match self {
            Self::Always(ready) => *ready,
            Self::While(ready) => ready(),
        }
    }
}

/// A service, ready to be served.
pub struct Component {
    pub(crate) name: &'static str,
    pub(crate) ready: Ready,
    pub(crate) marks: Marks,
    pub(crate) register: Option<Register>,
    pub(crate) on_drain: Option<Hook>,
    pub(crate) on_stop: Option<Hook>,
}

impl Component {
    /// A component under its full gRPC name, such as "quintet.text.v1.TextService".
    pub fn new(name: &'static str) -> Self {
        Self { name, ready: Ready::Always(true), marks: Marks::default(), register: None, on_drain: None, on_stop: None }
    }

    /// What to register.
    #[must_use]
    pub fn register(self, register: impl FnOnce(&mut RoutesBuilder) + Send + 'static) -> Self {
        Self { register: Some(Box::new(register)), ..self }
    }

    /// Whether it can do its work: a service that is left without a model is registered but not ready.
    #[must_use]
    pub fn ready(self, ready: bool) -> Self {
        Self { ready: Ready::Always(ready), ..self }
    }

    /// The same, asked again and again: for a service whose models come and go.
    #[must_use]
    pub fn ready_while(self, ready: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { ready: Ready::While(Arc::new(ready)), ..self }
    }

    /// Methods that change what the process is. Only those who may administrate it may call them.
    #[must_use]
    pub fn admin(mut self, methods: &[&'static str]) -> Self {
        self.marks.admin = methods.to_vec();
        self
    }

    /// Methods whose answers may be kept: equal requests have equal answers for as long as `generation` gives the same
    /// number.
    #[must_use]
    pub fn cacheable(mut self, methods: &[&'static str], generation: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.marks.cacheable = methods.to_vec();
        self.marks.generation = Some(Generation(Arc::new(generation)));
        self
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
        f.debug_struct("Component").field("name", &self.name).field("ready", &self.ready.get()).finish_non_exhaustive()
    }
}
