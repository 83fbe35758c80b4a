//! The gRPC face: the only place that names generated types. Each rpc converts, calls an engine, and converts back.

mod chat;
mod classify;
mod embed;
mod encodings;
mod fill_mask;
mod generate;
mod models;
mod rerank;
mod score;

use std::{pin::Pin, sync::Arc};

use quintet_proto::text::v1::{
    ChatRequest, ChatResponse, ChatStreamRequest, ChatStreamResponse, ClassifyRequest, ClassifyResponse, EmbedRequest, EmbedResponse,
    FillMaskRequest, FillMaskResponse, GenerateRequest, GenerateResponse, GenerateStreamRequest, GenerateStreamResponse, ListModelsRequest,
    ListModelsResponse, RerankRequest, RerankResponse, ScoreRequest, ScoreResponse, text_service_server,
};
use quintet_serving::error::status;
use tokio::sync::Semaphore;
use tokio_stream::Stream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use crate::{DefaultSpeculation, tokenizer::Tokenizer};
pub(crate) use models::Models;

#[derive(Debug)]
pub(crate) struct TextService {
    pub(crate) models: Models,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) tasks: TaskTracker,
    pub(crate) max_score_tokens: usize,
    /// The most bytes of a request, here and to the tokenization service.
    pub(crate) max_request_bytes: usize,
    /// The most bytes of an answer.
    pub(crate) max_response_bytes: usize,
    pub(crate) share_prefixes: bool,
    /// Of requests that do not say.
    pub(crate) speculation: DefaultSpeculation,
    /// Turns to compile a guide.
    pub(crate) guides: Arc<Semaphore>,
}

#[tonic::async_trait]
impl text_service_server::TextService for TextService {
    type GenerateStreamStream = Pin<Box<dyn Stream<Item = Result<GenerateStreamResponse, Status>> + Send>>;

    type ChatStreamStream = Pin<Box<dyn Stream<Item = Result<ChatStreamResponse, Status>> + Send>>;

    async fn list_models(&self, _: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        Ok(Response::new(ListModelsResponse { models: self.models.describe(), default_model: self.models.default_model() }))
    }

    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<GenerateResponse>, Status> {
        self.generate_whole(request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }

    async fn generate_stream(&self, request: Request<GenerateStreamRequest>) -> Result<Response<Self::GenerateStreamStream>, Status> {
        let stream = self.generate_pieces(request.into_inner().request.unwrap_or_default()).await.map_err(|error| status(&error))?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn chat(&self, request: Request<ChatRequest>) -> Result<Response<ChatResponse>, Status> {
        self.chat_whole(request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }

    async fn chat_stream(&self, request: Request<ChatStreamRequest>) -> Result<Response<Self::ChatStreamStream>, Status> {
        let stream = self.chat_pieces(request.into_inner().request.unwrap_or_default()).await.map_err(|error| status(&error))?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn score(&self, request: Request<ScoreRequest>) -> Result<Response<ScoreResponse>, Status> {
        self.score_texts(request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }

    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        self.embed_texts(request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }

    async fn rerank(&self, request: Request<RerankRequest>) -> Result<Response<RerankResponse>, Status> {
        self.rerank_documents(request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }

    async fn classify(&self, request: Request<ClassifyRequest>) -> Result<Response<ClassifyResponse>, Status> {
        self.classify_texts(request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }

    async fn fill_mask(&self, request: Request<FillMaskRequest>) -> Result<Response<FillMaskResponse>, Status> {
        self.fill_masks(request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }
}
