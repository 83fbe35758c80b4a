use quintet_proto::tokenization::v1::{ChunkBoundary, ChunkRequest};

use super::{Subject, TEXTS};
use crate::conformance::check::{Checked, Verdict, ensure};

const MAX_TOKENS: u32 = 24;

pub(super) async fn cover(subject: &Subject) -> Checked {
    let text = TEXTS.join("\n\n");
    for (boundary, overlap_tokens) in [(ChunkBoundary::Token, 0), (ChunkBoundary::Sentence, 0), (ChunkBoundary::Word, 6)] {
        let request = ChunkRequest {
            model: subject.tokenizer.name.clone(),
            model_version: subject.tokenizer.version.clone(),
            texts: vec![text.clone(), String::new()],
            max_tokens: MAX_TOKENS,
            overlap_tokens,
            boundary: boundary.into(),
            ..ChunkRequest::default()
        };
        let answer = subject.client().chunk(request).await?.into_inner();
        let [chunked, empty] = answer.texts.as_slice() else {
            return Err(Verdict::failed(format!("Chunk of 2 texts gives {}", answer.texts.len())));
        };
        ensure!(empty.chunks.is_empty(), "an empty text has {} chunks", empty.chunks.len());
        let mut end = 0;
        for chunk in &chunked.chunks {
            let span = chunk.byte_span.unwrap_or_default();
            let Some(piece) = text.get(span.start as usize..span.end as usize) else {
                return Err(Verdict::failed(format!("{boundary:?}: the chunk at bytes {}-{} cuts a character", span.start, span.end)));
            };
            ensure!(piece == chunk.text, "{boundary:?}: the chunk at bytes {}-{} has another text: {:?}", span.start, span.end, chunk.text);
            ensure!(span.start <= end, "{boundary:?}: nothing covers the bytes {end}-{}", span.start);
            ensure!(overlap_tokens > 0 || span.start == end, "{boundary:?}: chunks overlap at byte {} without overlap_tokens", span.start);
            end = span.end;
        }
        ensure!(end as usize == text.len(), "{boundary:?}: the chunks end at byte {end} of {}", text.len());
        let pieces: Vec<&str> = chunked.chunks.iter().map(|chunk| chunk.text.as_str()).collect();
        for (chunk, encoding) in chunked.chunks.iter().zip(subject.encoded(subject.encode_request(&pieces)).await?) {
            let tokens = encoding.ids.len() as u32;
            ensure!(tokens <= MAX_TOKENS, "{boundary:?}: {:?} has {tokens} tokens by itself, and max_tokens is {MAX_TOKENS}", chunk.text);
            ensure!(tokens == chunk.tokens, "{boundary:?}: {:?} has {tokens} tokens by itself, and Chunk says {}", chunk.text, chunk.tokens);
        }
    }
    Ok(())
}
