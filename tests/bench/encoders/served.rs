//! The service as people run it, `quintet up` with the tokenizer in the same process, called by real clients: text in, vectors out.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use quintet_proto::text::v1::{EmbedRequest, text_service_client::TextServiceClient};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use crate::{
    server::{Server, clients},
    texts::Text,
};

/// How long a rate is measured, after a warm-up.
const SPAN: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_millis(500);

/// A server with the model. It ends with this.
pub(crate) struct Served {
    server: Server,
    runtime: Runtime,
}

impl Served {
    pub(crate) fn start(folder: &Path) -> Self {
        let models = format!("models.path={}", folder.join("models").display());
        let settings = ["models.control=explicit".to_owned(), "models.load=minilm".to_owned(), models];
        Self { server: Server::start("quintet", &["up"], &settings), runtime: clients() }
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
                channels.push(self.server.channel().await);
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
            let mut client = TextServiceClient::new(self.server.channel().await);
            let mut times = Vec::new();
            for text in texts {
                let begun = Instant::now();
                embed(&mut client, text).await;
                times.push(begun.elapsed().as_secs_f64());
            }
            crate::median(&times)
        })
    }
}

async fn embed(client: &mut TextServiceClient<Channel>, text: &Text) {
    let request = EmbedRequest { inputs: vec![text.text.clone()], ..EmbedRequest::default() };
    let answer = client.embed(request).await.expect("an answer").into_inner();
    assert_eq!((answer.prompt_tokens as usize, answer.embeddings[0].values.len()), (text.ids.len(), 384), "what was asked for");
}
