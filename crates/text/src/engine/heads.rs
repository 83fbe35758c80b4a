//! How many threads a decoder's attention may have.

use quintet_onnx::{ModelFolder, Runtime};
use serde::Deserialize;

use super::read_json;
use crate::Error;

/// What `config.json` says, in the names of Hugging Face's families.
#[derive(Default, Deserialize)]
struct ConfigJson {
    // BART's, which counts its encoder's apart.
    decoder_attention_heads: Option<usize>,
    num_attention_heads: Option<usize>,
    // GPT-2's.
    n_head: Option<usize>,
    // T5's.
    num_heads: Option<usize>,
}

/// What `genai_config.json` says, in onnxruntime-genai's names.
#[derive(Deserialize)]
struct GenaiConfig {
    model: GenaiModel,
}

#[derive(Deserialize)]
struct GenaiModel {
    decoder: GenaiDecoder,
}

#[derive(Deserialize)]
struct GenaiDecoder {
    num_attention_heads: Option<usize>,
}

impl ConfigJson {
    fn query_heads(&self) -> Option<usize> {
        self.decoder_attention_heads.or(self.num_attention_heads).or(self.n_head).or(self.num_heads)
    }
}

const CONFIG: &str = "config.json";
const GENAI: &str = "genai_config.json";

/// The folder, with its graphs kept to as many threads as its decoder has query heads.
///
/// Where the rows of a step times their heads are fewer than the threads, and a row is longer than a block of keys (512 tokens with heads
/// of 64 and a second-level cache of 1 MiB), ONNX Runtime's `GroupQueryAttention` takes each block by itself and adds them up at the end.
/// So a row alone would have other last bits than in company. With as many threads as heads at most, no step is so small.
pub(super) fn threads_within_heads(folder: &ModelFolder, runtime: &Runtime) -> Result<ModelFolder, Error> {
    let Some(heads) = query_heads(folder)? else {
        tracing::warn!(
            model = folder.id(),
            "nothing says how many query heads it has: with more threads than heads, last bits of long texts depend on what runs beside \
             them; give it num_attention_heads in its config.json, or as many serving.threads at most"
        );
        return Ok(folder.clone());
    };
    let kept = folder.with_threads_at_most(heads, runtime);
    if kept.manifest.serving.threads != folder.manifest.serving.threads {
        tracing::info!(
            model = folder.id(),
            threads = heads,
            "it runs on threads of its own, one for each query head: with more, last bits of long texts would depend on what runs beside \
             them; text.exact = false lifts that"
        );
    }
    Ok(kept)
}

fn query_heads(folder: &ModelFolder) -> Result<Option<usize>, Error> {
    let heads = if folder.has(GENAI) {
        read_json::<GenaiConfig>(folder, GENAI)?.model.decoder.num_attention_heads
    } else {
        let config: ConfigJson = if folder.has(CONFIG) { read_json(folder, CONFIG)? } else { ConfigJson::default() };
        config.query_heads()
    };
    Ok(heads.filter(|heads| *heads > 0))
}

#[cfg(test)]
mod tests {
    use super::ConfigJson;

    #[test]
    fn every_family_says_its_query_heads_in_its_own_name() {
        for (config, heads) in [
            (r#"{"num_attention_heads": 9, "num_key_value_heads": 3}"#, Some(9)),
            (r#"{"n_head": 12, "n_layer": 6}"#, Some(12)),
            (r#"{"num_heads": 8, "num_decoder_layers": 6}"#, Some(8)),
            (r#"{"decoder_attention_heads": 4, "encoder_attention_heads": 2, "num_attention_heads": 2}"#, Some(4)),
            ("{}", None),
        ] {
            assert_eq!(serde_json::from_str::<ConfigJson>(config).unwrap().query_heads(), heads, "{config}");
        }
    }
}
