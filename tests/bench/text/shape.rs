//! The three shapes of models; checkpoints.py draws their weights.

/// A decoder, as far as the benchmark needs to know it.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    layers: usize,
    kv_heads: usize,
    head_size: usize,
}

pub(crate) const SHAPES: [Shape; 3] = [
    Shape { name: "llama", what: "Llama of 125 million weights", layers: 12, kv_heads: 4, head_size: 64 },
    Shape { name: "gpt2", what: "GPT-2-small", layers: 12, kv_heads: 12, head_size: 64 },
    Shape { name: "qwen", what: "Qwen2.5-0.5B", layers: 24, kv_heads: 2, head_size: 64 },
];

impl Shape {
    /// Bytes of a token's keys and values, in float32.
    pub(crate) const fn kv_bytes(&self) -> usize {
        2 * self.layers * self.kv_heads * self.head_size * size_of::<f32>()
    }
}
