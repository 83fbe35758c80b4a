//! Generate and `GenerateStream`: one path, from the prompt to pieces of text.

mod ask;
mod start;
mod texts;

use futures_util::{
    StreamExt,
    future::try_join_all,
    stream::{select_all, unfold},
};
use quintet_proto::text::v1::{Alternative, GenerateRequest, GenerateResponse, GenerateStreamResponse, Usage};
use quintet_serving::{context::Context, error::status};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::Status;
use tracing::Instrument;

use super::TextService;
use crate::Error;
use texts::{Piece, Whole};

/// Pieces of text that may wait for a slow client.
const PIECES: usize = 32;

impl TextService {
    pub(super) async fn generate_whole(&self, request: GenerateRequest) -> Result<GenerateResponse, Error> {
        let started = self.start(request).await?;
        let mut wholes: Vec<Whole> = try_join_all(started.texts.into_iter().map(texts::Text::whole)).await?;
        let mut usage = Usage { prompt_tokens: started.prompt_tokens, ..Usage::default() };
        wholes.iter().for_each(|whole| whole.end.add_to(&mut usage));
        if wholes.len() > started.n {
            // The likeliest by token first; equals in the order of their streams.
            wholes.sort_by(|a, b| b.mean_log_probability().total_cmp(&a.mean_log_probability()));
            wholes.truncate(started.n);
        }
        let mut wholes = wholes.into_iter();
        let mut first = wholes.next().ok_or(Error::Ended)?;
        let reported = |whole: &mut Whole| if started.logprobs { std::mem::take(&mut whole.logprobs) } else { Vec::new() };
        let alternatives = wholes.map(|mut whole| Alternative {
            logprobs: reported(&mut whole),
            text: whole.text,
            finish_reason: whole.end.reason.into(),
            timings: Some(whole.end.timings),
        });
        let alternatives = alternatives.collect();
        Ok(GenerateResponse {
            model: started.model,
            model_version: started.version,
            logprobs: reported(&mut first),
            prompt_logprobs: first.prompt_logprobs,
            text: first.text,
            finish_reason: first.end.reason.into(),
            usage: Some(usage),
            seed: started.seed,
            timings: Some(first.end.timings),
            alternatives,
        })
    }

    pub(super) async fn generate_pieces(
        &self,
        request: GenerateRequest,
    ) -> Result<impl Stream<Item = Result<GenerateStreamResponse, Status>> + Send + use<>, Error> {
        if request.best_of.is_some_and(|best_of| best_of != request.n.unwrap_or(1)) {
            return Err(Error::invalid("best_of", "which texts are the best is known when all are complete: ask with Generate"));
        }
        let started = self.start(request).await?;
        let (sender, receiver) = mpsc::channel(PIECES);
        let task = async move {
            let first = GenerateStreamResponse {
                model: started.model,
                model_version: started.version,
                seed: started.seed,
                ..GenerateStreamResponse::default()
            };
            if sender.send(Ok(first)).await.is_err() {
                return;
            }
            let mut left = started.texts.len();
            let mut usage = Usage { prompt_tokens: started.prompt_tokens, ..Usage::default() };
            let texts = started.texts.into_iter().enumerate().map(|(index, text)| {
                Box::pin(unfold(Some(text), move |text| async move {
                    let mut text = text?;
                    let piece = text.next().await;
                    let goes_on = piece.as_ref().is_ok_and(|piece| piece.end.is_none());
                    Some(((index, piece), goes_on.then_some(text)))
                }))
            });
            let mut pieces = select_all(texts);
            loop {
                // A client that has gone ends the sequences at once, not at their next pieces.
                let (index, piece) = tokio::select! {
                    piece = pieces.next() => match piece { Some(piece) => piece, None => return },
                    () = sender.closed() => return,
                };
                let message = match piece {
                    Err(error) => {
                        drop(sender.send(Err(status(&error))).await);
                        return;
                    }
                    Ok(piece) if piece.is_empty() => continue,
                    Ok(Piece { text, logprobs, prompt_logprobs, end }) => {
                        let mut message = GenerateStreamResponse {
                            text,
                            index: index as u32,
                            logprobs: if started.logprobs { logprobs } else { Vec::new() },
                            prompt_logprobs,
                            ..GenerateStreamResponse::default()
                        };
                        if let Some(end) = end {
                            end.add_to(&mut usage);
                            left -= 1;
                            message.finish_reason = end.reason.into();
                            message.timings = Some(end.timings);
                            message.usage = (left == 0).then_some(usage);
                        }
                        message
                    }
                };
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
            }
        };
        // What belongs to the call goes on with its task.
        self.tasks.spawn(Context::current().scope(task).in_current_span());
        Ok(ReceiverStream::new(receiver))
    }
}
