//! The tokenization service, as this service calls it.

use quintet_onnx::ModelFolder;
use quintet_proto::tokenization::v1::{
    ApplyChatTemplateRequest, DecodeStreamRequest, DecodeStreamResponse, EncodeInput, EncodeRequest, GetVocabularyRequest, Truncation,
    tokenization_service_client::TokenizationServiceClient,
};
use quintet_serving::peer::Peer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::Error;

/// Tokens that may wait to be decoded.
const WAITING: usize = 64;

/// The largest vocabulary that is believed.
const MOST_TOKENS: usize = 1 << 22;

/// A client of the tokenization service. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tokenizer {
    client: TokenizationServiceClient<Peer>,
}

/// A stream of tokens that becomes a stream of text.
#[derive(Debug)]
pub(crate) struct Decoding {
    ids: mpsc::Sender<DecodeStreamRequest>,
    texts: Streaming<DecodeStreamResponse>,
}

impl Tokenizer {
    pub(crate) fn new(channel: Peer, max_message_bytes: usize) -> Self {
        let client =
            TokenizationServiceClient::new(channel).max_decoding_message_size(max_message_bytes).max_encoding_message_size(max_message_bytes);
        Self { client }
    }

    /// The token ids of each text, with the tokenizer's own special tokens. Text that spells a special token stays
    /// text. `max_tokens` cuts at the end.
    pub(crate) async fn encode(&self, model: &ModelFolder, texts: Vec<String>, max_tokens: Option<usize>) -> Result<Vec<Vec<u32>>, Error> {
        let request = EncodeRequest {
            model: model.name.clone(),
            model_version: model.version.clone(),
            inputs: texts.into_iter().map(|text| EncodeInput { text, ..EncodeInput::default() }).collect(),
            truncation: max_tokens
                .map(|max_tokens| Truncation { max_tokens: u32::try_from(max_tokens).unwrap_or(u32::MAX), ..Truncation::default() }),
            ..EncodeRequest::default()
        };
        let answer = self.client.clone().encode(request).await.map_err(Error::Tokenization)?.into_inner();
        Ok(answer.encodings.into_iter().map(|encoding| encoding.ids).collect())
    }

    /// The token ids of a conversation as the model's template writes it.
    pub(crate) async fn chat(&self, request: ApplyChatTemplateRequest) -> Result<Vec<u32>, Error> {
        let answer = self.client.clone().apply_chat_template(request).await.map_err(Error::Tokenization)?.into_inner();
        Ok(answer.encoding.map(|encoding| encoding.ids).unwrap_or_default())
    }

    /// The bytes of each token by its id, and which tokens are special.
    pub(crate) async fn vocabulary(&self, model: &ModelFolder) -> Result<(Vec<Vec<u8>>, Vec<u32>), Error> {
        let request = GetVocabularyRequest { model: model.name.clone(), model_version: model.version.clone() };
        let mut parts = self.client.clone().get_vocabulary(request).await.map_err(Error::Tokenization)?.into_inner();
        let (mut bytes, mut special) = (Vec::new(), Vec::new());
        while let Some(part) = parts.message().await.map_err(Error::Tokenization)? {
            for entry in part.entries {
                if entry.id as usize >= MOST_TOKENS {
                    let reason = format!("token {}: at most {MOST_TOKENS} tokens are believed", entry.id);
                    return Err(Error::Tokenization(tonic::Status::internal(reason)));
                }
                if bytes.len() <= entry.id as usize {
                    bytes.resize(entry.id as usize + 1, Vec::new());
                }
                if entry.special {
                    special.push(entry.id);
                }
                if let Some(place) = bytes.get_mut(entry.id as usize) {
                    *place = entry.bytes;
                }
            }
        }
        Ok((bytes, special))
    }

    /// Begins to decode a stream of tokens.
    pub(crate) async fn decode(&self, model: &ModelFolder) -> Result<Decoding, Error> {
        let (ids, requests) = mpsc::channel(WAITING);
        let (model, model_version) = (model.name.clone(), model.version.clone());
        let first = DecodeStreamRequest { model, model_version, skip_special_tokens: Some(true), ids: Vec::new() };
        // The first message is there before the call begins, so that it never waits for us.
        ids.try_send(first).map_err(|_| Error::Ended)?;
        let mut texts = self.client.clone().decode_stream(ReceiverStream::new(requests)).await.map_err(Error::Tokenization)?.into_inner();
        texts.message().await.map_err(Error::Tokenization)?;
        Ok(Decoding { ids, texts })
    }
}

impl Decoding {
    /// The text that became whole with these tokens.
    pub(crate) async fn push(&mut self, ids: Vec<u32>) -> Result<String, Error> {
        self.ids.send(DecodeStreamRequest { ids, ..DecodeStreamRequest::default() }).await.map_err(|_| Error::Ended)?;
        self.next().await
    }

    /// The text that was held back to the end.
    pub(crate) async fn finish(mut self) -> Result<String, Error> {
        drop(std::mem::replace(&mut self.ids, mpsc::channel(1).0));
        self.next().await
    }

    async fn next(&mut self) -> Result<String, Error> {
        let answer = self.texts.message().await.map_err(Error::Tokenization)?;
        Ok(answer.map(|answer| answer.text).unwrap_or_default())
    }
}
