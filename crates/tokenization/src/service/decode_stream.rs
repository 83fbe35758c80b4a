use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use prost::Message as _;
use quintet_onnx::Loaded;
use quintet_proto::tokenization::v1::{DecodeStreamRequest, DecodeStreamResponse};
use quintet_serving::error::status;
use tonic::{Status, Streaming};

use super::{Limits, checks, count, undecodable};
use crate::{
    Error,
    engine::{Catalog, Entry, Stream},
};

/// Decodes a client's messages as it is asked for answers: a client that does not read is not read from either.
#[derive(Debug)]
pub(crate) struct Decoding {
    messages: Streaming<DecodeStreamRequest>,
    catalog: Catalog,
    limits: Limits,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing has come yet.
    New,
    /// A text is being decoded.
    Open(Arc<Loaded<Entry>>, Stream),
    /// The last answer has been given.
    Closed,
}

impl Decoding {
    pub(super) fn new(messages: Streaming<DecodeStreamRequest>, catalog: Catalog, limits: Limits) -> Self {
        Self { messages, catalog, limits, state: State::New }
    }

    fn step(&mut self, message: &DecodeStreamRequest) -> Result<DecodeStreamResponse, Error> {
        if matches!(self.state, State::New) {
            let entry = self.catalog.get(&message.model, &message.model_version)?;
            self.state = State::Open(entry, Stream::new(message.skip_special_tokens.unwrap_or(true)));
        } else if !message.model.is_empty() {
            return Err(Error::invalid("model", format!("'{}': only the first message may name it", message.model)));
        } else if !message.model_version.is_empty() {
            return Err(Error::invalid("model_version", format!("'{}': only the first message may name it", message.model_version)));
        } else if let Some(skip) = message.skip_special_tokens {
            return Err(Error::invalid("skip_special_tokens", format!("{skip}: only the first message may set it")));
        }
        let State::Open(entry, stream) = &mut self.state else { return Err(Error::Cancelled) };
        let detokenizer = entry.tokenizer.detokenizer();
        checks::message(&message.ids, stream.held(), detokenizer, &self.limits)?;
        count("decode_stream", message.ids.len());
        let response = DecodeStreamResponse { text: stream.push(detokenizer, &message.ids), finished: false };
        checks::fits("ids", response.encoded_len(), &self.limits)?;
        Ok(response)
    }

    fn finish(&mut self) -> Result<DecodeStreamResponse, Error> {
        let text = match mem::replace(&mut self.state, State::Closed) {
            State::Open(entry, stream) => stream.finish(entry.tokenizer.detokenizer()).map_err(undecodable)?,
            State::New | State::Closed => String::new(),
        };
        let response = DecodeStreamResponse { text, finished: true };
        checks::fits("ids", response.encoded_len(), &self.limits)?;
        Ok(response)
    }
}

impl tokio_stream::Stream for Decoding {
    type Item = Result<DecodeStreamResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if matches!(this.state, State::Closed) {
            return Poll::Ready(None);
        }
        let answer = match ready!(Pin::new(&mut this.messages).poll_next(context)) {
            Some(Ok(message)) => this.step(&message).map_err(|error| status(&error)),
            Some(Err(status)) => Err(status),
            None => this.finish().map_err(|error| status(&error)),
        };
        if answer.is_err() {
            this.state = State::Closed;
        }
        Poll::Ready(Some(answer))
    }
}
