use std::{collections::BTreeMap, sync::Arc};

use quintet_open_inference::{Graph, Hosted};

use super::{TokensCell, decoder::Decoder, encoder::Encoder, seq2seq::Seq2Seq};

/// A loaded model, by its family.
#[derive(Debug)]
pub enum Engine {
    /// GPT and the like.
    Decoder(Decoder),
    /// T5 and the like.
    Seq2Seq(Seq2Seq),
    /// BERT and the like.
    Encoder(Encoder),
}

impl Hosted for Engine {
    fn graphs(&self) -> &[Graph] {
        match self {
            Self::Decoder(decoder) => decoder.graphs(),
            Self::Seq2Seq(pair) => pair.graphs(),
            Self::Encoder(encoder) => encoder.graphs(),
        }
    }
}

impl Engine {
    /// How many nodes of its graphs each provider runs.
    pub fn provider_nodes(&self) -> &BTreeMap<String, u32> {
        match self {
            Self::Decoder(decoder) => &decoder.info().graph.provider_nodes,
            Self::Seq2Seq(pair) => &pair.info().provider_nodes,
            Self::Encoder(encoder) => encoder.provider_nodes(),
        }
    }

    /// The encoder, if it is one.
    pub fn encoder(&self) -> Option<&Encoder> {
        match self {
            Self::Encoder(encoder) => Some(encoder),
            Self::Decoder(_) | Self::Seq2Seq(_) => None,
        }
    }

    /// Its tokens, if it generates text.
    pub fn tokens(&self) -> Option<&TokensCell> {
        match self {
            Self::Decoder(decoder) => Some(decoder.tokens()),
            Self::Seq2Seq(pair) => Some(pair.tokens()),
            Self::Encoder(_) => None,
        }
    }

    /// The tokens that end a text.
    pub fn eos(&self) -> Arc<[u32]> {
        match self {
            Self::Decoder(decoder) => Arc::clone(&decoder.info().eos),
            Self::Seq2Seq(pair) => Arc::clone(&pair.info().eos),
            Self::Encoder(_) => Arc::default(),
        }
    }

    /// The most tokens of a sequence, an input or a text.
    pub fn max_tokens(&self) -> usize {
        match self {
            Self::Decoder(decoder) => decoder.info().context,
            Self::Seq2Seq(pair) => pair.info().max_tokens,
            Self::Encoder(encoder) => encoder.max_tokens(),
        }
    }
}
