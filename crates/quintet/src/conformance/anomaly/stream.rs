use quintet_proto::anomaly::v1::{Model, SampleData, ScoreKind, ScoreStreamRequest, ScoreStreamResponse};
use tonic::Code;

use super::{SERVICE, Subject, sample, size};
use crate::conformance::{
    check::{Checked, Verdict, ensure, fields, shown},
    target::{Answered, Call, decoded},
};

/// The message that a `ScoreStream` begins with.
pub(super) fn first(model: &Model, sample: &SampleData) -> ScoreStreamRequest {
    ScoreStreamRequest { model: model.name.clone(), model_version: model.version.clone(), ..later(sample) }
}

fn later(sample: &SampleData) -> ScoreStreamRequest {
    ScoreStreamRequest { sample: Some(sample.clone()), ..ScoreStreamRequest::default() }
}

impl Subject {
    /// A stream of all samples.
    fn stream(&self) -> Call {
        let messages = self.samples.iter().enumerate().map(|(index, sample)| if index == 0 { first(&self.model, sample) } else { later(sample) });
        Call::stream(SERVICE, "ScoreStream", &messages.collect::<Vec<_>>())
    }

    /// Whether a stream of a good message and this one gives one answer, and then a status with this field.
    async fn second_is_refused(&self, second: ScoreStreamRequest, field: &str) -> Checked {
        let call = Call::stream(SERVICE, "ScoreStream", &[first(&self.model, &self.samples[0]), second, later(&self.samples[1])]);
        let Answered { messages, status } = self.ground.target.call(&call).await;
        let is_refused = status.code() == Code::InvalidArgument && fields(&status) == [field];
        ensure!(is_refused, "a second message of ScoreStream that is wrong at {field} ends with {}", shown(&status));
        ensure!(messages.len() == 1, "{} answers came before the message that is wrong at {field}", messages.len());
        Ok(())
    }
}

pub(super) async fn settles(subject: &Subject) -> Checked {
    let again = || later(&subject.samples[1]);
    let (model, model_version) = (subject.model.name.clone(), subject.model.version.clone());
    subject.second_is_refused(ScoreStreamRequest { model, ..again() }, "model").await?;
    subject.second_is_refused(ScoreStreamRequest { model_version, ..again() }, "model_version").await?;
    subject.second_is_refused(ScoreStreamRequest { score: ScoreKind::NegativeElbo.into(), ..again() }, "score").await?;
    subject.second_is_refused(ScoreStreamRequest { calibration: "default".to_owned(), ..again() }, "calibration").await
}

pub(super) async fn in_order(subject: &Subject) -> Checked {
    let (answers, rest) = subject.ground.target.in_turn(&subject.stream()).await?;
    ensure!(rest.is_empty(), "a ScoreStream gives {} answers more when its requests have ended", rest.len());
    let indices = answers.iter().map(|answer| Ok(decoded::<ScoreStreamResponse>(answer)?.index)).collect::<Result<Vec<_>, Verdict>>()?;
    ensure!(indices.iter().copied().eq(0..subject.samples.len() as u64), "the answers of a ScoreStream have the indices {indices:?}");
    Ok(())
}

pub(super) async fn first_fault(subject: &Subject) -> Checked {
    subject.second_is_refused(ScoreStreamRequest::default(), "sample").await
}

pub(super) async fn of_nothing(subject: &Subject) -> Checked {
    let none: [ScoreStreamRequest; 0] = [];
    let Answered { messages, status } = subject.ground.target.call(&Call::stream(SERVICE, "ScoreStream", &none)).await;
    ensure!(status.code() == Code::Ok && messages.is_empty(), "a ScoreStream of no messages has {} answers, and {}", messages.len(), shown(&status));
    Ok(())
}

/// All sent at once: the same as Score of all.
pub(super) async fn same_as_score(subject: &Subject) -> Checked {
    let scores = subject.scored(&subject.samples).await?.scores;
    let Answered { messages, status } = subject.ground.target.call(&subject.stream()).await;
    ensure!(status.code() == Code::Ok, "a ScoreStream ends with {}", shown(&status));
    ensure!(messages.len() == scores.len(), "a ScoreStream of {} samples has {} answers", scores.len(), messages.len());
    for (index, (answer, score)) in messages.iter().zip(scores).enumerate() {
        let answer: ScoreStreamResponse = decoded(answer)?;
        ensure!(answer.index == index as u64, "answer {index} of a ScoreStream has the index {}", answer.index);
        ensure!(answer.score == Some(score), "sample {index} has the score {:?} by stream and {score:?} by Score", answer.score);
    }
    let (length, mut infinite) = (size(&subject.model), vec![0.0; size(&subject.model)]);
    if let Some(last) = infinite.last_mut() {
        *last = f32::INFINITY;
    }
    subject.second_is_refused(later(&sample(infinite)), &format!("sample.values[{}]", length - 1)).await?;
    subject.second_is_refused(later(&sample(vec![0.0; length + 1])), "sample.values").await
}
