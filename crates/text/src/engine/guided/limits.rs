//! How much a guide may cost.

use llguidance::api::ParserLimits;

/// The most that a guide may be and cost. The defaults hold every guide of an honest size; each was set where hostile input of that
/// size still takes about a second to build, and a mask some tens of milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a schema, and of all choices together.
    pub max_bytes: usize,
    /// Bytes of a grammar. Less than a schema's: the cost of a long terminal grows with the square of its length.
    pub max_grammar_bytes: usize,
    /// Bytes of a regular expression, and of each pattern in a schema, for the same reason.
    pub max_regex_bytes: usize,
    /// How deep the brackets of a schema may nest.
    pub max_depth: usize,
    /// The most keys under one `properties`. An object with more optional keys than this outgrows `max_items_in_row` at its first key.
    pub max_properties: usize,
    /// The most names in one `required`.
    pub max_required: usize,
    /// The most patterns under `patternProperties` in the whole schema: each is intersected with each other.
    pub max_pattern_properties: usize,
    /// The most keys in a schema with `minProperties` or `maxProperties`: its grammar grows with their square.
    pub max_counted_properties: usize,
    /// Items that the Earley parser may hold at one position.
    pub max_items_in_row: usize,
    /// Items it may make for one mask.
    pub step_max_items: usize,
    /// Work on the lexer while it is built.
    pub initial_lexer_fuel: u64,
    /// Work on the lexer for one mask.
    pub step_lexer_fuel: u64,
    /// States of the lexer, at one or two kilobytes each: what bounds a constraint's memory.
    pub max_lexer_states: usize,
    /// Symbols of the grammar.
    pub max_grammar_size: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 10,
            max_grammar_bytes: 16 << 10,
            max_regex_bytes: 4 << 10,
            max_depth: 64,
            max_properties: 450,
            max_required: 1000,
            max_pattern_properties: 32,
            max_counted_properties: 32,
            max_items_in_row: 2000,
            step_max_items: 50_000,
            initial_lexer_fuel: 400_000,
            step_lexer_fuel: 200_000,
            max_lexer_states: 25_000,
            max_grammar_size: 100_000,
        }
    }
}

impl Limits {
    pub(super) fn parser(&self) -> ParserLimits {
        ParserLimits {
            max_items_in_row: self.max_items_in_row,
            initial_lexer_fuel: self.initial_lexer_fuel,
            step_lexer_fuel: self.step_lexer_fuel,
            step_max_items: self.step_max_items,
            max_lexer_states: self.max_lexer_states,
            max_grammar_size: self.max_grammar_size,
            // It costs once what masks would cost at every step, and its own fuel bounds it.
            precompute_large_lexemes: true,
            // Otherwise an error carries the parser's state and the text so far.
            verbose_errors: false,
        }
    }
}
