use quintet_proto::text::v1::{Choices, FinishReason, GenerateRequest, GenerateResponse, Guide, Model, Stopping, guide::Guide as Kind};
use tonic::Code;

use super::{Subject, request};
use crate::conformance::check::{Checked, Verdict, ensure, fields, shown};

fn guided(model: &Model, guide: Kind) -> GenerateRequest {
    let stopping = Stopping { max_new_tokens: Some(32), ..Stopping::default() };
    GenerateRequest { guide: Some(Guide { guide: Some(guide) }), stopping: Some(stopping), ..request(model) }
}

/// Whether a text is one of these, or the beginning of one where it was cut.
fn is_one_of(answer: &GenerateResponse, texts: &[&str]) -> bool {
    let is_cut = answer.finish_reason() == FinishReason::Length;
    texts.iter().any(|text| *text == answer.text || (is_cut && text.starts_with(&answer.text)))
}

pub(super) async fn matches(subject: &Subject) -> Checked {
    let model = subject.generator()?;
    let choices = ["violet", "ultramarine", "vermilion"];
    let answer = subject.generate(guided(model, Kind::Choices(Choices { texts: choices.map(str::to_owned).to_vec() }))).await?;
    ensure!(is_one_of(&answer, &choices), "{:?} is none of the choices {choices:?}", answer.text);
    let answer = subject.generate(guided(model, Kind::Regex("[0-7]{3}".to_owned()))).await?;
    let digits = answer.text.bytes().filter(|byte| (b'0'..=b'7').contains(byte)).count();
    let is_whole = digits == 3 || answer.finish_reason() == FinishReason::Length;
    ensure!(digits == answer.text.len() && digits <= 3 && is_whole, "{:?} does not match [0-7]{{3}}", answer.text);
    let answer = subject.generate(guided(model, Kind::JsonSchema(r#"{"type": "boolean"}"#.to_owned()))).await?;
    ensure!(is_one_of(&answer, &["true", "false"]), "{:?} is no JSON truth value", answer.text);
    for (field, wrong) in [("guide.regex", Kind::Regex("(".to_owned())), ("guide.json_schema", Kind::JsonSchema("{".to_owned()))] {
        let Err(status) = subject.client().generate(guided(model, wrong)).await else {
            return Err(Verdict::failed(format!("{field}, which cannot be read, is taken")));
        };
        let is_refused = status.code() == Code::InvalidArgument && fields(&status) == [field];
        ensure!(is_refused, "{field}, which cannot be read, ends with {}", shown(&status));
    }
    Ok(())
}
