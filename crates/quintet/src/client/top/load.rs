//! A server's load over an interval.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{change::Change, histogram::Histogram};

/// What the server did in an interval, and what it holds at its end. What it does not measure is `None` or not there.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Load {
    /// Where the server is.
    pub(super) address: String,
    /// How long the interval was.
    pub(super) seconds: f64,
    /// Calls in progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) in_flight: Option<f64>,
    /// Open connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connections: Option<f64>,
    /// Calls that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests_per_second: Option<f64>,
    /// Calls that ended otherwise than `OK`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) errors_per_second: Option<f64>,
    /// Share, 0 to 1, of answers that came from the response cache; of those that may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_hit_share: Option<f64>,
    /// Tokens encoded, decoded and counted, by operation.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tokenization_tokens_per_second: BTreeMap<String, f64>,
    /// Power by processor package or GPU.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) watts: BTreeMap<String, f64>,
    /// Memory in use by GPU.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) device_memory_bytes: BTreeMap<String, f64>,
    /// Methods, busiest first.
    pub(super) rpcs: Vec<Rpc>,
    /// Models, busiest first.
    pub(super) models: Vec<Model>,
}

/// A method.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Rpc {
    /// With its package.
    pub(super) service: String,
    pub(super) method: String,
    pub(super) requests_per_second: f64,
    pub(super) errors_per_second: f64,
    /// How long calls took, streams to their end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p99_ms: Option<f64>,
}

/// A model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Model {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) batches_per_second: Option<f64>,
    /// Their mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rows_per_batch: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rows_per_second: Option<f64>,
    /// Requests that wait for a batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queue_depth: Option<f64>,
    /// How long requests waited for a batch, or for a slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queue_p99_ms: Option<f64>,
    /// How long batches ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) run_mean_ms: Option<f64>,
    /// Requests whose work was saved, of all stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reclaimed_per_second: Option<f64>,
    /// Compute that was saved so: seconds per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reclaimed_seconds_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prompt_tokens_per_second: Option<f64>,
    /// Tokens generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tokens_per_second: Option<f64>,
    /// Sequences that are being generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) slots_busy: Option<f64>,
    /// From a request to its first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_token_p50_ms: Option<f64>,
}

const MS: f64 = 1e3;

impl Load {
    /// The load of the server at an address, between two readings.
    pub(super) fn new(address: &str, change: Change<'_>) -> Self {
        let total = |name: &str| change.rates(name, []).into_values().next();
        let hits = total("quintet_cache_hits_total");
        let misses = total("quintet_cache_misses_total");
        let answers = hits.unwrap_or(0.0) + misses.unwrap_or(0.0);
        Self {
            address: address.to_owned(),
            seconds: change.seconds,
            in_flight: change.gauges("quintet_rpc_in_flight", []).into_values().next(),
            connections: change.gauges("quintet_connections", []).into_values().next(),
            requests_per_second: total("quintet_rpc_requests_total"),
            errors_per_second: change.rates_where("quintet_rpc_requests_total", [], |labels| !is_ok(labels)).into_values().next(),
            cache_hit_share: (answers > 0.0).then(|| hits.unwrap_or(0.0) / answers),
            tokenization_tokens_per_second: named(change.rates("quintet_tokenization_tokens_total", ["operation"])),
            watts: named(change.rates("quintet_energy_joules_total", ["source"])),
            device_memory_bytes: named(change.gauges("quintet_device_memory_bytes", ["source"])),
            rpcs: rpcs(change),
            models: models(change),
        }
    }
}

fn is_ok(labels: &BTreeMap<String, String>) -> bool {
    labels.get("code").is_some_and(|code| code == "OK")
}

fn named(values: BTreeMap<[&str; 1], f64>) -> BTreeMap<String, f64> {
    values.into_iter().map(|([name], value)| (name.to_owned(), value)).collect()
}

fn rpcs(change: Change<'_>) -> Vec<Rpc> {
    let by = ["service", "method"];
    let requests = change.rates("quintet_rpc_requests_total", by);
    let errors = change.rates_where("quintet_rpc_requests_total", by, |labels| !is_ok(labels));
    let durations = change.histograms("quintet_rpc_duration_seconds", by);
    let mut rpcs: Vec<Rpc> = requests
        .into_iter()
        .map(|(key, requests_per_second)| {
            let quantile = |q| Some(durations.get(&key)?.quantile(q)? * MS);
            Rpc {
                service: key[0].to_owned(),
                method: key[1].to_owned(),
                requests_per_second,
                errors_per_second: errors.get(&key).copied().unwrap_or_default(),
                p50_ms: quantile(0.5),
                p99_ms: quantile(0.99),
            }
        })
        .collect();
    rpcs.sort_by(|a, b| b.requests_per_second.total_cmp(&a.requests_per_second));
    rpcs
}

fn models(change: Change<'_>) -> Vec<Model> {
    let by = ["model"];
    let of = |kind: &'static str| move |labels: &BTreeMap<String, String>| labels.get("kind").is_some_and(|it| it == kind);
    let rows = change.histograms("quintet_batch_rows_size", by);
    let run = change.histograms("quintet_batch_run_seconds", by);
    let batch_queue = change.histograms("quintet_batch_queue_seconds", by);
    let text_queue = change.histograms("quintet_text_queue_seconds", by);
    let first_token = change.histograms("quintet_text_time_to_first_token_seconds", by);
    let depth = change.gauges("quintet_batch_queue_depth", by);
    let slots = change.gauges("quintet_text_slots_busy", by);
    let reclaimed = change.rates("quintet_batch_reclaimed_requests_total", by);
    let reclaimed_seconds = change.rates("quintet_batch_reclaimed_seconds", by);
    let prompt = change.rates_where("quintet_text_tokens_total", by, of("prompt"));
    let completion = change.rates_where("quintet_text_tokens_total", by, of("completion"));
    let names: BTreeSet<_> = [&rows, &run, &batch_queue, &text_queue, &first_token]
        .into_iter()
        .flat_map(BTreeMap::keys)
        .chain([&depth, &slots, &reclaimed, &reclaimed_seconds, &completion].into_iter().flat_map(BTreeMap::keys))
        .copied()
        .collect();
    let mut models: Vec<Model> = names
        .into_iter()
        .map(|name| Model {
            name: name[0].to_owned(),
            batches_per_second: rows.get(&name).map(|rows| rows.count / change.seconds),
            rows_per_batch: rows.get(&name).and_then(Histogram::mean),
            rows_per_second: rows.get(&name).map(|rows| rows.sum / change.seconds),
            queue_depth: depth.get(&name).copied(),
            queue_p99_ms: batch_queue.get(&name).or(text_queue.get(&name)).and_then(|queue| Some(queue.quantile(0.99)? * MS)),
            run_mean_ms: run.get(&name).and_then(|run| Some(run.mean()? * MS)),
            reclaimed_per_second: reclaimed.get(&name).copied(),
            reclaimed_seconds_per_second: reclaimed_seconds.get(&name).copied(),
            prompt_tokens_per_second: prompt.get(&name).copied(),
            tokens_per_second: completion.get(&name).copied(),
            slots_busy: slots.get(&name).copied(),
            first_token_p50_ms: first_token.get(&name).and_then(|first| Some(first.quantile(0.5)? * MS)),
        })
        .collect();
    let work = |model: &Model| model.rows_per_second.unwrap_or(0.0).max(model.tokens_per_second.unwrap_or(0.0));
    models.sort_by(|a, b| work(b).total_cmp(&work(a)));
    models
}
