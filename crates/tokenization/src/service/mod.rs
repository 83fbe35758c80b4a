//! The gRPC face: converts a request, calls the engine, converts the answer.

mod checks;
mod convert;
mod decode_stream;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::sync::Arc;

use prost::Message as _;
use quintet_onnx::Loaded;
use quintet_proto::tokenization::v1::{
    CountTokensRequest, CountTokensResponse, DecodeRequest, DecodeResponse, DecodeStreamRequest, EncodeRequest, EncodeResponse, GetTokenizerRequest,
    GetTokenizerResponse, GetVocabularyRequest, ListTokenizersRequest, ListTokenizersResponse,
    tokenization_service_server::{TokenizationService, TokenizationServiceServer},
};
use quintet_serving::{component::Component, config::ServerConfig, error::status};
use tonic::{Request, Response, Status, Streaming, codec::CompressionEncoding};

use self::{decode_stream::Decoding, vocabulary::Parts};
use crate::{
    Config, Error,
    engine::{self, Catalog, Entry, Workers},
};

/// The service as a component of a process.
pub(crate) fn component(config: &Config, server: &ServerConfig, catalog: Catalog, workers: Workers) -> Component {
    describe_metrics();
    let service = Service { catalog, workers, limits: Limits::new(config, server) };
    let (request, response) = (server.max_request_bytes, server.max_response_bytes);
    Component::new("quintet.tokenization.v1.TokenizationService").register(move |routes| {
        let server = TokenizationServiceServer::new(service).max_decoding_message_size(request).max_encoding_message_size(response);
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
            max_tokens: config.max_tokens,
            inline_bytes: config.inline_bytes,
            max_response_bytes: server.max_response_bytes,
        }
    }
}

/// Ids are decoded about this many times faster than text of as many bytes is encoded.
const DECODE_SPEED: usize = 16;

#[derive(Debug)]
struct Service {
    catalog: Catalog,
    workers: Workers,
    limits: Limits,
}

impl Service {
    fn entry(&self, model: &str, version: &str) -> Result<Arc<Loaded<Entry>>, Error> {
        Ok(self.catalog.get(model, version)?)
    }

    async fn encode(&self, request: EncodeRequest) -> Result<EncodeResponse, Error> {
        let entry = self.entry(&request.model, &request.model_version)?;
        let options = checks::options(&request, &entry.tokenizer, &self.limits)?;
        let inputs = convert::inputs(request.inputs);
        let bytes = checks::inputs(&inputs, &self.limits)?;
        metrics::histogram!("quintet_tokenization_batch_size").record(inputs.len() as f64);
        let encodings = if bytes <= self.limits.inline_bytes {
            engine::encode(&entry.tokenizer, &inputs, &options, || false)?
        } else {
            let entry = Arc::clone(&entry);
            self.workers.run(bytes, move |cancelled| engine::encode(&entry.tokenizer, &inputs, &options, || cancelled.get())).await??
        };
        let encodings = encodings.ok_or(Error::Cancelled)?;
        count("encode", encodings.iter().map(|encoding| encoding.ids.len()).sum());
        let encodings = encodings.into_iter().map(convert::encoding).collect();
        let response = EncodeResponse { model: entry.name.clone(), model_version: entry.version.clone(), encodings };
        checks::fits("inputs", response.encoded_len(), &self.limits)?;
        Ok(response)
    }

    async fn count_tokens(&self, request: CountTokensRequest) -> Result<CountTokensResponse, Error> {
        let entry = self.entry(&request.model, &request.model_version)?;
        let add = request.add_special_tokens.unwrap_or(true);
        let inputs = convert::inputs(request.inputs);
        let bytes = checks::inputs(&inputs, &self.limits)?;
        metrics::histogram!("quintet_tokenization_batch_size").record(inputs.len() as f64);
        let counts = if bytes <= self.limits.inline_bytes {
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
        let texts = if ids <= self.limits.inline_bytes * DECODE_SPEED {
            decode_all(&entry, &sequences, skip, || false)?
        } else {
            let entry = Arc::clone(&entry);
            self.workers.run(bytes, move |cancelled| decode_all(&entry, &sequences, skip, || cancelled.get())).await??
        };
        let response = DecodeResponse { model: entry.name.clone(), model_version: entry.version.clone(), texts };
        checks::fits("sequences", response.encoded_len(), &self.limits)?;
        Ok(response)
    }
}

fn decode_all(entry: &Entry, sequences: &[Vec<u32>], skip: bool, cancelled: impl Fn() -> bool) -> Result<Vec<String>, Error> {
    let decode = |ids: &Vec<u32>| {
        if cancelled() {
            return Err(Error::Cancelled);
        }
        entry.tokenizer.detokenizer().decode(ids, skip).map_err(undecodable)
    };
    sequences.iter().map(decode).collect()
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

#[tonic::async_trait]
impl TokenizationService for Service {
    type GetVocabularyStream = Parts;
    type DecodeStreamStream = Decoding;

    async fn list_tokenizers(&self, _: Request<ListTokenizersRequest>) -> Result<Response<ListTokenizersResponse>, Status> {
        let tokenizers = self.catalog.all().iter().map(|entry| convert::tokenizer(entry)).collect();
        let default_tokenizer = self.catalog.get("", "").map_or_else(|_| String::new(), |entry| entry.name.clone());
        answer(Ok(ListTokenizersResponse { tokenizers, default_tokenizer }))
    }

    async fn get_tokenizer(&self, request: Request<GetTokenizerRequest>) -> Result<Response<GetTokenizerResponse>, Status> {
        let request = request.get_ref();
        answer(self.entry(&request.model, &request.model_version).map(|entry| GetTokenizerResponse { tokenizer: Some(convert::tokenizer(&entry)) }))
    }

    async fn get_vocabulary(&self, request: Request<GetVocabularyRequest>) -> Result<Response<Parts>, Status> {
        let request = request.get_ref();
        answer(self.entry(&request.model, &request.model_version).map(Parts::new))
    }

    async fn encode(&self, request: Request<EncodeRequest>) -> Result<Response<EncodeResponse>, Status> {
        answer(Service::encode(self, request.into_inner()).await)
    }

    async fn decode(&self, request: Request<DecodeRequest>) -> Result<Response<DecodeResponse>, Status> {
        answer(Service::decode(self, request.into_inner()).await)
    }

    async fn decode_stream(&self, request: Request<Streaming<DecodeStreamRequest>>) -> Result<Response<Decoding>, Status> {
        answer(Ok(Decoding::new(request.into_inner(), self.catalog.clone(), self.limits)))
    }

    async fn count_tokens(&self, request: Request<CountTokensRequest>) -> Result<Response<CountTokensResponse>, Status> {
        answer(Service::count_tokens(self, request.into_inner()).await)
    }
}
