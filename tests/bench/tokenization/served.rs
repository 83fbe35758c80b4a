//! The service in a process of its own, called by real clients.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use prost::Message;
use quintet_proto::{
    inference::{ServerLiveRequest, grpc_inference_service_client::GrpcInferenceServiceClient},
    tokenization::v1::{CountTokensRequest, EncodeInput, EncodeRequest, EncodeResponse, tokenization_service_client::TokenizationServiceClient},
};
use tokio::runtime::Runtime;
use tonic::{
    Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

use crate::server::{Server, clients};

/// Texts of a call.
const TEXTS: usize = 64;

/// A server with the benchmark's tokenizers. It ends with this.
pub(crate) struct Served {
    server: Server,
    runtime: Runtime,
}

impl Served {
    pub(crate) fn start(folder: &Path) -> Self {
        let settings = [
            "tokenization.max_text_bytes=1073741824".to_owned(),
            "server.max_request_bytes=268435456".to_owned(),
            format!("models.path={}", folder.join("models").display()),
        ];
        Self { server: Server::start("quintet-tokenization", &[], &settings), runtime: clients() }
    }

    /// Bytes of text a second of so many clients at once, 64 texts a call. The calls are written out beforehand and the answers not
    /// read through, as a load generator does it: what is measured is the service, not its clients.
    pub(crate) fn rate(&self, model: &str, texts: &[String], clients: usize, span: Duration) -> f64 {
        let calls: Arc<Vec<(Bytes, usize)>> = Arc::new(
            texts.chunks_exact(TEXTS).map(|texts| (request(model, texts).encode_to_vec().into(), texts.iter().map(String::len).sum())).collect(),
        );
        let done = Arc::new(AtomicUsize::new(0));
        self.runtime.block_on(async {
            let mut running = tokio::task::JoinSet::new();
            for client in 0..clients {
                let (calls, done) = (Arc::clone(&calls), Arc::clone(&done));
                let mut service = tonic::client::Grpc::new(self.server.channel().await).max_decoding_message_size(1 << 30);
                running.spawn(async move {
                    for (turn, (request, bytes)) in calls.iter().cycle().skip(calls.len() * client / clients).enumerate() {
                        service.ready().await.expect("the server");
                        let path = PathAndQuery::from_static("/quintet.tokenization.v1.TokenizationService/Encode");
                        let answer = service.unary(Request::new(request.clone()), path, Written).await.expect("an answer").into_inner();
                        // Now and then it is looked at.
                        if turn % 64 == 0 {
                            assert_eq!(EncodeResponse::decode(answer).expect("encodings").encodings.len(), TEXTS);
                        }
                        done.fetch_add(*bytes, Ordering::Relaxed);
                    }
                });
            }
            tokio::time::sleep(span / 4).await;
            let (before, begun) = (done.load(Ordering::Relaxed), Instant::now());
            tokio::time::sleep(span).await;
            (done.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64()
        })
    }

    /// The median seconds of a call with one short text, and of one to an rpc that does nothing, in turn.
    pub(crate) fn seconds(&self, model: &str, text: &str) -> (f64, f64) {
        // One thread: what a call takes is the server's, not the client's hand-over between threads.
        let alone = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        alone.block_on(async {
            let (mut service, mut idle) = (self.client().await, GrpcInferenceServiceClient::new(self.server.channel().await));
            let request = request(model, &[text.to_owned()]);
            let (mut calls, mut echoes) = (Vec::new(), Vec::new());
            for _ in 0..3000 {
                let (request, begun) = (request.clone(), Instant::now());
                service.encode(request).await.expect("an answer");
                calls.push(begun.elapsed().as_secs_f64());
                let begun = Instant::now();
                idle.server_live(ServerLiveRequest {}).await.expect("an answer");
                echoes.push(begun.elapsed().as_secs_f64());
            }
            (crate::median(&calls), crate::median(&echoes))
        })
    }

    /// The seconds of a call that counts the tokens of one text, the less of two.
    pub(crate) fn once(&self, model: &str, text: &str) -> f64 {
        self.runtime.block_on(async {
            let mut service = self.client().await;
            let mut least = f64::INFINITY;
            for _ in 0..2 {
                let inputs = vec![EncodeInput { text: text.to_owned(), ..EncodeInput::default() }];
                let request = CountTokensRequest { model: model.to_owned(), inputs, ..CountTokensRequest::default() };
                let begun = Instant::now();
                service.count_tokens(request).await.expect("an answer");
                least = least.min(begun.elapsed().as_secs_f64());
            }
            least
        })
    }

    async fn client(&self) -> TokenizationServiceClient<Channel> {
        TokenizationServiceClient::new(self.server.channel().await).max_decoding_message_size(1 << 30).max_encoding_message_size(1 << 30)
    }
}

fn request(model: &str, texts: &[String]) -> EncodeRequest {
    let inputs = texts.iter().map(|text| EncodeInput { text: text.clone(), ..EncodeInput::default() }).collect();
    EncodeRequest { model: model.to_owned(), inputs, add_special_tokens: Some(false), ..EncodeRequest::default() }
}

/// Messages as the bytes they are written in.
#[derive(Clone, Copy)]
struct Written;

impl Codec for Written {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Written {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Written {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
