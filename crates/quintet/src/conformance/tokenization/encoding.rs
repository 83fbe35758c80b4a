use futures_util::{StreamExt, stream};
use quintet_proto::tokenization::v1::{CountTokensRequest, EncodeInput, EncodeRequest, EncodeStreamRequest, Encoding};
use tonic::Code;

use super::{Subject, TEXTS, inputs};
use crate::conformance::check::{Checked, Verdict, ensure, shown};

const MOST_INPUTS: usize = 4096;

pub(super) async fn most_inputs(subject: &Subject) -> Checked {
    let request = subject.encode_request(&vec!["a"; MOST_INPUTS]);
    match subject.client().encode(request).await {
        Ok(answer) => {
            let count = answer.into_inner().encodings.len();
            ensure!(count == MOST_INPUTS, "Encode of {MOST_INPUTS} inputs gives {count}");
            Ok(())
        }
        Err(status) if status.code() == Code::InvalidArgument && status.message().bytes().any(|byte| byte.is_ascii_digit()) => {
            Err(Verdict::skipped(format!("the target is configured to take less: {}", shown(&status))))
        }
        Err(status) => Err(status.into()),
    }
}

pub(super) async fn lengths(subject: &Subject) -> Checked {
    subject.ground.refused("L3").await
}

/// All at once, backwards, one by one, and by stream.
pub(super) async fn alone_or_together(subject: &Subject) -> Checked {
    let together = subject.encoded(subject.encode_request(&TEXTS)).await?;
    let backwards: Vec<_> = TEXTS.into_iter().rev().collect();
    let mut again = subject.encoded(subject.encode_request(&backwards)).await?;
    again.reverse();
    ensure!(again == together, "the same texts in another order have other encodings");
    let messages: Vec<_> = TEXTS.iter().map(|text| EncodeStreamRequest { request: Some(subject.encode_request(&[text])) }).collect();
    for (index, text) in TEXTS.iter().enumerate() {
        let alone = subject.encoded(subject.encode_request(&[text])).await?;
        ensure!(alone == together[index..=index], "{text:?} has another encoding alone than among others");
    }
    let mut answers = subject.client().encode_stream(stream::iter(messages)).await?.into_inner();
    for (index, text) in TEXTS.iter().enumerate() {
        let answer = answers.next().await.transpose()?.and_then(|answer| answer.response).unwrap_or_default();
        ensure!(answer.encodings == together[index..=index], "{text:?} has another encoding by stream");
    }
    Ok(())
}

pub(super) async fn counts(subject: &Subject) -> Checked {
    for add_special_tokens in [None, Some(true), Some(false)] {
        let mut texts = inputs(&TEXTS);
        texts.push(EncodeInput { text: TEXTS[0].to_owned(), pair: Some(TEXTS[3].to_owned()), ..EncodeInput::default() });
        let encode = EncodeRequest { inputs: texts.clone(), add_special_tokens, ..subject.encode_request::<&str>(&[]) };
        let lengths: Vec<_> = subject.encoded(encode).await?.iter().map(|encoding| encoding.ids.len() as u32).collect();
        let count = CountTokensRequest {
            model: subject.tokenizer.name.clone(),
            model_version: subject.tokenizer.version.clone(),
            inputs: texts,
            add_special_tokens,
        };
        let counted = subject.client().count_tokens(count).await?.into_inner().counts;
        ensure!(counted == lengths, "with add_special_tokens = {add_special_tokens:?} CountTokens gives {counted:?}, and Encode {lengths:?}");
    }
    Ok(())
}

pub(super) async fn offsets(subject: &Subject) -> Checked {
    let request = EncodeRequest { return_offsets: true, return_special_tokens_mask: true, ..subject.encode_request(&TEXTS) };
    for (text, encoding) in TEXTS.iter().zip(subject.encoded(request).await?) {
        let Encoding { ids, byte_offsets, char_offsets, special_tokens_mask, .. } = encoding;
        let lengths = [byte_offsets.len(), char_offsets.len(), special_tokens_mask.len()];
        ensure!(lengths == [ids.len(); 3], "{text:?}: {} ids have {lengths:?} offsets in bytes, in characters and marks", ids.len());
        for ((id, mark), (bytes, characters)) in ids.iter().zip(special_tokens_mask).zip(byte_offsets.iter().zip(char_offsets)) {
            let (start, end) = (bytes.start as usize, bytes.end as usize);
            if mark == 1 {
                ensure!((start, end, characters.start, characters.end) == (0, 0, 0, 0), "{text:?}: the added token {id} stands at {start}-{end}");
                continue;
            }
            let Some(piece) = text.get(start..end) else {
                return Err(Verdict::failed(format!("{text:?}: token {id} stands at bytes {start}-{end}, which is no piece of the text")));
            };
            let before = text[..start].chars().count();
            let expected = (before as u32, (before + piece.chars().count()) as u32);
            let given = (characters.start, characters.end);
            ensure!(given == expected, "{text:?}: token {id} stands at bytes {start}-{end} and characters {given:?}: these are {expected:?}");
        }
    }
    Ok(())
}
