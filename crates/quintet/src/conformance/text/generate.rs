use futures_util::future::join_all;
use quintet_proto::text::v1::{FinishReason, GenerateRequest, Sampling, Stopping};
use tonic::Code;

use super::{PROMPT, Subject, request, settled, texts};
use crate::conformance::check::{Checked, Verdict, ensure, fields, shown};

/// Contexts beyond this are not filled: a text to encode has at most 1 MiB.
const MOST_CONTEXT: u32 = 100_000;

/// Texts of several lengths, with and without drawing, each alone and then all at once.
pub(super) async fn beside_others(subject: &Subject) -> Checked {
    let model = subject.generator()?;
    let requests: Vec<GenerateRequest> = (0..6u32)
        .map(|index| {
            let sampling = Sampling { seed: Some(index.into()), temperature: Some(if index == 0 { 0.0 } else { 1.0 }), ..Sampling::default() };
            let prompt = PROMPT.repeat(1 + index as usize % 3);
            let stopping = Stopping { max_new_tokens: Some(8 + 4 * index), ..Stopping::default() };
            GenerateRequest { sampling: Some(sampling), prompt, stopping: Some(stopping), n: Some(1 + index % 2), ..request(model) }
        })
        .collect();
    let mut alone = Vec::new();
    for request in &requests {
        alone.push(settled(subject.generate(request.clone()).await?));
    }
    let crowd = join_all((0..3).flat_map(|_| requests.iter().map(|request| subject.generate(request.clone())))).await;
    for (index, answer) in crowd.into_iter().enumerate() {
        let (answer, alone) = (settled(answer?), &alone[index % alone.len()]);
        ensure!(answer == *alone, "the text of request {} is {:?} alone and {:?} beside others", index % requests.len(), alone.text, answer.text);
    }
    Ok(())
}

pub(super) async fn drawn_seed(subject: &Subject) -> Checked {
    let model = subject.generator()?;
    let sampling = |seed| Some(Sampling { seed, temperature: Some(1.0), ..Sampling::default() });
    let drawn = subject.generate(GenerateRequest { sampling: sampling(None), ..request(model) }).await?;
    let again = subject.generate(GenerateRequest { sampling: sampling(Some(drawn.seed)), ..request(model) }).await?;
    ensure!(again.text == drawn.text, "the seed {} that was named gives {:?}, and the text was {:?}", drawn.seed, again.text, drawn.text);
    Ok(())
}

pub(super) async fn length(subject: &Subject) -> Checked {
    let (model, most, n) = (subject.generator()?, 7, 2);
    let stopping = Stopping { max_new_tokens: Some(most), ignore_eos: true, ..Stopping::default() };
    let answer = subject.generate(GenerateRequest { stopping: Some(stopping), n: Some(n), ..request(model) }).await?;
    let reasons: Vec<_> =
        std::iter::once(answer.finish_reason()).chain(answer.alternatives.iter().map(quintet_proto::text::v1::Alternative::finish_reason)).collect();
    ensure!(reasons == [FinishReason::Length; 2], "{n} texts that pass over their ends and stop at {most} tokens end with {reasons:?}");
    ensure!(texts(&answer).len() == n as usize, "n = {n} gives {} texts", texts(&answer).len());
    let usage = answer.usage.unwrap_or_default();
    ensure!(usage.completion_tokens == n * most, "{n} texts of {most} tokens have completion_tokens = {}", usage.completion_tokens);
    ensure!(usage.prompt_tokens > 0, "prompt_tokens is 0");
    Ok(())
}

pub(super) async fn no_room(subject: &Subject) -> Checked {
    let model = subject.decoder()?;
    if model.max_tokens > MOST_CONTEXT {
        return Err(Verdict::skipped(format!("its context of {} tokens is too long to be filled", model.max_tokens)));
    }
    let prompt = "a b ".repeat(model.max_tokens as usize + 1);
    let stopping = Some(Stopping::default());
    let Err(status) = subject.client().generate(GenerateRequest { prompt, stopping, ..request(model) }).await else {
        return Err(Verdict::failed(format!("a prompt beyond the context of {} tokens is answered", model.max_tokens)));
    };
    let is_refused = status.code() == Code::InvalidArgument && fields(&status) == ["prompt"];
    ensure!(is_refused, "a prompt beyond the context of {} tokens ends with {}", model.max_tokens, shown(&status));
    ensure!(status.message().contains(&model.max_tokens.to_string()), "the context, {}, is not in {}", model.max_tokens, shown(&status));
    Ok(())
}
