//! Chat and `ChatStream`: a conversation becomes a prompt by the model's template, and goes the way of Generate.

use quintet_proto::{
    text::v1::{ChatRequest, ChatResponse, ChatStreamResponse, GenerateRequest},
    tokenization::v1::ApplyChatTemplateRequest,
};
use quintet_serving::error::Checks;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use super::TextService;
use crate::{Error, engine::Engine};

impl TextService {
    pub(super) async fn chat_whole(&self, request: ChatRequest) -> Result<ChatResponse, Error> {
        let request = self.written(request).await?;
        Ok(ChatResponse { generated: Some(self.generate_whole(request).await.map_err(Error::of_chat)?) })
    }

    pub(super) async fn chat_pieces(
        &self,
        request: ChatRequest,
    ) -> Result<impl Stream<Item = Result<ChatStreamResponse, Status>> + Send + use<>, Error> {
        let request = self.written(request).await?;
        let pieces = self.generate_pieces(request).await.map_err(Error::of_chat)?;
        Ok(pieces.map(|piece| piece.map(|piece| ChatStreamResponse { generated: Some(piece) })))
    }

    /// The request with the conversation as its prompt, for the version that this finds.
    async fn written(&self, request: ChatRequest) -> Result<GenerateRequest, Error> {
        let mut generate = request.generate.unwrap_or_default();
        let mut checks = Checks::new();
        checks.require(generate.prompt.is_empty(), "generate.prompt", || "the messages are the prompt".to_owned());
        checks.require(generate.prompt_ids.is_empty(), "generate.prompt_ids", || "the messages are the prompt".to_owned());
        checks.require(!generate.echo, "generate.echo", || "a conversation is not repeated".to_owned());
        checks.finish().map_err(Error::Invalid)?;
        let can = |engine: &Engine| matches!(engine, Engine::Decoder(_) | Engine::Seq2Seq(_));
        let loaded = self.models.find(&generate.model, &generate.model_version, "chat", can)?;
        let asked = ApplyChatTemplateRequest {
            model: loaded.folder.name.clone(),
            model_version: loaded.folder.version.clone(),
            messages: request.messages,
            tools: request.tools,
            documents: request.documents,
            template: request.template,
            variables: request.variables,
            add_generation_prompt: !request.continue_final_message,
            continue_final_message: request.continue_final_message,
            return_encoding: true,
            ..ApplyChatTemplateRequest::default()
        };
        generate.prompt_ids = self.tokenizer.chat(asked).await.map_err(Error::of_conversation)?;
        if generate.prompt_ids.is_empty() {
            return Err(Error::invalid("messages", "the template makes nothing of them"));
        }
        generate.model.clone_from(&loaded.folder.name);
        generate.model_version.clone_from(&loaded.folder.version);
        Ok(generate)
    }
}
