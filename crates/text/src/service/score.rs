use std::ops::Range;

use futures_util::{StreamExt, TryStreamExt, stream};
use quintet_proto::text::v1::{ScoreRequest, ScoreResponse, TextScore};
use quintet_serving::error::Checks;

use super::{TextService, models::changed_kind};
use crate::{
    Error,
    engine::{
        Engine,
        decoder::Decoder,
        windows::{Window, windows},
    },
};

/// Windows of one request in the decoder at once: enough to fill its slots and not to crowd others out.
const AT_ONCE: usize = 8;

impl TextService {
    pub(super) async fn score_texts(&self, request: ScoreRequest) -> Result<ScoreResponse, Error> {
        let can = |engine: &Engine| matches!(engine, Engine::Decoder(_));
        let loaded = self.models.find(&request.model, &request.model_version, "score text", can)?;
        let Engine::Decoder(decoder) = &loaded.model else { return Err(changed_kind(&loaded)) };
        let folder = &loaded.folder;
        let info = decoder.info();
        let context = info.context;
        let stride = request.stride.map_or(context / 2, |stride| stride as usize);
        let mut checks = Checks::new();
        let count = request.texts.len();
        checks.require((1..=256).contains(&count), "texts", || format!("{count} texts: must be 1 to 256"));
        for (index, text) in request.texts.iter().enumerate() {
            checks.require(!text.is_empty(), format!("texts[{index}]"), || "empty: at least one character is needed".to_owned());
        }
        checks.require((1..context).contains(&stride), "stride", || format!("{stride}: must be 1 to {}", context - 1));
        checks.finish().map_err(Error::Invalid)?;

        let bytes: Vec<u32> = request.texts.iter().map(|text| text.len() as u32).collect();
        let mut texts = self.tokenizer.encode(folder, request.texts, None).await?;
        let total: usize = texts.iter().map(Vec::len).sum();
        if total > self.max_score_tokens {
            return Err(Error::invalid("texts", format!("{total} tokens together: at most {}", self.max_score_tokens)));
        }
        for text in &mut texts {
            // Without a token before it, the first one of a text can't be predicted.
            let bos = info.bos.or_else(|| text.first().copied());
            if let Some(bos) = bos
                && (info.bos.is_none() || text.first() != Some(&bos))
            {
                text.insert(0, bos);
            }
        }
        let windows: Vec<(usize, Window)> = texts
            .iter()
            .enumerate()
            .flat_map(|(index, text)| windows(text.len(), context, stride).into_iter().map(move |window| (index, window)))
            .collect();
        let scored: Vec<(usize, Vec<f32>)> = stream::iter(windows)
            .map(|(index, window)| {
                let tokens = texts.get(index).and_then(|text| text.get(window.input.clone())).map(<[u32]>::to_vec).unwrap_or_default();
                async move { Ok::<_, Error>((index, score_window(decoder, tokens, &window.scored, window.input.start).await?)) }
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;

        let mut scores: Vec<TextScore> = bytes.into_iter().map(|bytes| TextScore { bytes, ..TextScore::default() }).collect();
        for (index, values) in scored {
            if let Some(score) = scores.get_mut(index) {
                score.log_likelihood += values.iter().copied().map(f64::from).sum::<f64>();
                score.tokens += values.len() as u32;
                if request.return_tokens {
                    score.token_log_probabilities.extend(values);
                }
            }
        }
        if request.return_tokens {
            for (score, text) in scores.iter_mut().zip(texts) {
                score.token_ids = text.into_iter().skip(1).collect();
            }
        }
        Ok(ScoreResponse {
            model: folder.name.clone(),
            model_version: folder.version.clone(),
            scores,
            context: context as u32,
            stride: stride as u32,
        })
    }
}

async fn score_window(decoder: &Decoder, tokens: Vec<u32>, scored: &Range<usize>, start: usize) -> Result<Vec<f32>, Error> {
    decoder.score(tokens, scored.start - start).await
}
