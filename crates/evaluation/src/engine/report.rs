use std::{borrow::Cow, collections::BTreeMap};

/// A measured number with all that is needed to measure it again.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its value.
    pub value: f64,
    /// Its interval, where one can be given.
    pub interval: Option<Interval>,
    /// The definition: `key:value` pairs joined by `|`.
    pub signature: String,
    /// How many samples it was measured on.
    pub sample_size: usize,
    /// The seed of everything that was drawn.
    pub seed: u64,
    /// Whether a larger value is better.
    pub higher_is_better: bool,
    /// What it was measured with, to its SHA-256 in hexadecimal.
    pub measured_with: BTreeMap<String, String>,
}

/// A confidence interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub lower: f64,
    /// The upper end.
    pub upper: f64,
    /// The confidence level.
    pub level: f64,
    /// How it was made.
    pub method: Cow<'static, str>,
}

/// A signature: the metric's parameters and the program's version.
pub(crate) fn signature(parameters: &[(&str, String)]) -> String {
    let version = ("version", concat!("quintet-", env!("CARGO_PKG_VERSION")).to_owned());
    parameters.iter().chain([&version]).map(|(key, value)| format!("{key}:{value}")).collect::<Vec<_>>().join("|")
}
