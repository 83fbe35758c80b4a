//! The same models behind the Open Inference Protocol, in a server of their own, called by real clients.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use prost::Message;
use quintet_proto::inference::{ModelInferRequest, grpc_inference_service_client::GrpcInferenceServiceClient, model_infer_request::InferInputTensor};
use tokio::runtime::Runtime;

use crate::server::{Server, clients};

/// How long a rate is measured, after a warm-up.
const SPAN: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_millis(300);

/// A server with the benchmark's models. It ends with this.
pub(crate) struct Served {
    server: Server,
    runtime: Runtime,
    call: PathBuf,
}

impl Served {
    pub(crate) fn start(folder: &Path) -> Self {
        let models = format!("models.path={}", folder.join("models").display());
        let settings = ["models.control=explicit".to_owned(), "models.load=vae,dcgan".to_owned(), models];
        let server = Server::start("quintet-image", &[], &settings);
        let call = folder.join("call.grpc");
        let body = request("vae", "x", 30, 1).encode_to_vec();
        // As gRPC frames a message: not compressed, its length, itself.
        let frame = [&[0][..], &(body.len() as u32).to_be_bytes(), &body].concat();
        std::fs::write(&call, frame).expect("the call's file");
        Self { server, runtime: clients(), call }
    }

    /// Rows a second of so many clients at once, each of which calls again and again.
    pub(crate) fn rate(&self, model: &str, input: &str, width: usize, clients: usize, rows: usize) -> f64 {
        let done = Arc::new(AtomicUsize::new(0));
        self.runtime.block_on(async {
            let mut calls = tokio::task::JoinSet::new();
            // Clients share connections as they would share a process: eight calls on each.
            let mut channels = Vec::new();
            for _ in 0..clients.div_ceil(8) {
                channels.push(self.server.channel().await);
            }
            for channel in channels.iter().cycle().take(clients) {
                let mut client = GrpcInferenceServiceClient::new(channel.clone()).max_decoding_message_size(1 << 30);
                let (request, done) = (request(model, input, width, rows), Arc::clone(&done));
                calls.spawn(async move {
                    loop {
                        let answer = client.model_infer(request.clone()).await.expect("an answer").into_inner();
                        assert_eq!(answer.outputs.first().map(|output| output.shape.first().copied()), Some(Some(rows as i64)));
                        done.fetch_add(rows, Ordering::Relaxed);
                    }
                });
            }
            tokio::time::sleep(WARM_UP).await;
            let (before, begun) = (done.load(Ordering::Relaxed), Instant::now());
            tokio::time::sleep(SPAN).await;
            (done.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64()
        })
    }

    /// The median time of a call with one row.
    pub(crate) fn median_seconds(&self) -> f64 {
        // One thread: what a call adds is the server's, not the client's hand-over between threads.
        let alone = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        alone.block_on(async {
            let mut client = GrpcInferenceServiceClient::new(self.server.channel().await);
            let request = request("vae", "x", 30, 1);
            let mut times = Vec::new();
            for _ in 0..2000 {
                let (request, begun) = (request.clone(), Instant::now());
                client.model_infer(request).await.expect("an answer");
                times.push(begun.elapsed().as_secs_f64());
            }
            crate::median(&times)
        })
    }

    /// Calls a second that h2load reaches over 4 connections with 8 streams each, all with the same bytes.
    pub(crate) fn h2load(&self, rpc: &str) -> f64 {
        let output = Command::new("h2load")
            .args([
                "-c",
                "4",
                "-m",
                "8",
                "-t",
                "1",
                "-D",
                "2",
                "--warm-up-time",
                "300ms",
                "-H",
                "content-type: application/grpc",
                "-H",
                "te: trailers",
                "-d",
            ])
            .arg(&self.call)
            .arg(format!("http://{}/inference.GRPCInferenceService/{rpc}", self.server.address()))
            .output()
            .expect("h2load: Debian's nghttp2-client");
        let text = String::from_utf8_lossy(&output.stdout);
        let rate =
            text.lines().find(|line| line.starts_with("finished in")).and_then(|line| line.split(", ").nth(1)?.split(' ').next()?.parse().ok());
        rate.unwrap_or_else(|| panic!("{text}"))
    }
}

fn request(model: &str, input: &str, width: usize, rows: usize) -> ModelInferRequest {
    let values: Vec<u8> = (0..rows * width).flat_map(|index| ((index % 7) as f32 * 0.1).to_le_bytes()).collect();
    ModelInferRequest {
        model_name: model.to_owned(),
        inputs: vec![InferInputTensor {
            name: input.to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![rows as i64, width as i64],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![values.into()],
        ..ModelInferRequest::default()
    }
}
