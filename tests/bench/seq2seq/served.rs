//! The service as people run it, called by real clients: text in, text out.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Instant,
};

use quintet_proto::text::v1::{GenerateRequest, GenerateStreamRequest, Sampling, Stopping, text_service_client::TextServiceClient};
use tokio::{runtime::Runtime, sync::Barrier, task::JoinSet};
use tonic::transport::Channel;

use crate::{measured::Answer, prompts::Prompt};

/// A server with one model. It ends with this.
pub(crate) struct Served {
    process: Child,
    address: String,
    runtime: Runtime,
    model: String,
}

impl Served {
    pub(crate) fn start(folder: &Path, model: &str, threads: usize) -> Self {
        let own = std::env::current_exe().expect("this program's path");
        let program = own.ancestors().skip(1).map(|folder| folder.join("quintet")).find(|path| path.is_file());
        let settings = [
            format!("models.path={}", folder.join("models").display()),
            "models.control=explicit".to_owned(),
            format!("models.load={model}"),
            format!("runtime.threads={threads}"),
            // The cores are the model's own here.
            "runtime.spin=true".to_owned(),
            "text.slots=16".to_owned(),
        ];
        let mut process = Command::new(program.expect("quintet: scripts/bench builds it"))
            .args(["up", "--listen", "127.0.0.1:0"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .args(std::env::args().skip(1).filter_map(|argument| argument.strip_prefix("--server:").map(str::to_owned)))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("quintet starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output")).read_line(&mut line).expect("its ready line");
        let address = line.trim().split_once("ready on ").expect("it is ready").1.to_owned();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        Self { process, address, runtime, model: model.to_owned() }
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
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).expect("an address");
        TextServiceClient::new(endpoint.tcp_nodelay(true).connect().await.expect("the server"))
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

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
