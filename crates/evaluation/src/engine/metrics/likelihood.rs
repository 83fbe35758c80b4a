//! Perplexity and bits per byte from log-likelihoods.

/// What a model finds of one document.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Document {
    /// The sum of its tokens' natural log-probabilities.
    pub log_likelihood: f64,
    /// How many tokens were scored.
    pub tokens: u64,
    /// Its length in bytes of UTF-8.
    pub bytes: u64,
}

/// exp(−Σ log-likelihood / Σ tokens).
pub fn perplexity<'a>(documents: impl IntoIterator<Item = &'a Document>) -> f64 {
    let (log_likelihood, tokens) =
        documents.into_iter().fold((0.0, 0), |(sum, tokens), document| (sum + document.log_likelihood, tokens + document.tokens));
    (-log_likelihood / tokens as f64).exp()
}

/// −Σ log-likelihood / (Σ bytes · ln 2).
pub fn bits_per_byte<'a>(documents: impl IntoIterator<Item = &'a Document>) -> f64 {
    let (log_likelihood, bytes) =
        documents.into_iter().fold((0.0, 0), |(sum, bytes), document| (sum + document.log_likelihood, bytes + document.bytes));
    -log_likelihood / (bytes as f64 * std::f64::consts::LN_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coin_has_a_perplexity_of_two() {
        let document = Document { log_likelihood: -10.0 * std::f64::consts::LN_2, tokens: 10, bytes: 5 };
        assert!((perplexity([&document, &document]) - 2.0).abs() < 1e-12);
        assert!((bits_per_byte([&document]) - 2.0).abs() < 1e-12);
    }
}
