use quintet_proto::{
    text::v1::{Classification, ClassifyRequest, ClassifyResponse, LabelScore},
    tokenization::v1::{EncodeInput, EncodeRequest},
};
use quintet_serving::error::Checks;

use super::{
    TextService,
    encodings::{MOST_INPUTS, ask, check_text, count, in_groups, length, tokens},
    models::changed_kind,
};
use crate::{
    Error,
    engine::{
        Engine,
        encoder::{Activation, Head},
    },
    refusal::Part,
};

impl TextService {
    pub(super) async fn classify_texts(&self, request: ClassifyRequest) -> Result<ClassifyResponse, Error> {
        let can = |engine: &Engine| engine.encoder().is_some_and(|encoder| matches!(encoder.head(), Head::Classification { .. }));
        let loaded = self.models.find(&request.model, &request.model_version, "classify texts", can)?;
        let Some(encoder) = loaded.model.encoder() else { return Err(changed_kind(&loaded)) };
        let Head::Classification { labels, activation } = encoder.head() else { return Err(changed_kind(&loaded)) };
        let folder = &loaded.folder;
        let mut checks = Checks::new();
        let inputs = request.inputs.len();
        checks.require((1..=MOST_INPUTS).contains(&inputs), "inputs", || format!("{inputs} texts: must be 1 to {MOST_INPUTS}"));
        for (index, input) in request.inputs.iter().enumerate().take(MOST_INPUTS) {
            check_text(&format!("inputs[{index}].text"), &input.text, &mut checks);
            if let Some(pair) = &input.text_pair {
                check_text(&format!("inputs[{index}].text_pair"), pair, &mut checks);
            }
        }
        checks.require(request.top_k != Some(0), "top_k", || "0: must be at least 1".to_owned());
        checks.finish().map_err(Error::Invalid)?;
        let top_k = request.top_k.map_or(labels.len(), |top_k| (top_k as usize).min(labels.len()));
        let longest = labels.iter().map(String::len).max().unwrap_or(0);
        self.fits("inputs", inputs.saturating_mul(top_k).saturating_mul(longest + PER_LABEL))?;

        let bytes = request.inputs.iter().map(|input| input.text.len() + input.text_pair.as_ref().map_or(0, String::len)).sum();
        self.encodable(folder, "inputs", inputs, bytes)?;
        let texts = request.inputs.into_iter().map(|input| EncodeInput { text: input.text, pair: input.text_pair, ..EncodeInput::default() });
        let limit = (encoder.max_tokens(), request.truncate);
        let texts = self.read(folder, texts.collect(), limit, EncodeRequest::default(), |index| format!("inputs[{index}]")).await;
        let texts = texts.map_err(|error| {
            error.of_inputs("inputs", |index, part| match part {
                Part::Text => format!("inputs[{index}].text"),
                Part::Pair => format!("inputs[{index}].text_pair"),
            })
        })?;
        let prompt_tokens = count(&texts);
        let ask = ask();
        let logits = in_groups(encoder, texts, length, |text| encoder.classify(tokens(text), ask)).await?;

        let activation = if request.raw_scores { Activation::Identity } else { *activation };
        let classifications = logits.iter().map(|logits| {
            let scores = activation.scores(logits);
            let mut best: Vec<LabelScore> =
                (0..).zip(labels).zip(scores).map(|((index, label), score)| LabelScore { label: label.clone(), index, score }).collect();
            best.sort_by(|a, b| b.score.total_cmp(&a.score));
            best.truncate(top_k);
            Classification { labels: best }
        });
        let classifications = classifications.collect();
        Ok(ClassifyResponse { model: folder.name.clone(), model_version: folder.version.clone(), classifications, prompt_tokens })
    }
}

/// Bytes that a class takes in an answer beside its name.
const PER_LABEL: usize = 24;
