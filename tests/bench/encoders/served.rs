//! The service as people run it, `quintet up` with the tokenizer in the same process, called by real clients: text in, vectors out.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use quintet_proto::text::v1::{EmbedRequest, text_service_client::TextServiceClient};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use crate::texts::Text;

/// How long a rate is measured, after a warm-up.
const SPAN: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_millis(500);

/// A server with the model. It ends with this.
pub(crate) struct Served {
    process: Child,
    address: String,
    runtime: Runtime,
}

impl Served {
    pub(crate) fn start(folder: &Path) -> Self {
        let own = std::env::current_exe().expect("this program's path");
        let program = own.ancestors().skip(1).map(|folder| folder.join("quintet")).find(|path| path.is_file());
        let mut process = Command::new(program.expect("quintet: scripts/bench builds it"))
            .args(["up", "--listen", "127.0.0.1:0", "--set", "models.control=explicit", "--set", "models.load=minilm", "--set"])
            .arg(format!("models.path={}", folder.join("models").display()))
            .args(std::env::args().skip(1).filter_map(|argument| argument.strip_prefix("--server:").map(str::to_owned)))
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("quintet starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output")).read_line(&mut line).expect("its ready line");
        let address = line.trim().split_once("ready on ").expect("it is ready").1.to_owned();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        Self { process, address, runtime }
    }

    /// Tokens a second of so many clients at once, each of which asks for text after text.
    pub(crate) fn rate(&self, texts: &[Text], clients: usize) -> f64 {
        let (done, next) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let texts = Arc::new(texts.to_vec());
        self.runtime.block_on(async {
            let mut calls = tokio::task::JoinSet::new();
            // Clients share connections as they would share a process: eight calls on each.
            let mut channels = Vec::new();
            for _ in 0..clients.div_ceil(8) {
                channels.push(self.channel().await);
            }
            for channel in channels.iter().cycle().take(clients) {
                let mut client = TextServiceClient::new(channel.clone());
                let (texts, done, next) = (Arc::clone(&texts), Arc::clone(&done), Arc::clone(&next));
                calls.spawn(async move {
                    loop {
                        let text = &texts[next.fetch_add(1, Ordering::Relaxed) % texts.len()];
                        embed(&mut client, text).await;
                        done.fetch_add(text.ids.len(), Ordering::Relaxed);
                    }
                });
            }
            tokio::time::sleep(WARM_UP).await;
            let (before, begun) = (done.load(Ordering::Relaxed), Instant::now());
            tokio::time::sleep(SPAN).await;
            (done.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64()
        })
    }

    /// The median time of a call with one text.
    pub(crate) fn median_seconds(&self, texts: &[Text]) -> f64 {
        // One thread: what a call adds is the server's, not the client's hand-over between threads.
        let alone = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        alone.block_on(async {
            let mut client = TextServiceClient::new(self.channel().await);
            let mut times = Vec::new();
            for text in texts {
                let begun = Instant::now();
                embed(&mut client, text).await;
                times.push(begun.elapsed().as_secs_f64());
            }
            crate::median(&times)
        })
    }

    async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).expect("an address");
        endpoint.tcp_nodelay(true).connect().await.expect("the server")
    }
}

async fn embed(client: &mut TextServiceClient<Channel>, text: &Text) {
    let request = EmbedRequest { inputs: vec![text.text.clone()], ..EmbedRequest::default() };
    let answer = client.embed(request).await.expect("an answer").into_inner();
    assert_eq!((answer.prompt_tokens as usize, answer.embeddings[0].values.len()), (text.ids.len(), 384), "what was asked for");
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
