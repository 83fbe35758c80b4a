//! Answers that are kept: off unless `server.cache.bytes` says otherwise.
//!
//! The key is a hash of everything that the answer depends on: the method, the request's bytes and encodings, the tenant,
//! and the service's generation, which changes with every model that comes or goes. Only whole, small answers with the
//! code OK are kept, and only of methods that their component says depend on nothing else.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::Request,
    middleware::Next,
    response::Response,
};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, LengthLimitError, Limited, StreamBody};
use metrics::counter;
use quick_cache::{Weighter, sync::Cache as Kept};
use sha2::{Digest, Sha256};

use super::methods::Method;
use crate::context::Context;

#[derive(Clone, Debug)]
pub(crate) struct Cache {
    kept: Arc<Kept<[u8; 32], Answer, Size>>,
    largest: usize,
    largest_request: usize,
}

#[derive(Clone, Debug)]
struct Answer {
    headers: HeaderMap,
    data: Bytes,
    trailers: HeaderMap,
}

#[derive(Clone, Debug)]
struct Size;

impl Weighter<[u8; 32], Answer> for Size {
    fn weight(&self, _: &[u8; 32], answer: &Answer) -> u64 {
        // The data, and about what the headers and the table take.
        answer.data.len() as u64 + 512
    }
}

impl Cache {
    /// A cache of so many bytes. Answers beyond a sixteenth of it are not kept.
    pub(crate) fn new(bytes: u64, largest_request: usize) -> Self {
        let items = usize::try_from(bytes / 4096).unwrap_or(usize::MAX).max(16);
        Self { kept: Arc::new(Kept::with_weighter(items, bytes, Size)), largest: usize::try_from(bytes / 16).unwrap_or(usize::MAX), largest_request }
    }

    /// Answers from what is kept, or calls the handler and keeps its answer.
    pub(crate) async fn answer(&self, method: &Method, generation: u64, context: &Context, request: Request, next: Next) -> Response {
        let (parts, body) = request.into_parts();
        // No more is taken in than the handler would take.
        let body = match Limited::new(body, self.largest_request).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                let limit = self.largest_request;
                return tonic::Status::out_of_range(format!("the request is larger than {limit} bytes")).into_http();
            }
            Err(error) => return tonic::Status::cancelled(format!("the request could not be read: {error}")).into_http(),
        };
        let mut hasher = Sha256::new();
        for part in [method.service.as_bytes(), method.name.as_bytes(), context.tenant.as_bytes(), &generation.to_le_bytes()] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        for header in ["grpc-encoding", "grpc-accept-encoding", "content-type"] {
            hasher.update(parts.headers.get(header).map_or(&b""[..], http::HeaderValue::as_bytes));
            hasher.update([0]);
        }
        hasher.update(&body);
        let key: [u8; 32] = hasher.finalize().into();
        let labels = [("service", method.service.to_string()), ("method", method.name.to_string())];
        if let Some(answer) = self.kept.get(&key) {
            counter!("quintet_cache_hits_total", &labels).increment(1);
            return answer.into_response();
        }
        counter!("quintet_cache_misses_total", &labels).increment(1);
        let response = next.run(Request::from_parts(parts, Body::from(body))).await;
        let (parts, body) = response.into_parts();
        if parts.headers.contains_key("grpc-status") {
            return Response::from_parts(parts, body);
        }
        let Ok(collected) = body.collect().await else {
            return tonic::Status::internal("the answer could not be read").into_http();
        };
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let is_ok = trailers.get("grpc-status").is_some_and(|status| status == "0");
        let answer = Answer { headers: parts.headers, data: collected.to_bytes(), trailers };
        if is_ok && answer.data.len() <= self.largest {
            self.kept.insert(key, answer.clone());
        }
        answer.into_response()
    }
}

impl Answer {
    fn into_response(self) -> Response {
        let frames = [Frame::data(self.data), Frame::trailers(self.trailers)].map(Ok::<_, std::convert::Infallible>);
        let mut response = Response::new(Body::new(StreamBody::new(tokio_stream::iter(frames))));
        *response.headers_mut() = self.headers;
        response
    }
}
