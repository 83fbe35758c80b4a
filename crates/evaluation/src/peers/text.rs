use std::time::Duration;

use quintet_proto::text::v1::{ListModelsRequest, ModelKind, ScoreRequest, text_service_client::TextServiceClient};
use tonic::transport::Channel;

use super::{ModelId, Peer};
use crate::{Error, engine::metrics::likelihood::Document};

pub(super) const SERVICE: &str = "text";

/// The text service.
pub(crate) type TextPeer = Peer<TextServiceClient<Channel>>;

/// Scored documents, and how they were scored.
#[derive(Clone, Debug)]
pub(crate) struct Scored {
    pub(crate) model: ModelId,
    pub(crate) documents: Vec<Document>,
    /// Tokens of a window, and tokens that each further window scores anew.
    pub(crate) window: (u32, u32),
}

pub(super) fn connect((channel, is_here): (Channel, bool), limit: Duration, max_message_bytes: usize) -> TextPeer {
    let client = TextServiceClient::new(channel).max_decoding_message_size(max_message_bytes);
    Peer { client, service: SERVICE, limit, is_here }
}

impl TextPeer {
    /// Whether the service has the model, a decoder.
    pub(crate) async fn check(&self, model: &str) -> Result<(), Error> {
        let listed = self.call(|mut client| async move { client.list_models(ListModelsRequest {}).await }).await?.into_inner().models;
        let decoders = listed.into_iter().filter(|model| model.kind() == ModelKind::CausalLm);
        self.expect(model, decoders.map(|model| model.name).collect())
    }

    /// The log-likelihoods of documents.
    pub(crate) async fn score(&self, model: &str, texts: &[String]) -> Result<Scored, Error> {
        let request = ScoreRequest { model: model.to_owned(), texts: texts.to_vec(), stride: None, return_tokens: false };
        let answer = self.call(|mut client| { let request = request.clone(); async move { client.score(request).await } }).await?.into_inner();
        if answer.scores.len() != texts.len() {
            return Err(self.fault(format!("it gave {} scores for {} texts", answer.scores.len(), texts.len())));
        }
        let documents = answer.scores.iter().zip(texts).map(|(score, text)| {
            if !score.log_likelihood.is_finite() || score.tokens == 0 || score.bytes as usize != text.len() {
                let (value, tokens, bytes) = (score.log_likelihood, score.tokens, score.bytes);
                let said = format!("log-likelihood {value}, {tokens} tokens, {bytes} bytes");
                return Err(self.fault(format!("a text of {} bytes scored wrongly: {said}", text.len())));
            }
            Ok(Document { log_likelihood: score.log_likelihood, tokens: score.tokens.into(), bytes: score.bytes.into() })
        });
        let documents = documents.collect::<Result<_, _>>()?;
        Ok(Scored { model: ModelId { name: answer.model, version: answer.model_version }, documents, window: (answer.context, answer.stride) })
    }
}
