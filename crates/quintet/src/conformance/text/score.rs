use quintet_proto::text::v1::{ScoreRequest, TextScore};

use super::{Subject, TEXTS};
use crate::conformance::check::{Checked, Verdict, ensure};

/// What sums of 32-bit floats may be off by, of each token.
const TOLERANCE: f64 = 1e-4;

impl Subject {
    async fn scores(&self, texts: &[&str]) -> Result<Vec<TextScore>, Verdict> {
        let model = self.decoder()?;
        let texts = texts.iter().map(ToString::to_string).collect();
        let (model, model_version) = (model.name.clone(), model.version.clone());
        let request = ScoreRequest { model, model_version, texts, return_tokens: true, ..ScoreRequest::default() };
        Ok(self.client().score(request).await?.into_inner().scores)
    }
}

pub(super) async fn adds_up(subject: &Subject) -> Checked {
    let together = subject.scores(&TEXTS).await?;
    ensure!(together.len() == TEXTS.len(), "Score of {} texts gives {}", TEXTS.len(), together.len());
    for (text, score) in TEXTS.iter().zip(&together) {
        let sum: f64 = score.token_log_probabilities.iter().map(|value| f64::from(*value)).sum();
        let tolerance = TOLERANCE * f64::from(score.tokens.max(1));
        ensure!((sum - score.log_likelihood).abs() <= tolerance, "{text:?}: tokens add up to {sum}, and log_likelihood is {}", score.log_likelihood);
        ensure!(score.bytes as usize == text.len(), "{text:?} has {} bytes, and Score says {}", text.len(), score.bytes);
        let counts = (score.token_ids.len(), score.token_log_probabilities.len());
        ensure!(counts == (score.tokens as usize, score.tokens as usize), "{text:?}: tokens is {}, and {counts:?} are given", score.tokens);
        let alone = subject.scores(&[text]).await?;
        ensure!(alone == [score.clone()], "{text:?} has another score alone than among others");
    }
    Ok(())
}
