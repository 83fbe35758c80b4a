use futures_util::{TryStreamExt, stream};
use quintet_proto::tokenization::v1::{DecodeRequest, DecodeStreamRequest, DecodeStreamResponse, TokenIds, TokenizerAlgorithm, VocabularyEntry};

use super::{Subject, TEXTS, streams};
use crate::conformance::check::{Checked, Verdict, ensure};

/// How many ids of a vocabulary are decoded one by one.
const TRIED: usize = 512;

impl Subject {
    fn decode_request(&self, sequences: Vec<Vec<u32>>) -> DecodeRequest {
        DecodeRequest {
            model: self.tokenizer.name.clone(),
            model_version: self.tokenizer.version.clone(),
            sequences: sequences.into_iter().map(|ids| TokenIds { ids }).collect(),
            ..DecodeRequest::default()
        }
    }

    async fn texts(&self, sequences: Vec<Vec<u32>>) -> Result<Vec<String>, Verdict> {
        let count = sequences.len();
        let texts = self.client().decode(self.decode_request(sequences)).await?.into_inner().texts;
        ensure!(texts.len() == count, "Decode of {count} sequences gives {} texts", texts.len());
        Ok(texts)
    }

    /// What ids stand for, special tokens included.
    async fn bytes(&self, sequences: Vec<Vec<u32>>) -> Result<Vec<Vec<u8>>, Verdict> {
        let count = sequences.len();
        let request = DecodeRequest { return_bytes: true, skip_special_tokens: Some(false), ..self.decode_request(sequences) };
        let answer = self.client().decode(request).await?.into_inner();
        ensure!(answer.raw_texts.len() == count, "Decode of {count} sequences gives {} texts in bytes", answer.raw_texts.len());
        ensure!(answer.texts.is_empty(), "Decode with return_bytes gives texts too");
        Ok(answer.raw_texts)
    }

    /// The id of each byte, where the tokenizer is byte-level BPE: one that has each byte as one token exactly.
    fn byte_ids(&self) -> Result<Option<Vec<u32>>, Verdict> {
        let entries = self.vocabulary()?;
        let of = |byte: u8| {
            let mut found = entries.iter().filter(|entry| !entry.special && entry.bytes == [byte]);
            found.next().filter(|_| found.next().is_none()).map(|entry| entry.id)
        };
        let is_bpe = self.tokenizer.algorithm() == TokenizerAlgorithm::Bpe;
        Ok(if is_bpe { (0..=u8::MAX).map(of).collect() } else { None })
    }
}

pub(super) async fn round_trip(subject: &Subject) -> Checked {
    let entries = subject.vocabulary()?;
    // What ids stand for after another token.
    let before = entries.iter().find(|entry| !entry.special && !entry.bytes.is_empty());
    let Some(before) = before else { return Err(Verdict::failed("the vocabulary has no token with bytes")) };
    let tried: Vec<&VocabularyEntry> = entries.iter().step_by(entries.len().div_ceil(TRIED).max(1)).filter(|entry| !entry.special).collect();
    let sequences = std::iter::once(vec![before.id]).chain(tried.iter().map(|entry| vec![before.id, entry.id])).collect();
    let mut decoded = subject.bytes(sequences).await?.into_iter();
    let first = decoded.next().unwrap_or_default();
    for (entry, bytes) in tried.iter().zip(decoded) {
        let expected = [first.as_slice(), &entry.bytes].concat();
        ensure!(bytes == expected, "the ids {} {} decode to {bytes:02x?}, and the vocabulary says {expected:02x?}", before.id, entry.id);
    }
    let Some(byte_ids) = subject.byte_ids()? else {
        return Err(Verdict::skipped("what ids stand for holds; the tokenizer is not byte-level BPE, so texts need not come back"));
    };
    for text in TEXTS {
        let back = subject.texts(vec![subject.ids(text).await?]).await?.concat();
        ensure!(back == text, "{text:?} comes back as {back:?}");
    }
    let broken = b"a\xf0\x9f\x98\xffb\xc3\xe2\x82!\xed\xa0\x80";
    let ids: Vec<u32> = broken.iter().map(|byte| byte_ids[usize::from(*byte)]).collect();
    let (text, expected) = (subject.texts(vec![ids]).await?.concat(), String::from_utf8_lossy(broken));
    ensure!(text == expected, "the bytes {broken:02x?} decode to {text:?}: U+FFFD for each longest piece gives {expected:?}");
    Ok(())
}

/// The ids of all texts, and some that are drawn.
pub(super) async fn streamed(subject: &Subject) -> Checked {
    let mut ids = Vec::new();
    for text in TEXTS {
        ids.extend(subject.ids(text).await?);
    }
    let mut state = 7u32;
    ids.extend((0..64).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % subject.tokenizer.vocabulary_size.max(1)
    }));
    let whole = subject.texts(vec![ids.clone()]).await?.concat();
    for size in [1, 3, ids.len()] {
        let mut messages = vec![streams::first(&subject.tokenizer, &[])];
        messages.extend(ids.chunks(size).map(|ids| DecodeStreamRequest { ids: ids.to_vec(), ..DecodeStreamRequest::default() }));
        let count = messages.len();
        let answers: Vec<DecodeStreamResponse> = subject.client().decode_stream(stream::iter(messages)).await?.into_inner().try_collect().await?;
        ensure!(answers.len() == count + 1, "{count} messages of DecodeStream have {} answers", answers.len());
        let finished: Vec<usize> = answers.iter().enumerate().filter(|(_, answer)| answer.finished).map(|(index, _)| index).collect();
        ensure!(finished == [count], "of {} answers of DecodeStream these have `finished`: {finished:?}", count + 1);
        let text: String = answers.into_iter().map(|answer| answer.text).collect();
        ensure!(text == whole, "{} ids decode to {whole:?}, and by stream, {size} in a message, to {text:?}", ids.len());
    }
    Ok(())
}

pub(super) async fn vocabulary(subject: &Subject) -> Checked {
    let entries = subject.vocabulary()?;
    let size = subject.tokenizer.vocabulary_size as usize;
    ensure!(entries.len() == size, "GetVocabulary gives {} ids of {size}", entries.len());
    for (expected, entry) in (0u32..).zip(entries) {
        ensure!(entry.id == expected, "GetVocabulary gives id {} in the place of {expected}", entry.id);
        let is_special = subject.is_special(entry.id);
        ensure!(entry.special == is_special, "id {} has special = {}, and special_tokens says {is_special}", entry.id, entry.special);
    }
    Ok(())
}

pub(super) async fn unknown_ids(subject: &Subject) -> Checked {
    subject.ground.refused("K10").await
}
