use futures_util::TryStreamExt;
use quintet_proto::text::v1::{FinishReason, GenerateRequest, GenerateStreamRequest, GenerateStreamResponse, Stopping};

use super::{Subject, request, texts};
use crate::conformance::check::{Checked, Verdict, ensure};

/// The most characters of a text that is made a stop string.
const STOP: usize = 4;

impl Subject {
    async fn streamed(&self, request: GenerateRequest) -> Result<Vec<GenerateStreamResponse>, Verdict> {
        let request = GenerateStreamRequest { request: Some(request) };
        Ok(self.client().generate_stream(request).await?.into_inner().try_collect().await?)
    }
}

/// The text of each index.
fn joined(messages: &[GenerateStreamResponse], count: usize) -> Vec<String> {
    let mut texts = vec![String::new(); count];
    for message in messages {
        if let Some(text) = texts.get_mut(message.index as usize) {
            text.push_str(&message.text);
        }
    }
    texts
}

pub(super) async fn shape(subject: &Subject) -> Checked {
    let (model, count) = (subject.generator()?, 3);
    let messages = subject.streamed(GenerateRequest { n: Some(count), ..request(model) }).await?;
    let Some((first, later)) = messages.split_first() else { return Err(Verdict::failed("GenerateStream gives no message")) };
    ensure!(
        (&first.model, &first.model_version) == (&model.name, &model.version),
        "the first message names '{}' '{}'",
        first.model,
        first.model_version
    );
    ensure!(first.seed == 11, "the first message has the seed {}, and the request 11", first.seed);
    let named = later.iter().position(|message| !message.model.is_empty() || !message.model_version.is_empty() || message.seed != 0);
    ensure!(named.is_none(), "message {} has model, version or seed, which only the first may", named.unwrap_or_default() + 1);
    for index in 0..count {
        let of: Vec<&GenerateStreamResponse> = messages.iter().filter(|message| message.index == index).collect();
        let Some((last, others)) = of.split_last() else { return Err(Verdict::failed(format!("no message is of text {index}"))) };
        let has_end = last.finish_reason() != FinishReason::Unspecified && last.timings.is_some();
        ensure!(has_end, "the last message of text {index} has finish_reason {:?} and timings {:?}", last.finish_reason(), last.timings);
        let early = others.iter().filter(|message| message.finish_reason() != FinishReason::Unspecified || message.timings.is_some()).count();
        ensure!(early == 0, "{early} messages of text {index} before its last have a finish_reason or timings");
    }
    ensure!(messages.iter().all(|message| message.index < count), "a message has an index that is not below n = {count}");
    let usages: Vec<usize> = messages.iter().enumerate().filter(|(_, message)| message.usage.is_some()).map(|(index, _)| index).collect();
    ensure!(usages == [messages.len() - 1], "of {} messages these have the usage: {usages:?}", messages.len());
    Ok(())
}

pub(super) async fn same_as_whole(subject: &Subject) -> Checked {
    let model = subject.generator()?;
    let request = |n| GenerateRequest { n: Some(n), ..request(model) };
    let (whole, streamed) = (subject.generate(request(3)).await?, subject.streamed(request(3)).await?);
    ensure!(joined(&streamed, 3) == texts(&whole), "the streamed texts are {:?}, and Generate gives {:?}", joined(&streamed, 3), texts(&whole));
    let fewer = subject.generate(request(2)).await?;
    ensure!(texts(&fewer) == texts(&whole)[..2], "n = 2 gives {:?}, and n = 3 begins with {:?}", texts(&fewer), &texts(&whole)[..2]);
    Ok(())
}

/// A piece out of the middle of a text, and the same text stopped by it.
pub(super) async fn stopped(subject: &Subject) -> Checked {
    let model = subject.generator()?;
    let free = subject.generate(request(model)).await?.text;
    let characters: Vec<char> = free.chars().collect();
    let middle = characters.len() / 2;
    let stop: String = characters[middle..].iter().take(STOP).collect();
    let Some(at) = free.find(&stop).filter(|_| !stop.is_empty()) else { return Err(Verdict::skipped("the text is empty")) };
    let stopping = Stopping { max_new_tokens: Some(24), stop: vec![stop.clone()], ..Stopping::default() };
    let request = GenerateRequest { stopping: Some(stopping), ..request(model) };
    let whole = subject.generate(request.clone()).await?;
    ensure!(whole.text == free[..at], "{free:?} stopped at {stop:?} is {:?}", whole.text);
    ensure!(whole.finish_reason() == FinishReason::Stop, "a text that was stopped ended with {:?}", whole.finish_reason());
    let streamed = subject.streamed(request).await?;
    let text = joined(&streamed, 1).concat();
    ensure!(text == free[..at], "{free:?} stopped at {stop:?} is {text:?} by stream");
    Ok(())
}
