use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use quintet_proto::text::v1::{GenerateRequest, GenerateStreamRequest, GenerateStreamResponse, Stopping};
use tonic::{Code, Status, Streaming};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;

use super::{Subject, client, most, request};
use crate::{
    client::Channel,
    conformance::{
        check::{Checked, Verdict, ensure, shown},
        target::PATIENCE,
    },
};

/// Streams that are begun, and how many of them on one connection.
const STREAMS: usize = 640;
const ON_ONE: usize = 64;

/// How long a service that was full is waited for; how quickly it must be free is D2's.
const SETTLES: Duration = Duration::from_secs(20);

impl Subject {
    fn long(&self) -> Result<GenerateStreamRequest, Verdict> {
        let model = self.generator()?;
        let stopping = Stopping { ignore_eos: true, ..most(model) };
        Ok(GenerateStreamRequest { request: Some(GenerateRequest { stopping: Some(stopping), ..request(model) }) })
    }

    /// Begins streams, all at once, until one is refused: what it was refused with. The others are cancelled then, and the service has
    /// heard of it.
    async fn fill(&self) -> Result<Status, Verdict> {
        let mut channels = Vec::new();
        for _ in 0..STREAMS / ON_ONE {
            channels.push(self.ground.target.another().await?);
        }
        let outcome = self.fill_over(&channels).await;
        for channel in channels {
            // What a connection carries arrives in order: where this is answered, the cancellations were read.
            drop(HealthClient::new(channel).check(HealthCheckRequest::default()).await);
        }
        outcome
    }

    async fn fill_over(&self, channels: &[Channel]) -> Result<Status, Verdict> {
        let long = self.long()?;
        let mut calls = Vec::new();
        for channel in channels.iter().cycle().take(STREAMS) {
            calls.push(begin(channel.clone(), long.clone()));
        }
        let mut begun = stream::iter(calls).buffer_unordered(STREAMS);
        let mut held = Vec::new();
        while let Some(stream) = begun.next().await {
            match stream {
                Ok(stream) => held.push(stream),
                Err(refused) => return Ok(refused),
            }
        }
        Err(Verdict::skipped(format!("{STREAMS} streams did not fill it")))
    }

    /// How long a new stream takes to the first of its text: to its first message it could take while it waits behind others. While it is
    /// refused as one too many, it is tried again.
    async fn first_text(&self, limit: Duration) -> Result<Duration, Verdict> {
        let (long, begun) = (self.long()?, Instant::now());
        let first = async {
            loop {
                match self.begin_text(long.clone()).await {
                    Ok(()) => return Ok(begun.elapsed()),
                    Err(status) if status.code() == Code::ResourceExhausted => tokio::task::yield_now().await,
                    Err(status) => return Err(status.into()),
                }
            }
        };
        let late = || Verdict::failed(format!("{limit:?} after all calls were cancelled a new one has no answer"));
        tokio::time::timeout(limit, first).await.unwrap_or_else(|_| Err(late()))
    }

    /// Begins a stream, and waits for the first of its text, or its end.
    async fn begin_text(&self, request: GenerateStreamRequest) -> Result<(), Status> {
        let mut stream = self.client().generate_stream(request).await?.into_inner();
        while stream.message().await?.is_some_and(|piece| piece.text.is_empty()) {}
        Ok(())
    }
}

/// Begins a stream, and waits for its first message.
async fn begin(channel: Channel, request: GenerateStreamRequest) -> Result<Streaming<GenerateStreamResponse>, Status> {
    let mut stream = client(channel).generate_stream(request).await?.into_inner();
    stream.message().await?;
    Ok(stream)
}

pub(super) async fn cancelled(subject: &Subject) -> Checked {
    // What it takes where nothing else runs.
    let alone = subject.first_text(Duration::from_hours(1)).await?;
    subject.fill().await?;
    subject.first_text(PATIENCE + 2 * alone).await?;
    Ok(())
}

pub(super) async fn refused(subject: &Subject) -> Checked {
    let status = subject.fill().await?;
    ensure!(status.code() == Code::ResourceExhausted, "one call too many ended with {}", shown(&status));
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
    ensure!(delay.is_some(), "one call too many has no RetryInfo: {}", shown(&status));
    // The next check finds it as it was.
    subject.first_text(SETTLES).await?;
    Ok(())
}
