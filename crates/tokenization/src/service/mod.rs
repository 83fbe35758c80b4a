//! The gRPC face: converts a request, calls the engine, converts the answer.

mod chat;
mod checks;
mod convert;
mod decode_stream;
mod encode_stream;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::sync::Arc;

use prost::Message as _;
use quintet_onnx::Loaded;
use quintet_proto::tokenization::v1::{
    ApplyChatTemplateRequest, ApplyChatTemplateResponse, ChunkRequest, ChunkResponse, CountTokensRequest, CountTokensResponse, DecodeRequest,
    DecodeResponse, DecodeStreamRequest, EncodeRequest, EncodeResponse, EncodeStreamRequest, GetTokenizerRequest, GetTokenizerResponse,
    GetVocabularyRequest, ListTokenizersRequest, ListTokenizersResponse, TextChunks,
    tokenization_service_server::{TokenizationService, TokenizationServiceServer},
};
use quintet_serving::{component::Component, config::ServerConfig, error::status};
use tonic::{Request, Response, Status, Streaming, codec::CompressionEncoding};

use self::{decode_stream::Decoding, encode_stream::Encoding, vocabulary::Parts};
use crate::{
    Config, Error,
    engine::{self, Catalog, Entry, Workers},
};

/// The service as a component of a process.
pub(crate) fn component(config: &Config, server: &ServerConfig, catalog: Catalog, workers: Workers) -> Component {
    describe_metrics();
    let service = Arc::new(Service { catalog, workers, limits: Limits::new(config, server), streamed: 2 * config.worker_threads() });
    let (request, response) = (server.max_request_bytes, server.max_response_bytes);
    Component::new("quintet.tokenization.v1.TokenizationService").register(move |routes| {
        let server =
            TokenizationServiceServer::from_arc(Arc::new(Handler(service))).max_decoding_message_size(request).max_encoding_message_size(response);
        routes.add_service(server.accept_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Deflate));
    })
}

fn describe_metrics() {
    metrics::describe_histogram!("quintet_tokenization_batch_size", "Inputs or sequences of a request");
    metrics::describe_histogram!("quintet_tokenization_queue_seconds", "How long a large request waits for a thread");
    metrics::describe_counter!("quintet_tokenization_tokens_total", "Tokens encoded, decoded and counted");
}

/// What a request may ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    max_inputs: usize,
    max_text_bytes: usize,
    max_ids: usize,
    max_streamed_ids: usize,
    max_tokens: usize,
    inline_bytes: usize,
    max_response_bytes: usize,
}

impl Limits {
    fn new(config: &Config, server: &ServerConfig) -> Self {
        Self {
            max_inputs: config.max_inputs,
            max_text_bytes: config.max_text_bytes,
            max_ids: config.max_ids,
            // A stream's messages are decoded where they arrive.
            max_streamed_ids: config.max_ids.min(MOST_STREAMED_IDS),
            max_tokens: config.max_tokens,
            inline_bytes: config.inline_bytes,
            max_response_bytes: server.max_response_bytes,
        }
    }
}

/// Ids are decoded about this many times faster than text of as many bytes is encoded.
const DECODE_SPEED: usize = 16;

/// How many times the bytes of the complete encoder the fast one takes in the same time, at least.
const FAST_BPE: usize = 16;
const FAST_OTHERS: usize = 10;

/// How much faster than by the complete encoder a request's texts are encoded.
fn speed(tokenizer: &engine::Tokenizer, offsets: bool) -> usize {
    match tokenizer.algorithm() {
        _ if offsets || !tokenizer.is_fast() => 1,
        engine::Algorithm::Bpe => FAST_BPE,
        _ => FAST_OTHERS,
    }
}

/// The most ids of a stream's message, and the most that a stream may hold back: some milliseconds of work.
const MOST_STREAMED_IDS: usize = 1 << 17;

#[derive(Debug)]
pub(crate) struct Service {
    catalog: Catalog,
    workers: Workers,
    limits: Limits,
    /// How many requests of one stream are worked on at once: enough that every thread has work while answers are taken.
    streamed: usize,
}

impl Service {
    /// Where its tasks run.
    fn tasks(&self) -> &tokio_util::task::TaskTracker {
        self.workers.tasks()
    }

    fn entry(&self, model: &str, version: &str) -> Result<Arc<Loaded<Entry>>, Error> {
        Ok(self.catalog.get(model, version)?)
    }

    async fn encode(&self, request: EncodeRequest) -> Result<EncodeResponse, Error> {
        let entry = self.entry(&request.model, &request.model_version)?;
        let options = checks::options(&request, &entry.tokenizer, &self.limits)?;
        let bytes = checks::inputs(&request.inputs, &self.limits)?;
        let inputs = convert::inputs(request.inputs);
        metrics::histogram!("quintet_tokenization_batch_size").record(inputs.len() as f64);
        let work = (bytes / speed(&entry.tokenizer, options.offsets)).saturating_add(options.beyond_the_text(inputs.len()));
        let encodings = if work <= self.limits.inline_bytes {
            engine::encode(&entry.tokenizer, &inputs, &options, || false)?
        } else {
            let entry = Arc::clone(&entry);
            self.workers.run(bytes, move |cancelled| engine::encode(&entry.tokenizer, &inputs, &options, || cancelled.get())).await??
        };
        let encodings = encodings.ok_or(Error::Cancelled)?;
        count("encode", encodings.iter().map(|encoding| encoding.ids.len()).sum());
        let encodings = encodings.into_iter().map(convert::encoding).collect();
        // The engine has held the answer to its limit.
        Ok(EncodeResponse { model: entry.name.clone(), model_version: entry.version.clone(), encodings })
    }

    async fn count_tokens(&self, request: CountTokensRequest) -> Result<CountTokensResponse, Error> {
        let entry = self.entry(&request.model, &request.model_version)?;
        let add = request.add_special_tokens.unwrap_or(true);
        let bytes = checks::inputs(&request.inputs, &self.limits)?;
        let inputs = convert::inputs(request.inputs);
        metrics::histogram!("quintet_tokenization_batch_size").record(inputs.len() as f64);
        let counts = if bytes / speed(&entry.tokenizer, false) <= self.limits.inline_bytes {
            engine::count(&entry.tokenizer, &inputs, add, || false)?
        } else {
            let entry = Arc::clone(&entry);
            self.workers.run(bytes, move |cancelled| engine::count(&entry.tokenizer, &inputs, add, || cancelled.get())).await??
        };
        let counts = counts.ok_or(Error::Cancelled)?;
        count("count", counts.iter().map(|&count| count as usize).sum());
        Ok(CountTokensResponse { model: entry.name.clone(), model_version: entry.version.clone(), counts })
    }

    async fn decode(&self, request: DecodeRequest) -> Result<DecodeResponse, Error> {
        let entry = self.entry(&request.model, &request.model_version)?;
        let skip = request.skip_special_tokens.unwrap_or(true);
        let sequences: Vec<Vec<u32>> = request.sequences.into_iter().map(|sequence| sequence.ids).collect();
        let (ids, bytes) = checks::sequences(&sequences, entry.tokenizer.detokenizer(), &self.limits)?;
        metrics::histogram!("quintet_tokenization_batch_size").record(sequences.len() as f64);
        count("decode", ids);
        // What can only be decoded whole is decoded by the crate itself, which is no faster than encoding.
        let speed = if entry.tokenizer.detokenizer().holds_all() { 1 } else { DECODE_SPEED };
        let (texts, raw_texts) = if ids <= self.limits.inline_bytes * speed {
            decode_all(&entry, &sequences, skip, request.return_bytes, || false)?
        } else {
            let entry = Arc::clone(&entry);
            self.workers.run(bytes, move |cancelled| decode_all(&entry, &sequences, skip, request.return_bytes, || cancelled.get())).await??
        };
        let response = DecodeResponse { model: entry.name.clone(), model_version: entry.version.clone(), texts, raw_texts };
        checks::fits("sequences", response.encoded_len(), &self.limits)?;
        Ok(response)
    }

    async fn chunk(&self, request: ChunkRequest) -> Result<ChunkResponse, Error> {
        let entry = self.entry(&request.model, &request.model_version)?;
        let (chunking, bytes) = checks::chunking(&request, &self.limits)?;
        metrics::histogram!("quintet_tokenization_batch_size").record(request.texts.len() as f64);
        let most = self.limits.max_response_bytes;
        if bytes <= self.limits.inline_bytes / CHUNK_COST {
            return chunk_all(&entry, &request, &chunking, most, || false);
        }
        let entry = Arc::clone(&entry);
        self.workers.run(bytes, move |cancelled| chunk_all(&entry, &request, &chunking, most, || cancelled.get())).await?
    }

    async fn apply_chat_template(&self, request: ApplyChatTemplateRequest) -> Result<ApplyChatTemplateResponse, Error> {
        let entry = self.entry(&request.model, &request.model_version)?;
        let bytes = chat::bytes(&request);
        let limit = self.limits.max_text_bytes;
        if bytes > limit {
            return Err(Error::invalid("messages", format!("the request has {bytes} bytes: must be at most {limit}")));
        }
        // Whatever the conversation, a template may take as long as its budget lasts.
        let limits = self.limits;
        let worked = Arc::clone(&entry);
        let response = self.workers.run(bytes, move |_| chat::apply(&worked, request, &limits)).await??;
        count("chat", response.encoding.as_ref().map_or(0, |encoding| encoding.ids.len()));
        checks::fits("messages", response.encoded_len(), &self.limits)?;
        Ok(response)
    }
}

/// A chunk costs about this many encodings of its text, some of them by the complete encoder.
const CHUNK_COST: usize = 16;

/// What a chunk takes in an answer beside its text.
const PER_CHUNK: usize = 64;

fn chunk_all(
    entry: &Entry,
    request: &ChunkRequest,
    chunking: &engine::Chunking,
    max_bytes: usize,
    cancelled: impl Fn() -> bool,
) -> Result<ChunkResponse, Error> {
    let return_texts = request.return_texts.unwrap_or(true);
    let mut bytes = 0;
    let mut texts = Vec::with_capacity(request.texts.len());
    for (index, text) in request.texts.iter().enumerate() {
        let field = format!("texts[{index}]");
        // Chunks repeat at most half of themselves, so an answer may be larger than its request.
        let holds = |chunks: &[engine::Span]| {
            let of = |(start, end): &engine::Span| PER_CHUNK + if return_texts { (end - start) as usize } else { 0 };
            bytes + chunks.iter().map(of).sum::<usize>() <= max_bytes
        };
        let chunks = engine::chunk(&entry.tokenizer, text, &field, chunking, holds, &cancelled)?.ok_or(Error::Cancelled)?;
        bytes += chunks.iter().map(|chunk| PER_CHUNK + if return_texts { (chunk.bytes.1 - chunk.bytes.0) as usize } else { 0 }).sum::<usize>();
        count("chunk", chunks.iter().map(|chunk| chunk.tokens).sum());
        texts.push(TextChunks { chunks: chunks.iter().map(|chunk| convert::chunk(chunk, return_texts.then_some(text))).collect() });
    }
    Ok(ChunkResponse { model: entry.name.clone(), model_version: entry.version.clone(), texts })
}

/// The texts of sequences, or their bytes.
fn decode_all(
    entry: &Entry,
    sequences: &[Vec<u32>],
    skip: bool,
    bytes: bool,
    cancelled: impl Fn() -> bool,
) -> Result<(Vec<String>, Vec<Vec<u8>>), Error> {
    let detokenizer = entry.tokenizer.detokenizer();
    let (mut texts, mut raw_texts) = (Vec::new(), Vec::new());
    for ids in sequences {
        if cancelled() {
            return Err(Error::Cancelled);
        }
        if bytes {
            raw_texts.push(detokenizer.decode_bytes(ids, skip).map_err(undecodable)?);
        } else {
            texts.push(detokenizer.decode(ids, skip).map_err(undecodable)?);
        }
    }
    Ok((texts, raw_texts))
}

fn undecodable(reason: String) -> Error {
    Error::Tokenizer { doing: "decoding", reason }
}

fn count(operation: &'static str, tokens: usize) {
    metrics::counter!("quintet_tokenization_tokens_total", "operation" => operation).increment(tokens as u64);
}

fn answer<T>(result: Result<T, Error>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| status(&error))
}

/// The contract's face of the service.
#[derive(Debug)]
struct Handler(Arc<Service>);

#[tonic::async_trait]
impl TokenizationService for Handler {
    type GetVocabularyStream = Parts;
    type DecodeStreamStream = Decoding;
    type EncodeStreamStream = Encoding;

    async fn list_tokenizers(&self, _: Request<ListTokenizersRequest>) -> Result<Response<ListTokenizersResponse>, Status> {
        let tokenizers = self.0.catalog.all().iter().map(|entry| convert::tokenizer(entry)).collect();
        let default_tokenizer = self.0.catalog.get("", "").map_or_else(|_| String::new(), |entry| entry.name.clone());
        answer(Ok(ListTokenizersResponse { tokenizers, default_tokenizer }))
    }

    async fn get_tokenizer(&self, request: Request<GetTokenizerRequest>) -> Result<Response<GetTokenizerResponse>, Status> {
        let request = request.get_ref();
        answer(self.0.entry(&request.model, &request.model_version).map(|entry| GetTokenizerResponse { tokenizer: Some(convert::tokenizer(&entry)) }))
    }

    async fn get_vocabulary(&self, request: Request<GetVocabularyRequest>) -> Result<Response<Parts>, Status> {
        let request = request.get_ref();
        answer(self.0.entry(&request.model, &request.model_version).map(Parts::new))
    }

    async fn encode(&self, request: Request<EncodeRequest>) -> Result<Response<EncodeResponse>, Status> {
        answer(self.0.encode(request.into_inner()).await)
    }

    async fn encode_stream(&self, request: Request<Streaming<EncodeStreamRequest>>) -> Result<Response<Encoding>, Status> {
        answer(Ok(Encoding::new(request.into_inner(), Arc::clone(&self.0), self.0.streamed)))
    }

    async fn apply_chat_template(&self, request: Request<ApplyChatTemplateRequest>) -> Result<Response<ApplyChatTemplateResponse>, Status> {
        answer(self.0.apply_chat_template(request.into_inner()).await)
    }

    async fn chunk(&self, request: Request<ChunkRequest>) -> Result<Response<ChunkResponse>, Status> {
        answer(self.0.chunk(request.into_inner()).await)
    }

    async fn decode(&self, request: Request<DecodeRequest>) -> Result<Response<DecodeResponse>, Status> {
        answer(self.0.decode(request.into_inner()).await)
    }

    async fn decode_stream(&self, request: Request<Streaming<DecodeStreamRequest>>) -> Result<Response<Decoding>, Status> {
        answer(Ok(Decoding::new(request.into_inner(), self.0.catalog.clone(), self.0.limits)))
    }

    async fn count_tokens(&self, request: Request<CountTokensRequest>) -> Result<Response<CountTokensResponse>, Status> {
        answer(self.0.count_tokens(request.into_inner()).await)
    }
}
