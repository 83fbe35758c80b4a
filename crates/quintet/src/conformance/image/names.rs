use quintet_proto::image::v1::GenerateRequest;

use super::{Subject, request};
use crate::conformance::check::{Checked, Verdict, ensure};

pub(super) async fn defaults(subject: &Subject) -> Checked {
    let default = &subject.listed.default_model;
    let Some(highest) = subject.listed.models.iter().rfind(|model| model.name == *default) else {
        return Err(Verdict::failed(format!("the default '{default}' is not listed")));
    };
    let unnamed = GenerateRequest { model: String::new(), model_version: String::new(), ..request(highest, 1) };
    let answer = subject.generate(unnamed).await?;
    let named = (&answer.model, &answer.model_version);
    ensure!(named == (&highest.name, &highest.version), "an empty model is {named:?}: listed is {default} {}", highest.version);
    Ok(())
}

pub(super) async fn answers(subject: &Subject) -> Checked {
    for model in &subject.listed.models {
        let answer = subject.generate(request(model, 1)).await?;
        let named = (&answer.model, &answer.model_version);
        ensure!(named == (&model.name, &model.version), "{} {} answers as {named:?}", model.name, model.version);
    }
    Ok(())
}

pub(super) async fn order(subject: &Subject) -> Checked {
    let names: Vec<_> = subject.listed.models.iter().map(|model| model.name.as_str()).collect();
    ensure!(names.is_sorted(), "ListModels gives {}", names.join(", "));
    Ok(())
}
