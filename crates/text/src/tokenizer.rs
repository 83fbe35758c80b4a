//! The tokenization service, as this service calls it.

use quintet_onnx::ModelFolder;
use quintet_proto::tokenization::v1::{
    ApplyChatTemplateRequest, DecodeRequest, DecodeStreamRequest, DecodeStreamResponse, EncodeInput, EncodeRequest, Encoding, GetTokenizerRequest,
    GetVocabularyRequest, TokenIds, Truncation, TruncationSide, tokenization_service_client::TokenizationServiceClient,
};
use quintet_serving::peer::Peer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{
    Error,
    engine::encoder::{Mask, Vocabulary},
};

/// Tokens that may wait to be decoded.
const WAITING: usize = 64;

/// Sequences in one request to decode.
const MOST_SEQUENCES: usize = 4096;

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
        let inputs = texts.into_iter().map(|text| EncodeInput { text, ..EncodeInput::default() }).collect();
        let encodings = self.encode_inputs(model, inputs, max_tokens, EncodeRequest::default()).await?;
        Ok(encodings.into_iter().map(|encoding| encoding.ids).collect())
    }

    /// The encodings of texts or pairs of them, with what `asked` asks for besides. `max_tokens` cuts at the end,
    /// whatever the tokenizer's own configuration says, of a pair the longer first.
    pub(crate) async fn encode_inputs(
        &self,
        model: &ModelFolder,
        inputs: Vec<EncodeInput>,
        max_tokens: Option<usize>,
        asked: EncodeRequest,
    ) -> Result<Vec<Encoding>, Error> {
        let request = EncodeRequest {
            model: model.name.clone(),
            model_version: model.version.clone(),
            inputs,
            truncation: max_tokens.map(|max_tokens| Truncation {
                max_tokens: u32::try_from(max_tokens).unwrap_or(u32::MAX),
                side: TruncationSide::Right.into(),
                ..Truncation::default()
            }),
            ..asked
        };
        Ok(self.client.clone().encode(request).await.map_err(Error::of_tokenization)?.into_inner().encodings)
    }

    /// How many ids the tokenizer has, which of them are special, and its mask.
    pub(crate) async fn described(&self, model: &ModelFolder) -> Result<Vocabulary, Error> {
        let request = GetTokenizerRequest { model: model.name.clone(), model_version: model.version.clone() };
        let tokenizer = self.client.clone().get_tokenizer(request).await.map_err(Error::of_tokenization)?.into_inner().tokenizer.unwrap_or_default();
        let mut special_ids: Vec<u32> = tokenizer.special_tokens.iter().map(|special| special.id).collect();
        special_ids.sort_unstable();
        let mut specials = tokenizer.special_tokens.into_iter();
        let mask = specials.find(|special| Some(special.id) == tokenizer.mask_id).map(|special| Mask { id: special.id, content: special.content });
        Ok(Vocabulary { size: tokenizer.vocabulary_size, special_ids, mask })
    }

    /// The text of each of these tokens by itself.
    pub(crate) async fn texts(&self, model: &ModelFolder, ids: &[u32]) -> Result<Vec<String>, Error> {
        let mut texts = Vec::with_capacity(ids.len());
        for ids in ids.chunks(MOST_SEQUENCES) {
            let request = DecodeRequest {
                model: model.name.clone(),
                model_version: model.version.clone(),
                sequences: ids.iter().map(|id| TokenIds { ids: vec![*id] }).collect(),
                skip_special_tokens: Some(false),
                ..DecodeRequest::default()
            };
            texts.extend(self.client.clone().decode(request).await.map_err(Error::of_tokenization)?.into_inner().texts);
        }
        Ok(texts)
    }

    /// The token ids of a conversation as the model's template writes it.
    pub(crate) async fn chat(&self, request: ApplyChatTemplateRequest) -> Result<Vec<u32>, Error> {
        let answer = self.client.clone().apply_chat_template(request).await.map_err(Error::of_tokenization)?.into_inner();
        Ok(answer.encoding.map(|encoding| encoding.ids).unwrap_or_default())
    }

    /// The bytes of each token by its id, and which tokens are special.
    pub(crate) async fn vocabulary(&self, model: &ModelFolder) -> Result<(Vec<Vec<u8>>, Vec<u32>), Error> {
        let request = GetVocabularyRequest { model: model.name.clone(), model_version: model.version.clone() };
        let mut parts = self.client.clone().get_vocabulary(request).await.map_err(Error::of_tokenization)?.into_inner();
        let (mut bytes, mut special) = (Vec::new(), Vec::new());
        while let Some(part) = parts.message().await.map_err(Error::of_tokenization)? {
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
        let mut texts = self.client.clone().decode_stream(ReceiverStream::new(requests)).await.map_err(Error::of_tokenization)?.into_inner();
        texts.message().await.map_err(Error::of_tokenization)?;
        Ok(Decoding { ids, texts })
    }
}

impl Decoding {
    /// The text that became whole with these tokens.
    pub(crate) async fn push(&mut self, ids: Vec<u32>) -> Result<String, Error> {
        let is_sent = self.ids.send(DecodeStreamRequest { ids, ..DecodeStreamRequest::default() }).await.is_ok();
        // Where the call has ended before, its status says why.
        let text = self.next().await?;
        if is_sent { Ok(text) } else { Err(Error::Ended) }
    }

    /// The text that was held back to the end.
    pub(crate) async fn finish(mut self) -> Result<String, Error> {
        drop(std::mem::replace(&mut self.ids, mpsc::channel(1).0));
        self.next().await
    }

    async fn next(&mut self) -> Result<String, Error> {
        let answer = self.texts.message().await.map_err(Error::of_tokenization)?;
        Ok(answer.map(|answer| answer.text).unwrap_or_default())
    }
}
