//! From token vectors to a text's.

use ndarray::{ArrayView2, Axis};
use serde::Deserialize;
use serde_json::Value;

/// How token vectors become a text's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Pooling {
    /// Their mean.
    Mean,
    /// That of the first token.
    Cls,
    /// That of the last token.
    Last,
    /// Of each dimension the largest.
    Max,
}

impl Pooling {
    /// The vector of a text whose tokens have these `[tokens, dimensions]`.
    pub(super) fn pool(self, tokens: &ArrayView2<'_, f32>) -> Vec<f32> {
        let row = |index: usize| tokens.outer_iter().nth(index).map(|row| row.to_vec()).unwrap_or_default();
        match self {
            Self::Mean => tokens.mean_axis(Axis(0)).map(|mean| mean.to_vec()).unwrap_or_default(),
            Self::Cls => row(0),
            Self::Last => row(tokens.nrows().saturating_sub(1)),
            Self::Max => tokens.fold_axis(Axis(0), f32::NEG_INFINITY, |largest, value| largest.max(*value)).to_vec(),
        }
    }
}

/// sentence-transformers' `1_Pooling/config.json`: one name, or, as older versions wrote it, a flag for each.
#[derive(Deserialize)]
pub(super) struct SentencePooling {
    #[serde(default)]
    pooling_mode: Option<Value>,
    #[serde(default = "yes")]
    include_prompt: bool,
    #[serde(flatten)]
    flags: serde_json::Map<String, Value>,
}

fn yes() -> bool {
    true
}

impl SentencePooling {
    /// What it asks for; `Err` says what is not supported.
    pub(super) fn pooling(&self) -> Result<Pooling, String> {
        if !self.include_prompt {
            return Err("include_prompt = false is not supported: a prompt's tokens are pooled with the text's".to_owned());
        }
        let modes: Vec<&str> = match &self.pooling_mode {
            Some(Value::String(mode)) => vec![mode],
            Some(Value::Array(modes)) => modes.iter().filter_map(Value::as_str).collect(),
            _ => {
                let on = self.flags.iter().filter(|(_, on)| on.as_bool() == Some(true));
                on.filter_map(|(flag, _)| flag.strip_prefix("pooling_mode_")).collect()
            }
        };
        match modes[..] {
            ["mean" | "mean_tokens"] => Ok(Pooling::Mean),
            ["cls" | "cls_token"] => Ok(Pooling::Cls),
            ["lasttoken"] => Ok(Pooling::Last),
            ["max" | "max_tokens"] => Ok(Pooling::Max),
            _ => Err(format!("pooling {} is not supported: one of mean, cls, lasttoken and max is", modes.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn asked(config: &str) -> Result<Pooling, String> {
        serde_json::from_str::<SentencePooling>(config).unwrap().pooling()
    }

    #[test]
    fn both_spellings_of_sentence_transformers_are_read() {
        let old = r#"{"word_embedding_dimension": 8, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#;
        assert_eq!(asked(old), Ok(Pooling::Mean));
        assert_eq!(asked(r#"{"embedding_dimension": 8, "pooling_mode": "lasttoken", "include_prompt": true}"#), Ok(Pooling::Last));
        assert_eq!(asked(r#"{"pooling_mode_cls_token": true}"#), Ok(Pooling::Cls));
        for (config, word) in [
            (r#"{"pooling_mode": ["mean", "max"]}"#, "mean, max"),
            (r#"{"pooling_mode": "weightedmean"}"#, "weightedmean"),
            (r#"{"pooling_mode": "mean", "include_prompt": false}"#, "include_prompt"),
            ("{}", "one of"),
        ] {
            assert!(asked(config).unwrap_err().contains(word), "{config}");
        }
    }

    #[test]
    fn tokens_are_pooled() {
        let tokens = array![[1.0, 4.0], [3.0, -2.0], [2.0, 1.0]];
        for (pooling, expected) in [(Pooling::Mean, [2.0, 1.0]), (Pooling::Cls, [1.0, 4.0]), (Pooling::Last, [2.0, 1.0]), (Pooling::Max, [3.0, 4.0])]
        {
            assert_eq!(pooling.pool(&tokens.view()), expected, "{pooling:?}");
        }
    }
}
