//! The service as people run it, called by real clients: text in, text out.

use std::{path::Path, sync::Arc, time::Instant};

use quintet_proto::text::v1::{GenerateRequest, GenerateStreamRequest, Sampling, Stopping, text_service_client::TextServiceClient};
use tokio::{runtime::Runtime, sync::Barrier, task::JoinSet};
use tonic::transport::Channel;

use crate::{
    measured::Answer,
    prompts::Prompt,
    server::{Server, clients},
};

/// A server with one model. It ends with this.
pub(crate) struct Served {
    server: Server,
    runtime: Runtime,
    model: String,
}

impl Served {
    pub(crate) fn start(folder: &Path, model: &str, threads: usize) -> Self {
        let settings = [
            format!("models.path={}", folder.join("models").display()),
            "models.control=explicit".to_owned(),
            format!("models.load={model}"),
            format!("runtime.threads={threads}"),
            // The cores are the model's own here.
            "runtime.spin=true".to_owned(),
            "text.slots=16".to_owned(),
        ];
        Self { server: Server::start("quintet", &["up"], &settings), runtime: clients(), model: model.to_owned() }
    }

    /// Asks for all texts at once, each from a client of its own, and waits for the last.
    pub(crate) fn together(&self, prompts: &[Prompt]) -> Vec<Answer> {
        self.runtime.block_on(async {
            let start = Arc::new(Barrier::new(prompts.len() + 1));
            let mut clients = JoinSet::new();
            for prompt in prompts {
                let (mut service, request, start) = (self.client().await, request(&self.model, prompt), Arc::clone(&start));
                let wanted = (prompt.prompt_tokens, prompt.new_tokens);
                clients.spawn(async move {
                    start.wait().await;
                    let begun = Instant::now();
                    answer(&mut service, request, wanted, begun).await
                });
            }
            start.wait().await;
            clients.join_all().await
        })
    }

    async fn client(&self) -> TextServiceClient<Channel> {
        TextServiceClient::new(self.server.channel().await)
    }
}

/// Greedy, and as long as it is asked for, whatever is written.
fn request(model: &str, prompt: &Prompt) -> GenerateRequest {
    GenerateRequest {
        model: model.to_owned(),
        prompt: prompt.text.clone(),
        sampling: Some(Sampling { temperature: Some(0.0), ..Sampling::default() }),
        stopping: Some(Stopping { max_new_tokens: Some(prompt.new_tokens), ignore_eos: true, ..Stopping::default() }),
        ..GenerateRequest::default()
    }
}

async fn answer(service: &mut TextServiceClient<Channel>, request: GenerateRequest, wanted: (u32, u32), begun: Instant) -> Answer {
    let mut stream = service.generate_stream(GenerateStreamRequest { request: Some(request) }).await.expect("a stream").into_inner();
    let (mut times, mut usage) = (Vec::new(), None);
    while let Some(piece) = stream.message().await.expect("the next piece") {
        // With random weights many tokens have no text: every message counts, the first of which comes with the first token.
        times.push(begun.elapsed().as_secs_f64());
        usage = piece.usage.or(usage);
    }
    let usage = usage.expect("what was used");
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), wanted, "as many tokens as were asked for");
    Answer { prompt_tokens: wanted.0, tokens: wanted.1, times }
}
