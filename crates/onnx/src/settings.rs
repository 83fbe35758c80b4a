use serde::Deserialize;

use crate::Provider;

/// The table `[serving]` of a model folder: how this model is run, where that differs from the service's own
/// settings. Everything is optional.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ServingSettings {
    /// Which versions are served, in place of `models.versions`; read from the highest version's folder.
    pub versions: Option<VersionPolicy>,
    /// Copies of the model that run at once: 1 to 64.
    pub instances: Option<usize>,
    /// Threads of each instance; 0 = the pool that all models share.
    pub threads: Option<usize>,
    /// Where the graphs run, in place of `runtime.provider`.
    pub provider: Option<Provider>,
    /// Most rows (for encoders: tokens) that are run together.
    pub max_batch_rows: Option<usize>,
    /// Most rows that may wait.
    pub max_queue_rows: Option<usize>,
    /// The largest share of a batch that may be padding, 0 to 0.9: texts of different length run together then, at the price
    /// of last bits that depend on their neighbours.
    pub max_padding: Option<f64>,
    /// How long the first request of a batch waits for company, in milliseconds.
    pub max_delay_ms: Option<f64>,
    /// Numbers of rows that the model is fastest at, ascending.
    pub preferred_batch_rows: Vec<usize>,
    /// Runs before the model is ready: the golden inputs, repeated to so many rows.
    pub warm_up_rows: Vec<usize>,
    /// The most memory that loading may take, in MiB; a model that takes more is refused.
    pub max_memory_mb: Option<u64>,
}

impl ServingSettings {
    /// These settings, with those that `over` has in their place.
    pub(crate) fn overridden(&self, over: &Self) -> Self {
        let list = |own: &Vec<usize>, over: &Vec<usize>| if over.is_empty() { own.clone() } else { over.clone() };
        Self {
            versions: over.versions.clone().or_else(|| self.versions.clone()),
            instances: over.instances.or(self.instances),
            threads: over.threads.or(self.threads),
            provider: over.provider.or(self.provider),
            max_batch_rows: over.max_batch_rows.or(self.max_batch_rows),
            max_queue_rows: over.max_queue_rows.or(self.max_queue_rows),
            max_padding: over.max_padding.or(self.max_padding),
            max_delay_ms: over.max_delay_ms.or(self.max_delay_ms),
            preferred_batch_rows: list(&self.preferred_batch_rows, &over.preferred_batch_rows),
            warm_up_rows: list(&self.warm_up_rows, &over.warm_up_rows),
            max_memory_mb: over.max_memory_mb.or(self.max_memory_mb),
        }
    }

    /// Every setting that is out of range, in words.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut within = |key: &str, value: Option<usize>, least: usize, most: usize| {
            if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
                faults.push(format!("serving.{key} = {value}: must be {least} to {most}"));
            }
        };
        within("instances", self.instances, 1, 64);
        within("threads", self.threads, 0, 256);
        within("max_batch_rows", self.max_batch_rows, 1, 1 << 20);
        within("max_queue_rows", self.max_queue_rows, 1, 1 << 28);
        self.preferred_batch_rows.iter().for_each(|rows| within("preferred_batch_rows", Some(*rows), 1, 1 << 20));
        self.warm_up_rows.iter().for_each(|rows| within("warm_up_rows", Some(*rows), 1, 4096));
        if !self.preferred_batch_rows.is_sorted() {
            faults.push(format!("serving.preferred_batch_rows = {:?}: must be ascending", self.preferred_batch_rows));
        }
        if let Some(padding) = self.max_padding.filter(|padding| !(0.0..=0.9).contains(padding)) {
            faults.push(format!("serving.max_padding = {padding}: must be 0 to 0.9"));
        }
        if let Some(delay) = self.max_delay_ms.filter(|delay| !(0.0..=10_000.0).contains(delay)) {
            faults.push(format!("serving.max_delay_ms = {delay}: must be 0 to 10000"));
        }
        faults
    }
}

/// Which versions of a model are served.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Spelling")]
pub enum VersionPolicy {
    /// The highest so many: "latest" or "latest:N".
    Latest(usize),
    /// All there are: "all".
    All,
    /// These: a list of versions.
    Listed(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Spelling {
    Word(String),
    List(Vec<String>),
}

impl TryFrom<Spelling> for VersionPolicy {
    type Error = String;

    fn try_from(spelling: Spelling) -> Result<Self, String> {
        match spelling {
            Spelling::List(versions) => Ok(Self::Listed(versions)),
            Spelling::Word(word) => match word.as_str() {
                "latest" => Ok(Self::Latest(1)),
                "all" => Ok(Self::All),
                other => other
                    .strip_prefix("latest:")
                    .and_then(|count| count.parse().ok())
                    .filter(|count| *count > 0)
                    .map(Self::Latest)
                    .ok_or_else(|| format!("versions = {other:?}: must be \"latest\", \"latest:N\", \"all\" or a list of versions")),
            },
        }
    }
}

impl VersionPolicy {
    /// Of versions in ascending order, those to serve.
    pub fn pick<T>(&self, versions: Vec<(String, T)>) -> Vec<(String, T)> {
        match self {
            Self::All => versions,
            Self::Latest(count) => {
                let surplus = versions.len().saturating_sub(*count);
                versions.into_iter().skip(surplus).collect()
            }
            Self::Listed(listed) => versions.into_iter().filter(|(version, _)| listed.contains(version)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ServingSettings, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn policies_are_spelled_and_pick() {
        let versions = || ["1", "2", "10"].map(|version| (version.to_owned(), ())).to_vec();
        for (spelled, picked) in
            [("\"latest\"", "10"), ("\"latest:2\"", "2 10"), ("\"all\"", "1 2 10"), ("[\"1\", \"3\"]", "1"), ("\"latest:9\"", "1 2 10")]
        {
            let policy = parse(&format!("versions = {spelled}")).unwrap().versions.unwrap();
            let names: Vec<String> = policy.pick(versions()).into_iter().map(|(version, ())| version).collect();
            assert_eq!(names.join(" "), picked, "{spelled}");
        }
        for wrong in ["\"newest\"", "\"latest:0\"", "\"latest:x\"", "3"] {
            assert!(parse(&format!("versions = {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let settings = parse("instances = 0\nmax_delay_ms = -1.0\npreferred_batch_rows = [8, 4]").unwrap();
        let faults = settings.validate();
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].contains("serving.instances = 0: must be 1 to 64"));
        assert!(parse("instance = 1").is_err());
    }
}
