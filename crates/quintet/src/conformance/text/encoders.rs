use quintet_proto::text::v1::{ClassifyInput, ClassifyRequest, EmbedRequest, EmbedResponse, ModelKind};
use tonic::Code;

use super::{Subject, TEXTS};
use crate::conformance::check::{Checked, Verdict, ensure, fields, shown};

/// What a vector's length may be off by.
const TOLERANCE: f64 = 1e-5;

impl Subject {
    async fn embedded(&self, texts: &[&str], normalize: Option<bool>) -> Result<EmbedResponse, Verdict> {
        let model = self.model(&[ModelKind::Encoder])?;
        let inputs = texts.iter().map(ToString::to_string).collect();
        let (model, model_version) = (model.name.clone(), model.version.clone());
        let request = EmbedRequest { model, model_version, inputs, normalize, ..EmbedRequest::default() };
        let answer = self.client().embed(request).await?.into_inner();
        ensure!(answer.embeddings.len() == texts.len(), "Embed of {} texts gives {}", texts.len(), answer.embeddings.len());
        Ok(answer)
    }
}

pub(super) async fn alone_or_together(subject: &Subject) -> Checked {
    let has_encoder = subject.model(&[ModelKind::Encoder]).is_ok();
    if has_encoder {
        let together = subject.embedded(&TEXTS, None).await?.embeddings;
        let mut backwards = TEXTS;
        backwards.reverse();
        let mut again = subject.embedded(&backwards, None).await?.embeddings;
        again.reverse();
        ensure!(again == together, "the same texts in another order have other embeddings");
        for (text, embedding) in TEXTS.iter().zip(&together) {
            let alone = subject.embedded(&[text], None).await?.embeddings;
            ensure!(alone == [embedding.clone()], "{text:?} has another embedding alone than among others");
        }
    }
    let classifier = match subject.model(&[ModelKind::SequenceClassifier]) {
        Ok(classifier) => classifier,
        Err(_) if has_encoder => return Ok(()),
        Err(skipped) => return Err(skipped),
    };
    let request = |texts: &[&str]| ClassifyRequest {
        model: classifier.name.clone(),
        inputs: texts.iter().map(|text| ClassifyInput { text: text.to_string(), ..ClassifyInput::default() }).collect(),
        ..ClassifyRequest::default()
    };
    let together = subject.client().classify(request(&TEXTS)).await?.into_inner().classifications;
    for (text, classification) in TEXTS.iter().zip(&together) {
        let alone = subject.client().classify(request(&[text])).await?.into_inner().classifications;
        ensure!(alone == [classification.clone()], "{text:?} has other classes alone than among others");
    }
    Ok(())
}

pub(super) async fn embeddings(subject: &Subject) -> Checked {
    let model = subject.model(&[ModelKind::Encoder])?;
    for (text, embedding) in TEXTS.iter().zip(subject.embedded(&TEXTS, Some(true)).await?.embeddings) {
        let values = &embedding.values;
        ensure!(values.len() == model.dimensions as usize, "{text:?} has {} values, and the model {} dimensions", values.len(), model.dimensions);
        let length = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        ensure!((length - 1.0).abs() <= TOLERANCE, "{text:?} with normalize has a vector of length {length}");
    }
    let long = "a b ".repeat(model.max_tokens as usize + 1);
    let request = EmbedRequest { model: model.name.clone(), inputs: vec![long], ..EmbedRequest::default() };
    subject.client().embed(EmbedRequest { truncate: true, ..request.clone() }).await?;
    let Err(status) = subject.client().embed(request).await else {
        return Err(Verdict::failed(format!("a text of more than {} tokens is taken without truncate", model.max_tokens)));
    };
    let is_refused = status.code() == Code::InvalidArgument && fields(&status) == ["inputs[0]"];
    ensure!(is_refused, "a text of more than {} tokens ends with {}", model.max_tokens, shown(&status));
    Ok(())
}
