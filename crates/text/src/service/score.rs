use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use quintet_proto::text::v1::{ScoreRequest, ScoreResponse, TextScore};
use quintet_serving::{context::Context, error::Checks};

use super::{TextService, models::changed_kind};
use crate::{
    Error,
    engine::{
        Engine,
        decoder::TokenScore,
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
        let contexts = request.contexts.len();
        checks.require(contexts == 0 || contexts == count, "contexts", || format!("{contexts} contexts for {count} texts: as many, or none"));
        checks.require((1..context).contains(&stride), "stride", || format!("{stride}: must be 1 to {}", context - 1));
        checks.finish().map_err(Error::Invalid)?;

        let bytes: Vec<u32> = request.texts.iter().map(|text| text.len() as u32).collect();
        let encode = async |field: &str, texts| {
            let encoded = self.tokenizer.encode(folder, texts, None).await;
            encoded.map_err(|error| error.of_inputs(field, |index, _| format!("{field}[{index}]")))
        };
        let (mut texts, contexts) = if request.contexts.is_empty() {
            (encode("texts", request.texts).await?, Vec::new())
        } else {
            let whole = request.contexts.iter().zip(&request.texts).map(|(context, text)| format!("{context}{text}")).collect();
            let contexts = encode("contexts", request.contexts).await?;
            (encode("texts", whole).await?, contexts)
        };
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
        let windows = if contexts.is_empty() {
            let windows = texts
                .iter()
                .enumerate()
                .flat_map(|(index, text)| windows(text.len(), context, stride).into_iter().map(move |window| (index, window)));
            windows.collect()
        } else {
            continuations(&texts, &contexts, info.bos, context)?
        };
        let call = Context::current();
        let scope: Arc<str> = if self.share_prefixes { "".into() } else { Arc::clone(&call.tenant) };
        let scored: Vec<(usize, Window, Vec<TokenScore>)> = stream::iter(windows)
            .map(|(index, window)| {
                let tokens = texts.get(index).and_then(|text| text.get(window.input.clone())).map(<[u32]>::to_vec).unwrap_or_default();
                let scope = Arc::clone(&scope);
                async move {
                    let from = window.scored.start - window.input.start;
                    let scores = decoder.score(tokens, from, scope, call.priority).await?;
                    Ok::<_, Error>((index, window, scores))
                }
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;

        let mut scores: Vec<TextScore> = bytes.into_iter().map(|bytes| TextScore { bytes, is_greedy: true, ..TextScore::default() }).collect();
        for (index, window, values) in scored {
            if let Some(score) = scores.get_mut(index) {
                score.log_likelihood += values.iter().map(|value| f64::from(value.log_probability)).sum::<f64>();
                score.tokens += values.len() as u32;
                score.is_greedy &= values.iter().all(|value| value.is_likeliest);
                if request.return_tokens {
                    score.token_log_probabilities.extend(values.iter().map(|value| value.log_probability));
                    score.token_ids.extend(texts.get(index).and_then(|text| text.get(window.scored)).unwrap_or_default());
                }
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

/// For each whole text the window that scores what is beyond its context.
fn continuations(texts: &[Vec<u32>], contexts: &[Vec<u32>], bos: Option<u32>, most: usize) -> Result<Vec<(usize, Window)>, Error> {
    let mut checks = Checks::new();
    let mut windows = Vec::new();
    for (index, (text, context)) in texts.iter().zip(contexts).enumerate() {
        // The token that stands before every text counts as context.
        let leads = usize::from(bos.is_none() && context.is_empty() || bos.is_some() && context.first() != bos.as_ref());
        let from = (context.len() + leads).max(1);
        checks.require(text.len() <= most, format!("texts[{index}]"), || format!("{} tokens with its context: at most {most}", text.len()));
        checks.require(from < text.len(), format!("texts[{index}]"), || {
            format!("no token of its own: with its context it has {}, as many as the context alone", text.len())
        });
        windows.push((index, Window { input: 0..text.len(), scored: from..text.len() }));
    }
    checks.finish().map_err(Error::Invalid)?;
    Ok(windows)
}
