use quintet_proto::text::v1::{ClassifyInput, ClassifyRequest, EmbedRequest, GenerateRequest, Model, ModelKind, ScoreRequest};
use tonic::Code;

use super::{PROMPT, SERVICE, Subject, request};
use crate::conformance::{
    check::{Checked, Verdict, ensure},
    every::Refusal,
    target::Call,
};

impl Subject {
    /// What an answer names when `model` and `model_version` are these, asked as the kind allows.
    async fn named(&self, kind: ModelKind, name: &str, version: &str) -> Result<(String, String), Verdict> {
        let (model, model_version) = (name.to_owned(), version.to_owned());
        let mut client = self.client();
        match kind {
            ModelKind::CausalLm | ModelKind::Seq2seq => {
                let asked = GenerateRequest { model, model_version, ..request(&Model::default()) };
                let answer = client.generate(asked).await?.into_inner();
                Ok((answer.model, answer.model_version))
            }
            ModelKind::Encoder => {
                let asked = EmbedRequest { model, model_version, inputs: vec![PROMPT.to_owned()], ..EmbedRequest::default() };
                let answer = client.embed(asked).await?.into_inner();
                Ok((answer.model, answer.model_version))
            }
            ModelKind::SequenceClassifier => {
                let inputs = vec![ClassifyInput { text: PROMPT.to_owned(), ..ClassifyInput::default() }];
                let answer = client.classify(ClassifyRequest { model, model_version, inputs, ..ClassifyRequest::default() }).await?.into_inner();
                Ok((answer.model, answer.model_version))
            }
            ModelKind::MaskedLm | ModelKind::Unspecified => Err(Verdict::skipped("a model that fills masks must be told its mask")),
        }
    }

    fn highest(&self, name: &str) -> Option<&Model> {
        self.listed.models.iter().rfind(|model| model.name == name)
    }
}

pub(super) async fn defaults(subject: &Subject) -> Checked {
    let default = &subject.listed.default_model;
    let Some(model) = subject.highest(default) else { return Err(Verdict::failed(format!("the default '{default}' is not listed"))) };
    let (name, version) = subject.named(model.kind(), "", "").await?;
    ensure!((&name, &version) == (&model.name, &model.version), "an empty model is '{name}' '{version}': listed is {default} {}", model.version);
    Ok(())
}

pub(super) async fn answers(subject: &Subject) -> Checked {
    for model in &subject.listed.models {
        match subject.named(model.kind(), &model.name, &model.version).await {
            Ok(named) => ensure!(named == (model.name.clone(), model.version.clone()), "{} {} answers as {named:?}", model.name, model.version),
            Err(Verdict::Skipped(_)) => (),
            Err(failed) => return Err(failed),
        }
    }
    Ok(())
}

pub(super) async fn order(subject: &Subject) -> Checked {
    let names: Vec<_> = subject.listed.models.iter().map(|model| model.name.as_str()).collect();
    ensure!(names.is_sorted(), "ListModels gives {}", names.join(", "));
    Ok(())
}

pub(super) async fn wrong_kind(subject: &Subject) -> Checked {
    let (texts, inputs) = (vec![PROMPT.to_owned()], vec![PROMPT.to_owned()]);
    let call = if let Ok(decoder) = subject.decoder() {
        Call::new(SERVICE, "Embed", &EmbedRequest { model: decoder.name.clone(), inputs, ..EmbedRequest::default() })
    } else {
        let Some(other) = subject.listed.models.iter().find(|model| model.kind() != ModelKind::CausalLm) else {
            return Err(Verdict::skipped("the target has no models"));
        };
        Call::new(SERVICE, "Score", &ScoreRequest { model: other.name.clone(), texts, ..ScoreRequest::default() })
    };
    Refusal::with("X9", call, Code::FailedPrecondition, Some("WRONG_MODEL_KIND")).hold(&subject.ground.target).await?;
    Ok(())
}
