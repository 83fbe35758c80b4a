//! What happens to every call before and after its handler: it is named, checked, let in, given its context, timed and
//! counted, and ended when its time is over.

mod admission;
mod body;
mod cache;
mod methods;
mod undecodable;

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, HeaderValue};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    context::{self, Context, ORDINARY, PRIORITY, REQUEST_ID, TENANT},
    error::{fresh_id, status},
    security::Guard,
    telemetry,
};
use body::{Answering, Arriving, Call, Ends};
pub(crate) use {
    admission::Admission,
    cache::Cache,
    methods::{Generation, Marks, Methods},
};

/// How long before its deadline a call is ended.
const AHEAD: Duration = Duration::from_millis(2);

/// The longest request id that a client may set.
const MAX_ID: usize = 128;

/// What is served to those who do not speak gRPC.
const PAGES: [&str; 2] = ["/metrics", "/healthz"];

/// The gate of a listener.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) methods: Arc<Methods>,
    pub(crate) in_progress: Arc<AtomicUsize>,
    /// Who may call what, and how many at once; `None` between services of one process: whoever caused the call has
    /// been let in already.
    pub(crate) public: Option<Public>,
    pub(crate) cache: Option<Cache>,
    /// Ends operators' streams, when the drain begins.
    pub(crate) draining: CancellationToken,
    /// Ends what is left, when the drain's limit has passed.
    pub(crate) cut: CancellationToken,
    /// How long a client may send nothing of a request that it has begun.
    pub(crate) patience: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct Public {
    pub(crate) guard: Guard,
    pub(crate) admission: Admission,
}

/// A little before a deadline: at the deadline the library that frames calls ends them, too, and says CANCELLED; nor would an answer
/// that leaves then be there in time.
fn ahead(deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(Instant::now());
    deadline.checked_sub((left / 8).min(AHEAD)).unwrap_or(deadline)
}

pub(crate) async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    if !is_grpc(request.headers()) {
        return gate.page(request, next).await;
    }
    let method = Arc::clone(gate.methods.find(request.uri().path()));
    let headers = request.headers();
    let id = headers.get(REQUEST_ID).filter(|id| id.len() <= MAX_ID).and_then(|id| id.to_str().ok());
    let id: Arc<str> = id.map_or_else(|| fresh_id().into(), Into::into);
    let mut context =
        Context { request_id: Arc::clone(&id), deadline: context::deadline(headers), priority: priority(headers), ..Context::default() };
    let span = tracing::info_span!("rpc", service = &*method.service, method = &*method.name, request_id = &*id, tenant = tracing::field::Empty);
    telemetry::continue_trace(&span, headers);
    let mut call = Call::begin(&method, &gate.in_progress, span.clone());

    let admitted = gate.admit(&method, &request, &mut context).map(|place| call.place = place);
    if !context.tenant.is_empty() {
        span.record("tenant", &*context.tenant);
    }
    if let Err(refused) = admitted {
        let mut response = refused.into_http();
        call.note(response.headers());
        set_id(&mut response, &id);
        return response;
    }
    let (cut, cut_is_well) = if method.is_for_operators { (gate.draining.clone(), true) } else { (gate.cut.clone(), false) };
    let ends = Ends { deadline: context.deadline.map(ahead), cut, cut_is_well };
    let request = request.map(|body| Body::new(Arriving::new(body, gate.patience)));
    let handled = context.clone().scope(gate.handle(&method, &context, request, next)).instrument(span.clone());
    let mut response = tokio::select! {
        biased;
        response = handled => response,
        ended = ends.come() => ended.into_http(),
    };
    undecodable::blame_the_client(response.headers_mut());
    call.note(response.headers());
    let mut response = response.map(|body| Body::new(Answering::new(body, call, context, span, ends)));
    set_id(&mut response, &id);
    response
}

fn set_id(response: &mut Response, id: &str) {
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(http::header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn priority(headers: &HeaderMap) -> u8 {
    let given = headers.get(PRIORITY).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<u8>().ok());
    given.map_or(ORDINARY, |priority| priority.clamp(1, 9))
}

impl Gate {
    /// Checks who calls and finds a place for the call, where it needs one.
    fn admit(&self, method: &methods::Method, request: &Request, context: &mut Context) -> Result<Option<admission::Place>, tonic::Status> {
        let Some(Public { guard, admission }) = &self.public else {
            // Only this process can be at the other end.
            context.tenant = request.headers().get(TENANT).and_then(|tenant| tenant.to_str().ok()).unwrap_or_default().into();
            return Ok(None);
        };
        let key = guard.check(&method.service, &method.name, method.is_admin, request.headers()).map_err(|error| status(&error))?;
        if let Some(key) = &key {
            context.tenant = Arc::clone(&key.name);
            context.priority = context.priority.max(key.priority);
            context.best_priority = key.priority;
        }
        // Operators must see in when the server is full.
        if method.is_for_operators {
            return Ok(None);
        }
        admission.admit(&context.tenant, key.as_deref()).map(Some).map_err(|error| status(&error))
    }

    async fn handle(&self, method: &methods::Method, context: &Context, request: Request, next: Next) -> Response {
        match (&self.cache, &method.cache) {
            (Some(cache), Some(generation)) => cache.answer(method, (generation.0)(), context, request, next).await,
            _ => next.run(request).await,
        }
    }

    /// What is not gRPC: pages for operators, and nothing else. A call that does not say what it is would pass by everything
    /// that the gate does.
    async fn page(&self, request: Request, next: Next) -> Response {
        if !PAGES.contains(&request.uri().path()) {
            let mut response = Response::new(Body::from("calls need the content type application/grpc; /metrics and /healthz are pages\n"));
            *response.status_mut() = http::StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        if let Some(Public { guard, .. }) = &self.public
            && request.uri().path() == "/metrics"
            && let Err(refused) = guard.check("metrics", "", false, request.headers())
        {
            let mut response = Response::new(Body::from(format!("{refused}\n")));
            *response.status_mut() = http::StatusCode::UNAUTHORIZED;
            return response;
        }
        next.run(request).await
    }
}

/// Says what the metrics of this module are.
pub(crate) fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!("quintet_rpc_requests_total", "Calls that have ended, by service, method and gRPC code");
    describe_histogram!("quintet_rpc_duration_seconds", Unit::Seconds, "How long calls took, streams to their end");
    describe_gauge!("quintet_rpc_in_flight", "Calls in progress");
    describe_counter!("quintet_cache_hits_total", "Answers that came from the response cache");
    describe_counter!("quintet_cache_misses_total", "Answers that had to be made, of methods whose answers are kept");
    describe_histogram!("quintet_batch_rows_size", "Rows of a batch");
    describe_histogram!("quintet_batch_queue_seconds", Unit::Seconds, "How long a request waited for its batch");
    describe_histogram!("quintet_batch_run_seconds", Unit::Seconds, "How long a batch ran");
    describe_gauge!("quintet_batch_queue_depth", "Requests that wait for a batch");
    describe_counter!(
        "quintet_batch_reclaimed_requests_total",
        "Requests whose work was saved: expired or withdrawn in the queue, or terminated while running"
    );
    describe_gauge!("quintet_batch_reclaimed_seconds", Unit::Seconds, "Compute that was saved so, estimated from the pace of the model");
}
