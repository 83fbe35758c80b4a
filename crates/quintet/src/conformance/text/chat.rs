use futures_util::TryStreamExt;
use quintet_proto::{
    text::v1::{ChatRequest, ChatStreamRequest, ChatStreamResponse, GenerateRequest},
    tokenization::v1::ChatMessage,
};
use tonic::Code;

use super::{SERVICE, Subject, request};
use crate::conformance::{
    check::{Checked, Verdict, ensure, shown},
    every::Refusal,
    target::Call,
};

impl Subject {
    fn chat_request(&self) -> Result<ChatRequest, Verdict> {
        let generate = GenerateRequest { prompt: String::new(), ..request(self.generator()?) };
        let messages = vec![ChatMessage { role: "user".to_owned(), content: "Hello there".to_owned(), ..ChatMessage::default() }];
        Ok(ChatRequest { generate: Some(generate), messages, ..ChatRequest::default() })
    }
}

pub(super) async fn generates(subject: &Subject) -> Checked {
    let request = subject.chat_request()?;
    let whole = match subject.client().chat(request.clone()).await {
        Ok(whole) => whole.into_inner().generated.unwrap_or_default(),
        Err(status) if status.code() == Code::FailedPrecondition => return Err(Verdict::skipped("the model has no chat template, and says so")),
        Err(status) if status.code() == Code::InvalidArgument => {
            return Err(Verdict::skipped(format!("the template does not take a plain message: {}", shown(&status))));
        }
        Err(status) => return Err(status.into()),
    };
    let stream = subject.client().chat_stream(ChatStreamRequest { request: Some(request) }).await?.into_inner();
    let pieces: Vec<ChatStreamResponse> = stream.try_collect().await?;
    let text: String = pieces.into_iter().map(|piece| piece.generated.unwrap_or_default().text).collect();
    ensure!(text == whole.text, "Chat says {:?}, and ChatStream {text:?}", whole.text);
    Ok(())
}

/// Each fault by its own path, both at once where there are two.
pub(super) async fn refused(subject: &Subject) -> Checked {
    let good = subject.chat_request()?;
    if let Err(status) = subject.client().chat(good.clone()).await {
        return Err(Verdict::skipped(format!("the model does not chat: {}", shown(&status))));
    }
    let generate = GenerateRequest { n: Some(0), ..good.generate.clone().unwrap_or_default() };
    let wrong = [
        (ChatRequest { generate: Some(generate), ..good.clone() }, "generate.n"),
        (ChatRequest { tools: vec!["no JSON".to_owned()], ..good.clone() }, "tools[0]"),
        (ChatRequest { template: "no such template".to_owned(), ..good.clone() }, "template"),
        (ChatRequest { variables: "{".to_owned(), ..good.clone() }, "variables"),
        (ChatRequest { messages: Vec::new(), ..good }, "messages"),
    ];
    for (request, field) in wrong {
        Refusal::invalid("X8", Call::new(SERVICE, "Chat", &request), &[field]).hold(&subject.ground.target).await?;
    }
    Ok(())
}
