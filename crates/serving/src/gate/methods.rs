//! Every method that is served, and its metrics. Labels come from here and never from a client.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use metrics::{Counter, Histogram, counter, histogram};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;

/// A served method.
#[derive(Debug)]
pub(crate) struct Method {
    pub(crate) service: Arc<str>,
    pub(crate) name: Arc<str>,
    /// Whether it changes what the process is: only those with the admin scope may call it.
    pub(crate) is_admin: bool,
    /// Whether it is for operators: never refused because the server is full, and over when the drain begins.
    pub(crate) is_for_operators: bool,
    /// Whether equal requests have equal answers until the service's generation changes.
    pub(crate) cache: Option<Generation>,
    codes: [OnceLock<Counter>; 17],
    duration: OnceLock<Histogram>,
}

/// A number that changes when a service's answers may change.
#[derive(Clone)]
pub(crate) struct Generation(pub(crate) Arc<dyn Fn() -> u64 + Send + Sync>);

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Generation")
    }
}

impl Method {
    fn new(service: &str, name: &str) -> Self {
        Self {
            service: service.into(),
            name: name.into(),
            is_admin: false,
            is_for_operators: service.starts_with("grpc."),
            cache: None,
            codes: [const { OnceLock::new() }; 17],
            duration: OnceLock::new(),
        }
    }

    /// A call has ended.
    pub(crate) fn ended(&self, code: Code, after: Duration) {
        let (service, method) = (self.service.to_string(), self.name.to_string());
        if let Some(counted) = self.codes.get(code as usize) {
            let (service, method) = (service.clone(), method.clone());
            counted
                .get_or_init(|| counter!("quintet_rpc_requests_total", "service" => service, "method" => method, "code" => code_name(code)))
                .increment(1);
        }
        self.duration.get_or_init(|| histogram!("quintet_rpc_duration_seconds", "service" => service, "method" => method)).record(after);
    }
}

/// The methods by path.
#[derive(Debug)]
pub(crate) struct Methods {
    by_path: HashMap<String, Arc<Method>>,
    unknown: Arc<Method>,
}

/// What a component says of some of its methods.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    pub(crate) admin: Vec<&'static str>,
    pub(crate) cacheable: Vec<&'static str>,
    pub(crate) generation: Option<Generation>,
}

impl Methods {
    /// The methods of `services`, as the encoded descriptors name them, with what their components say of them.
    pub(crate) fn new(descriptors: &[&[u8]], services: &[(&'static str, Marks)]) -> Self {
        let mut by_path = HashMap::new();
        let sets = descriptors.iter().filter_map(|bytes| FileDescriptorSet::decode(*bytes).ok());
        for file in sets.flat_map(|set| set.file) {
            for service in &file.service {
                let full = format!("{}.{}", file.package(), service.name());
                let marks = services.iter().find(|(name, _)| *name == full).map(|(_, marks)| marks);
                for method in &service.method {
                    let mut known = Method::new(&full, method.name());
                    if let Some(marks) = marks {
                        known.is_admin = marks.admin.contains(&method.name());
                        known.cache = marks.generation.clone().filter(|_| marks.cacheable.contains(&method.name()));
                    }
                    by_path.insert(format!("/{full}/{}", method.name()), Arc::new(known));
                }
            }
        }
        Self { by_path, unknown: Arc::new(Method::new("unknown", "unknown")) }
    }

    pub(crate) fn find(&self, path: &str) -> &Arc<Method> {
        self.by_path.get(path).unwrap_or(&self.unknown)
    }
}

pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
