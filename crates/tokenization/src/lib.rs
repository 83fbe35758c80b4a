//! tokenization
