//! The other services, as this one calls them: generated clients behind domain types.
//!
//! Each call has a time limit of its own, and a service that cannot be reached or is full is asked again a few times:
//! so an evaluation fails in the end, and never hangs.

mod anomaly;
mod image;
mod text;

use std::{error::Error as _, future::Future, time::Duration};

use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

pub(crate) use self::{
    anomaly::AnomalyPeer,
    image::{Drawn, ImagePeer},
    text::TextPeer,
};
use crate::{Config, Error};

/// How long to wait before each further attempt.
const RETRIES: [Duration; 3] = [Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(800)];

/// How long a look-up may take before an evaluation is accepted: its own calls will tell what is wrong.
pub(crate) const LOOK_UP: Duration = Duration::from_secs(2);

/// Channels to the services that evaluations draw samples from.
#[derive(Clone, Debug)]
pub struct Peers {
    /// To the text service.
    pub text: Channel,
    /// To the image service.
    pub image: Channel,
    /// To the anomaly service.
    pub anomaly: Channel,
}

impl From<Channel> for Peers {
    /// All three behind one channel: in one process.
    fn from(channel: Channel) -> Self {
        Self { text: channel.clone(), image: channel.clone(), anomaly: channel }
    }
}

/// A model, as its service named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelId {
    pub(crate) name: String,
    pub(crate) version: String,
}

impl ModelId {
    /// "NAME@VERSION".
    pub(crate) fn id(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

/// A service that evaluations draw samples from.
#[derive(Clone, Debug)]
pub(crate) struct Peer<C> {
    client: C,
    service: &'static str,
    limit: Duration,
    /// Whether it runs in this process, on this process's model folders.
    pub(crate) is_here: bool,
}

/// The clients of all three services.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    pub(crate) text: TextPeer,
    pub(crate) image: ImagePeer,
    pub(crate) anomaly: AnomalyPeer,
}

impl Clients {
    /// Clients over `peers`, but for the services that the configuration has elsewhere.
    pub(crate) fn new(config: &Config, peers: Peers, max_message_bytes: usize) -> Result<Self, Error> {
        let limit = Duration::from_secs(config.call_seconds);
        let channel = |key: &str, url: &str, here: Channel| match url {
            "" => Ok((here, true)),
            url => endpoint(key, url).map(|channel| (channel, false)),
        };
        Ok(Self {
            text: text::connect(channel("text_endpoint", &config.text_endpoint, peers.text)?, limit, max_message_bytes),
            image: image::connect(channel("image_endpoint", &config.image_endpoint, peers.image)?, limit, max_message_bytes),
            anomaly: anomaly::connect(channel("anomaly_endpoint", &config.anomaly_endpoint, peers.anomaly)?, limit, max_message_bytes),
        })
    }
}

/// A channel that connects when it is first used.
fn endpoint(key: &str, url: &str) -> Result<Channel, Error> {
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| Error::Setup(format!("evaluation.{key} = {url:?}: {error}")))?;
    Ok(endpoint.connect_timeout(Duration::from_secs(5)).connect_lazy())
}

impl<C: Clone> Peer<C> {
    /// Calls the service under the time limit, again while it is unreachable or full.
    async fn call<T, F: Future<Output = Result<T, Status>>>(&self, call: impl Fn(C) -> F) -> Result<T, Error> {
        let mut waits = RETRIES.into_iter();
        loop {
            let answer = tokio::time::timeout(self.limit, call(self.client.clone())).await;
            let status = match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => status,
                Err(_) => return Err(self.fault(format!("it did not answer within {} s (evaluation.call_seconds)", self.limit.as_secs()))),
            };
            match (status.code(), waits.next()) {
                (Code::Unavailable | Code::ResourceExhausted, Some(wait)) => tokio::time::sleep(wait).await,
                _ => return Err(self.fault(words(&status))),
            }
        }
    }

    fn fault(&self, reason: impl Into<String>) -> Error {
        Error::Peer { service: self.service, reason: reason.into() }
    }

    /// That a model is not among those that the service listed, unless it is.
    fn expect(&self, model: &str, known: Vec<String>) -> Result<(), Error> {
        if known.iter().any(|name| name == model) { Ok(()) } else { Err(Error::Unknown { what: self.service_model(), name: model.to_owned(), known }) }
    }

    fn service_model(&self) -> &'static str {
        match self.service {
            text::SERVICE => "text model",
            image::SERVICE => "image model",
            _ => "anomaly model",
        }
    }
}

/// What a status says, with its causes: "transport error" alone helps nobody.
fn words(status: &Status) -> String {
    let mut words = format!("{:?}: {}", status.code(), status.message());
    let mut cause = status.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = error.source();
    }
    words
}
