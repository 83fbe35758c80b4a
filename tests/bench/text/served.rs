//! The service as people run it, `quintet up` with the tokenizer in the same process, called by real clients: text in, text out.

use std::{path::Path, time::Instant};

use quintet_proto::text::v1::{GenerateRequest, GenerateStreamRequest, Sampling, Stopping, text_service_client::TextServiceClient};
use tokio::{runtime::Runtime, sync::Barrier, task::JoinSet};
use tonic::transport::Channel;

use crate::{
    group::Group,
    measured::{Answer, Memory},
    prompts::Prompt,
    server::{Server, clients},
    shape::Shape,
};

/// What texts that may come again keep of their keys and values, in MiB.
const PREFIXES: usize = 64;

/// A server with one model. It ends with this.
pub(crate) struct Served {
    server: Server,
    runtime: Runtime,
    model: String,
    memory: Memory,
}

impl Served {
    pub(crate) fn start(folder: &Path, shape: &Shape, group: &Group, threads: usize) -> Self {
        let kv = (group.slots * group.context * shape.kv_bytes()).div_ceil(1 << 20);
        let settings = [
            format!("models.path={}", folder.join("models").display()),
            "models.control=explicit".to_owned(),
            format!("models.load={}", shape.name),
            format!("runtime.threads={threads}"),
            // The cores are the decoder's own here.
            "runtime.spin=true".to_owned(),
            format!("text.slots={}", group.slots),
            format!("text.max_context={}", group.context),
            format!("text.kv_cache_mb={kv}"),
            format!("text.prefix_cache_mb={PREFIXES}"),
        ];
        let server = Server::start("quintet", &["up"], &settings);
        let weights = weights(&folder.join("models").join(shape.name).join("1"));
        let memory = Memory { weights, kv: ((kv + PREFIXES) << 20) as u64, resident: 0 };
        Self { server, runtime: clients(), model: shape.name.to_owned(), memory }
    }

    /// Asks for all texts at once, each from a client of its own, and waits for the last.
    pub(crate) fn together(&self, prompts: &[Prompt]) -> Vec<Answer> {
        self.runtime.block_on(async {
            let start = std::sync::Arc::new(Barrier::new(prompts.len() + 1));
            let mut clients = JoinSet::new();
            for (place, prompt) in prompts.iter().enumerate() {
                let (mut service, request, start) = (self.client().await, request(&self.model, prompt), std::sync::Arc::clone(&start));
                clients.spawn(async move {
                    start.wait().await;
                    (place, answer(&mut service, request).await)
                });
            }
            start.wait().await;
            let begun = Instant::now();
            let mut answers = clients.join_all().await;
            answers.sort_by_key(|(place, _)| *place);
            answers.into_iter().zip(prompts).map(|((_, answered), prompt)| answered.since(begun, prompt)).collect()
        })
    }

    /// Asks for one text after the other.
    pub(crate) fn in_turn(&self, prompts: &[Prompt]) -> Vec<Answer> {
        prompts.iter().flat_map(|prompt| self.together(std::slice::from_ref(prompt))).collect()
    }

    /// What it holds now.
    pub(crate) fn memory(&self) -> Memory {
        Memory { resident: self.server.resident(), ..self.memory }
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

/// When the pieces of a text came, and how many tokens there were in all.
struct Arrivals {
    pieces: Vec<Instant>,
    prompt_tokens: u32,
    tokens: u32,
}

impl Arrivals {
    fn since(self, begun: Instant, prompt: &Prompt) -> Answer {
        assert_eq!(self.tokens, prompt.new_tokens, "as many tokens as were asked for");
        // Qwen's tokenizer cuts a text into words in its own way: digits one by one, for one.
        let more = self.prompt_tokens.abs_diff(prompt.prompt_tokens);
        assert!(4 * more <= prompt.prompt_tokens, "{} prompt tokens in place of {}", self.prompt_tokens, prompt.prompt_tokens);
        let times = self.pieces.into_iter().map(|came| came.saturating_duration_since(begun).as_secs_f64()).collect();
        Answer { prompt_tokens: self.prompt_tokens, tokens: self.tokens, times }
    }
}

async fn answer(service: &mut TextServiceClient<Channel>, request: GenerateRequest) -> Arrivals {
    let mut stream = service.generate_stream(GenerateStreamRequest { request: Some(request) }).await.expect("a stream").into_inner();
    let mut arrivals = Arrivals { pieces: Vec::new(), prompt_tokens: 0, tokens: 0 };
    while let Some(piece) = stream.message().await.expect("the next piece") {
        if !piece.text.is_empty() {
            arrivals.pieces.push(Instant::now());
        }
        if let Some(usage) = piece.usage {
            (arrivals.prompt_tokens, arrivals.tokens) = (usage.prompt_tokens, usage.completion_tokens);
        }
    }
    arrivals
}

/// Bytes of the graph and what lies beside it.
fn weights(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).expect("the model's folder").flatten();
    files.filter(|file| file.file_name().to_string_lossy().contains(".onnx")).filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}
