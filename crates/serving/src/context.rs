//! What belongs to a call from its first hop to its last: id, deadline, tenant, priority.
//!
//! The gate sets it for each call that comes in, for as long as its handler runs. [`peer`](crate::peer) reads it and
//! sends it on with the calls that the handler makes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderMap;
use tonic::metadata::MetadataMap;

/// The header of the call's id. A client may set one of at most 128 bytes; it is given back with the answer.
pub const REQUEST_ID: &str = "x-request-id";

/// The header of the call's priority: "1" (first) to "9"; 5 where it is not set.
pub const PRIORITY: &str = "x-priority";

/// Between services of one process: for whom the call is made.
pub(crate) const TENANT: &str = "x-quintet-tenant";

/// The priority of a call that does not set one.
pub const ORDINARY: u8 = 5;

tokio::task_local! {
    static PRESENT: Context;
}

/// What belongs to a call.
#[derive(Clone, Debug)]
pub struct Context {
    /// Its id.
    pub request_id: Arc<str>,
    /// When its client stops waiting.
    pub deadline: Option<Instant>,
    /// For whom it is made: the name of the API key; empty without one.
    pub tenant: Arc<str>,
    /// 1 is served first, 9 last.
    pub priority: u8,
    /// The best priority that its key allows.
    pub best_priority: u8,
}

impl Default for Context {
    fn default() -> Self {
        Self { request_id: "".into(), deadline: None, tenant: "".into(), priority: ORDINARY, best_priority: 1 }
    }
}

impl Context {
    /// The context of the call whose handler this is; the default one elsewhere.
    pub fn current() -> Self {
        PRESENT.try_with(Clone::clone).unwrap_or_default()
    }

    /// Runs a future in this context.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        PRESENT.scope(self, future).await
    }

    /// Runs a function in this context.
    pub(crate) fn enter<T>(&self, function: impl FnOnce() -> T) -> T {
        PRESENT.sync_scope(self.clone(), function)
    }

    /// How long its client still waits.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

/// A `grpc-timeout` header's value as a duration: up to 8 digits and a unit.
pub(crate) fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// When a call with these headers, which came now, stops being of use.
pub(crate) fn deadline(headers: &HeaderMap) -> Option<Instant> {
    let timeout = headers.get("grpc-timeout")?.to_str().ok().and_then(parse_timeout)?;
    Instant::now().checked_add(timeout)
}

/// The shorter of the timeout that a request has already and `limit`.
pub(crate) fn shorten(metadata: &MetadataMap, limit: Duration) -> Duration {
    let own = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse_timeout);
    own.map_or(limit, |own| own.min(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_spells_them() {
        for (text, expected) in [("1H", 3_600_000_000u64), ("2M", 120_000_000), ("30S", 30_000_000), ("250m", 250_000), ("7u", 7)] {
            assert_eq!(parse_timeout(text), Some(Duration::from_micros(expected)), "{text}");
        }
        for wrong in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S", "é", "１S"] {
            assert_eq!(parse_timeout(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn the_context_is_the_handlers_own() {
        let context = Context { request_id: "a".into(), ..Context::default() };
        let seen = context.scope(async { Context::current().request_id }).await;
        assert_eq!(&*seen, "a");
        assert_eq!(&*Context::current().request_id, "");
    }
}
