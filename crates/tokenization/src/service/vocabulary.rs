use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use quintet_onnx::Loaded;
use quintet_proto::tokenization::v1::{GetVocabularyResponse, VocabularyEntry};
use tokio_stream::Stream;
use tonic::Status;

use crate::engine::Entry;

/// Tokens in one part: some tens of kilobytes.
const PART: u32 = 4096;

/// A vocabulary in parts, each made when the client takes it.
#[derive(Debug)]
pub(crate) struct Parts {
    entry: Arc<Loaded<Entry>>,
    next: u32,
}

impl Parts {
    pub(super) fn new(entry: Arc<Loaded<Entry>>) -> Self {
        Self { entry, next: 0 }
    }
}

impl Stream for Parts {
    type Item = Result<GetVocabularyResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let end = self.entry.tokenizer.vocabulary_size().min(self.next.saturating_add(PART));
        let ids = self.next..end;
        if ids.is_empty() {
            return Poll::Ready(None);
        }
        self.next = end;
        let detokenizer = self.entry.tokenizer.detokenizer();
        let entries = ids.map(|id| VocabularyEntry { id, bytes: detokenizer.bytes(id).to_vec(), special: detokenizer.is_special(id) });
        Poll::Ready(Some(Ok(GetVocabularyResponse { entries: entries.collect() })))
    }
}
