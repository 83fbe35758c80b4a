use futures_util::{StreamExt, stream};
use quintet_proto::tokenization::v1::{
    DecodeStreamRequest, DecodeStreamResponse, EncodeRequest, EncodeStreamRequest, EncodeStreamResponse, Tokenizer,
};
use tonic::Code;

use super::{SERVICE, Subject, TEXTS};
use crate::conformance::{
    check::{Checked, ensure, fields, shown},
    target::{Answered, Call, decoded},
};

/// The message that a `DecodeStream` begins with.
pub(super) fn first(tokenizer: &Tokenizer, ids: &[u32]) -> DecodeStreamRequest {
    DecodeStreamRequest {
        model: tokenizer.name.clone(),
        model_version: tokenizer.version.clone(),
        ids: ids.to_vec(),
        ..DecodeStreamRequest::default()
    }
}

pub(super) async fn settles(subject: &Subject) -> Checked {
    let begin = || first(&subject.tokenizer, &[]);
    let (name, version) = (subject.tokenizer.name.clone(), subject.tokenizer.version.clone());
    let again = [
        (DecodeStreamRequest { model: name, ..DecodeStreamRequest::default() }, "model"),
        (DecodeStreamRequest { model_version: version, ..DecodeStreamRequest::default() }, "model_version"),
        (DecodeStreamRequest { skip_special_tokens: Some(true), ..DecodeStreamRequest::default() }, "skip_special_tokens"),
    ];
    for (later, field) in again {
        let Answered { messages, status } = subject.ground.target.call(&Call::stream(SERVICE, "DecodeStream", &[begin(), later])).await;
        let is_refused = status.code() == Code::InvalidArgument && fields(&status) == [field];
        ensure!(is_refused, "a later message of DecodeStream that sets {field} ends with {}", shown(&status));
        ensure!(messages.len() == 1, "{} answers came before the message that sets {field} again", messages.len());
    }
    let named = EncodeStreamRequest { request: Some(subject.encode_request(&["a b c"])) };
    let unnamed = EncodeStreamRequest {
        request: Some(EncodeRequest { model: String::new(), model_version: String::new(), ..subject.encode_request(&["a b c"]) }),
    };
    let mut answers = subject.client().encode_stream(stream::iter([named, unnamed])).await?.into_inner();
    let mut models = Vec::new();
    while let Some(answer) = answers.next().await.transpose()? {
        models.push(answer.response.unwrap_or_default().model);
    }
    ensure!(
        models == [subject.tokenizer.name.as_str(); 2],
        "the answers of an EncodeStream, whose first message alone has a model, are of {models:?}"
    );
    Ok(())
}

/// Each message is sent only when the one before it has been answered.
pub(super) async fn in_order(subject: &Subject) -> Checked {
    let target = &subject.ground.target;
    let whole = subject.encoded(subject.encode_request(&TEXTS)).await?;
    let messages: Vec<_> = TEXTS.iter().map(|text| EncodeStreamRequest { request: Some(subject.encode_request(&[text])) }).collect();
    let (answers, rest) = target.in_turn(&Call::stream(SERVICE, "EncodeStream", &messages)).await?;
    ensure!(rest.is_empty(), "an EncodeStream gives {} answers more when its requests have ended", rest.len());
    let mut encodings = Vec::new();
    for answer in &answers {
        encodings.extend(decoded::<EncodeStreamResponse>(answer)?.response.unwrap_or_default().encodings);
    }
    ensure!(encodings == whole, "an EncodeStream whose client waits for each answer gives other encodings, or another order");

    let mut messages = vec![first(&subject.tokenizer, &[])];
    messages.extend(whole[0].ids.iter().map(|id| DecodeStreamRequest { ids: vec![*id], ..DecodeStreamRequest::default() }));
    let (answers, rest) = target.in_turn(&Call::stream(SERVICE, "DecodeStream", &messages)).await?;
    for answer in &answers {
        ensure!(!decoded::<DecodeStreamResponse>(answer)?.finished, "an answer of DecodeStream has `finished` before the requests have ended");
    }
    let last = rest.iter().map(decoded::<DecodeStreamResponse>).collect::<Result<Vec<_>, _>>()?;
    ensure!(matches!(last.as_slice(), [last] if last.finished), "a DecodeStream whose requests have ended gives {last:?}");
    Ok(())
}

/// A good message, a bad one, and one behind it.
pub(super) async fn first_fault(subject: &Subject) -> Checked {
    let good = || EncodeStreamRequest { request: Some(subject.encode_request(&["a b c"])) };
    let bad = || EncodeStreamRequest { request: Some(subject.encode_request::<&str>(&[])) };
    ends_with(subject, &Call::stream(SERVICE, "EncodeStream", &[good(), bad(), good()]), "inputs").await?;
    let more = |id| DecodeStreamRequest { ids: vec![id], ..DecodeStreamRequest::default() };
    let messages = [first(&subject.tokenizer, &[0]), more(subject.tokenizer.vocabulary_size), more(0)];
    ends_with(subject, &Call::stream(SERVICE, "DecodeStream", &messages), "ids[0]").await
}

/// Whether a stream gives one answer, and then a status with this field.
async fn ends_with(subject: &Subject, call: &Call, field: &str) -> Checked {
    let Answered { messages, status } = subject.ground.target.call(call).await;
    let rpc = call.rpc();
    ensure!(messages.len() == 1, "{rpc} gives {} answers to one good message before a bad one, and {}", messages.len(), shown(&status));
    let is_refused = status.code() == Code::InvalidArgument && fields(&status) == [field];
    ensure!(is_refused, "{rpc} with a bad {field} in its second message ends with {}", shown(&status));
    Ok(())
}

pub(super) async fn of_nothing(subject: &Subject) -> Checked {
    let target = &subject.ground.target;
    let none: [EncodeStreamRequest; 0] = [];
    let Answered { messages, status } = target.call(&Call::stream(SERVICE, "EncodeStream", &none)).await;
    ensure!(
        status.code() == Code::Ok && messages.is_empty(),
        "an EncodeStream of no messages has {} answers, and {}",
        messages.len(),
        shown(&status)
    );
    let none: [DecodeStreamRequest; 0] = [];
    let Answered { messages, status } = target.call(&Call::stream(SERVICE, "DecodeStream", &none)).await;
    ensure!(status.code() == Code::Ok, "a DecodeStream of no messages ends with {}", shown(&status));
    let last = messages.iter().map(decoded::<DecodeStreamResponse>).collect::<Result<Vec<_>, _>>()?;
    ensure!(matches!(last.as_slice(), [last] if last.finished && last.text.is_empty()), "a DecodeStream of no messages gives {last:?}");
    Ok(())
}
