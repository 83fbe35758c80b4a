//! A load's figures as cells.

use super::load::{Load, Model, Rpc};

/// A table: its first column names the row, the others are figures.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    pub(super) title: &'static str,
    pub(super) header: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

type Column<T> = (&'static str, fn(&T) -> Option<f64>);

const RPCS: [Column<Rpc>; 4] = [
    ("requests/s", |rpc| Some(rpc.requests_per_second)),
    ("errors/s", |rpc| Some(rpc.errors_per_second)),
    ("p50 ms", |rpc| rpc.p50_ms),
    ("p99 ms", |rpc| rpc.p99_ms),
];

const MODELS: [Column<Model>; 10] = [
    ("batches/s", |model| model.batches_per_second),
    ("rows/batch", |model| model.rows_per_batch),
    ("queue", |model| model.queue_depth),
    ("queue p99 ms", |model| model.queue_p99_ms),
    ("run ms", |model| model.run_mean_ms),
    ("rows/s", |model| model.rows_per_second),
    ("reclaimed/s", |model| model.reclaimed_per_second),
    ("tokens/s", |model| model.tokens_per_second),
    ("slots", |model| model.slots_busy),
    ("TTFT p50 ms", |model| model.first_token_p50_ms),
];

/// The tables of a load; one without rows is not there.
pub(super) fn tables(load: &Load) -> Vec<Table> {
    // The package only tells versions apart; the JSON has it.
    let rpc = |rpc: &Rpc| format!("{}/{}", rpc.service.rsplit('.').next().unwrap_or_default(), rpc.method);
    [table("rpcs", "method", &load.rpcs, rpc, &RPCS), table("models", "model", &load.models, |model| model.name.clone(), &MODELS)]
        .into_iter()
        .filter(|table| !table.rows.is_empty())
        .collect()
}

/// A table of the columns that have a figure in any row.
fn table<T>(title: &'static str, first: &'static str, items: &[T], name: impl Fn(&T) -> String, columns: &[Column<T>]) -> Table {
    let columns: Vec<_> = columns.iter().filter(|(_, value)| items.iter().any(|item| value(item).is_some())).collect();
    Table {
        title,
        header: std::iter::once(first).chain(columns.iter().map(|(header, _)| *header)).collect(),
        rows: items.iter().map(|item| std::iter::once(name(item)).chain(columns.iter().map(|(_, value)| figure(value(item)))).collect()).collect(),
    }
}

/// The lines above the tables, in parts: where and how much; then what it costs, where that is measured.
pub(super) fn summary(load: &Load) -> Vec<Vec<String>> {
    let mut first = vec![load.address.clone()];
    let counts = [(load.in_flight, "in flight"), (load.connections, "connections"), (load.requests_per_second, "requests/s")];
    first.extend(counts.into_iter().chain([(load.errors_per_second, "errors/s")]).filter_map(|(value, unit)| said(value?, unit)));
    first.extend(load.cache_hit_share.map(|share| format!("{:.0} % cache hits", share * 100.0)));
    let mut second: Vec<String> = load.watts.iter().map(|(source, watts)| format!("{source} {} W", figure(Some(*watts)))).collect();
    second.extend(load.device_memory_bytes.iter().map(|(source, bytes)| format!("{source} {:.1} GiB", bytes / f64::from(1 << 30))));
    let tokens = &load.tokenization_tokens_per_second;
    second.extend(tokens.iter().map(|(operation, rate)| format!("{operation} {} tokens/s", figure(Some(*rate)))));
    [first, second].into_iter().filter(|parts| !parts.is_empty()).collect()
}

fn said(value: f64, unit: &str) -> Option<String> {
    value.is_finite().then(|| format!("{} {unit}", figure(Some(value))))
}

/// A figure with three digits that count; `-` where there is none.
fn figure(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if !value.is_finite() => "-".to_owned(),
        Some(value) if value == value.trunc() || value.abs() >= 99.95 => format!("{value:.0}"),
        Some(value) if value.abs() >= 9.995 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

/// The load as plain text.
pub(super) fn text(load: &Load) -> String {
    use comfy_table::{CellAlignment, ContentArrangement, presets};
    let summary: Vec<String> = summary(load).iter().map(|parts| parts.join("   ")).collect();
    let mut blocks = vec![summary.join("\n")];
    for table in tables(load) {
        let mut plain = comfy_table::Table::new();
        plain.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(table.header).add_rows(table.rows);
        plain.column_iter_mut().enumerate().for_each(|(index, column)| {
            column.set_padding((0, 2));
            if index > 0 {
                column.set_cell_alignment(CellAlignment::Right);
            }
        });
        blocks.push(plain.trim_fmt());
    }
    blocks.join("\n\n") + "\n"
}
