//! Measurements that a process makes one after the other, with room for what they need and no more.

/// The room, and what is measured in it.
pub(crate) struct Group {
    /// Texts at once.
    pub(crate) slots: usize,
    /// Tokens of a text.
    pub(crate) context: usize,
    pub(crate) measurements: &'static [&'static str],
}

/// A mixed request has at most 256 + 128 tokens, the longest context is 1,024 + 48; Qwen's tokens of the same prompts are up to a quarter more.
pub(crate) const GROUPS: [Group; 3] = [
    Group { slots: 1, context: 1152, measurements: &["one", "context-64", "context-512", "context-1024", "prefix"] },
    Group { slots: 8, context: 448, measurements: &["eight"] },
    Group { slots: 32, context: 448, measurements: &["thirtytwo"] },
];

impl Group {
    /// Those that `--only:NAME` asks for.
    pub(crate) fn asked(&self, only: Option<&str>) -> Vec<&'static str> {
        let asked = |name: &&str| only.is_none_or(|only| name.split('-').next() == Some(only));
        self.measurements.iter().copied().filter(asked).collect()
    }
}
