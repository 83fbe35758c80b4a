use std::{pin::Pin, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use futures_util::{Stream, StreamExt, stream};
use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use super::check::Verdict;
use crate::client::{Channel, Connection, MAX_MESSAGE_BYTES};

/// What is held to the contract.
#[derive(Clone, Debug)]
pub(super) struct Target {
    connection: Connection,
    channel: Channel,
    /// The model to ask; empty = the default one.
    pub(super) model: String,
}

/// A call as bytes, so that it can be any, and so that answers can be compared byte by byte.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// `/SERVICE/RPC`.
    path: String,
    messages: Vec<Bytes>,
}

/// What came of a call: the messages of the answer, and the status that it ended with.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) messages: Vec<Bytes>,
    pub(super) status: Status,
}

impl Target {
    pub(super) fn new(connection: Connection, channel: Channel, model: String) -> Self {
        Self { connection, channel, model }
    }

    /// The connection that checks share.
    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A connection of its own, for calls that would take the places of others on the shared one.
    pub(super) async fn another(&self) -> Result<Channel, Verdict> {
        self.connection.open().await.map_err(|error| Verdict::failed(error.to_string()))
    }

    /// A connection that gives no API key, if the shared one gives one.
    pub(super) async fn without_key(&self) -> Result<Option<Channel>, Verdict> {
        if self.bearer().is_none() {
            return Ok(None);
        }
        self.connection.without_key().open().await.map(Some).map_err(|error| Verdict::failed(error.to_string()))
    }

    /// `HOST:PORT`, where the target is spoken to without TLS.
    pub(super) fn plain_address(&self) -> Option<&str> {
        let address = self.connection.address();
        address.strip_prefix("http://").or_else(|| (!address.contains("://")).then_some(address))
    }

    /// The API key as calls carry it.
    pub(super) fn bearer(&self) -> Option<String> {
        self.connection.bearer()
    }

    /// Makes a call and reads all of its answer.
    pub(super) async fn call(&self, call: &Call) -> Answered {
        let mut messages = Vec::new();
        let ended = async {
            let mut answers = self.open(&call.path, stream::iter(call.messages.clone())).await?;
            while let Some(answer) = answers.next().await {
                messages.push(answer?);
            }
            Ok(())
        };
        let status = ended.await.err().unwrap_or_else(|| Status::ok(""));
        Answered { messages, status }
    }

    /// The one answer to a call that should have one.
    pub(super) async fn answer(&self, call: &Call) -> Result<Bytes, Verdict> {
        let Answered { mut messages, status } = self.call(call).await;
        match messages.pop() {
            Some(message) if status.code() == Code::Ok && messages.is_empty() => Ok(message),
            _ if status.code() != Code::Ok => Err(status.into()),
            last => Err(Verdict::failed(format!("{} was answered with {} messages", call.path, messages.len() + usize::from(last.is_some())))),
        }
    }

    /// A call whose client sends each message only when the one before it has been answered: those answers, and the ones that come
    /// when the requests have ended.
    pub(super) async fn in_turn(&self, call: &Call) -> Result<(Vec<Bytes>, Vec<Bytes>), Verdict> {
        let (sender, requests) = mpsc::channel(1);
        let mut messages = call.messages.iter().cloned();
        // A server need not answer at all before the first message.
        if let Some(first) = messages.next() {
            sender.try_send(first).map_err(|error| Verdict::failed(error.to_string()))?;
        }
        let mut answers = self.open(&call.path, ReceiverStream::new(requests)).await?;
        let (mut each, mut rest) = (Vec::new(), Vec::new());
        for count in 1..=call.messages.len() {
            let Some(answer) = answers.next().await.transpose()? else {
                return Err(Verdict::failed(format!("{} ended after {} answers to {count} messages", call.rpc(), each.len())));
            };
            each.push(answer);
            if let Some(message) = messages.next() {
                sender.send(message).await.map_err(|_| Verdict::failed(format!("{} closed its requests", call.rpc())))?;
            }
        }
        drop(sender);
        while let Some(answer) = answers.next().await.transpose()? {
            rest.push(answer);
        }
        Ok((each, rest))
    }

    /// A call that goes on while its answers are read.
    pub(super) async fn open(
        &self,
        path: &str,
        messages: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>, Status> {
        let mut client = Grpc::new(self.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::try_from(path).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Box::pin(client.streaming(Request::new(messages), path, Raw).await?.into_inner()))
    }
}

impl Call {
    /// A call of `service`, by its full name, with one message.
    pub(super) fn new(service: &str, rpc: &str, message: &impl Message) -> Self {
        Self::raw(service, rpc, message.encode_to_vec())
    }

    /// A call with one message of any bytes.
    pub(super) fn raw(service: &str, rpc: &str, message: impl Into<Bytes>) -> Self {
        Self { path: format!("/{service}/{rpc}"), messages: vec![message.into()] }
    }

    /// A call with these messages.
    pub(super) fn stream(service: &str, rpc: &str, messages: &[impl Message]) -> Self {
        Self { path: format!("/{service}/{rpc}"), messages: messages.iter().map(|message| message.encode_to_vec().into()).collect() }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The name of the rpc.
    pub(super) fn rpc(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    pub(super) fn messages(&self) -> &[Bytes] {
        &self.messages
    }

    /// The same with a field that nobody knows behind its first message: `bytes` of them.
    pub(super) fn with_unknown_field(&self, bytes: usize) -> Self {
        let mut call = self.clone();
        if let Some(message) = call.messages.first_mut() {
            let mut longer = message.to_vec();
            prost::encoding::bytes::encode(UNKNOWN_FIELD, &vec![b'x'; bytes], &mut longer);
            *message = longer.into();
        }
        call
    }

    /// How many bytes its messages have.
    pub(super) fn len(&self) -> usize {
        self.messages.iter().map(Bytes::len).sum()
    }
}

/// A number that no field of the contracts has.
const UNKNOWN_FIELD: u32 = 15_000;

/// Decodes an answer.
pub(super) fn decoded<M: Message + Default>(bytes: &Bytes) -> Result<M, Verdict> {
    M::decode(bytes.clone()).map_err(|error| Verdict::failed(format!("an answer is no message of the contract: {error}")))
}

/// Bytes as they are.
#[derive(Clone, Copy, Default)]
pub(super) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        *self
    }
    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// How long a call may take beyond its deadline, or hold what it has after its client has gone.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
