//! All services in one process, on one port.

use std::sync::Arc;

use quintet_onnx::{Hosting, ModelsConfig, Runtime, RuntimeConfig};
use quintet_open_inference::Host;
use quintet_serving::{
    command::{BuildError, HasServer},
    component::Component,
    config::{PeersConfig, SERVER_DEFAULTS, ServerConfig, Validate, environment},
    server::Server,
};
use serde::Deserialize;

/// The configuration of all services together.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Section `[server]`.
    pub server: ServerConfig,
    /// Section `[peers]`.
    pub peers: PeersConfig,
    /// Section `[runtime]`.
    pub runtime: RuntimeConfig,
    /// Section `[models]`.
    pub models: ModelsConfig,
    /// Section `[tokenization]`.
    pub tokenization: quintet_tokenization::Config,
    /// Section `[text]`.
    pub text: quintet_text::Config,
    /// Section `[image]`.
    pub image: quintet_image::Config,
    /// Section `[anomaly]`.
    pub anomaly: quintet_anomaly::Config,
    /// Section `[evaluation]`.
    pub evaluation: quintet_evaluation::Config,
}

impl HasServer for Settings {
    fn server(&self) -> &ServerConfig {
        &self.server
    }
}

impl Validate for Settings {
    fn validate(&self) -> Vec<String> {
        [
            self.server.validate(),
            self.peers.validate(),
            self.models.validate(),
            self.tokenization.validate(),
            self.text.validate(),
            self.image.validate(),
            self.anomaly.validate(),
            self.evaluation.validate(),
        ]
        .concat()
    }
}

/// The compiled-in defaults of every section.
pub fn defaults() -> [&'static str; 7] {
    [
        SERVER_DEFAULTS,
        quintet_onnx::DEFAULTS,
        quintet_tokenization::DEFAULTS,
        quintet_text::DEFAULTS,
        quintet_image::DEFAULTS,
        quintet_anomaly::DEFAULTS,
        quintet_evaluation::DEFAULTS,
    ]
}

/// Builds all services. They meet over the server's own channel, unless the configuration names other endpoints.
pub async fn serve(settings: &Settings, server: &Server) -> Result<Vec<Component>, BuildError> {
    // Loading blocks, and nothing else needs this thread yet.
    tokio::task::block_in_place(|| build(settings, server))
}

fn build(settings: &Settings, server: &Server) -> Result<Vec<Component>, BuildError> {
    let setup = |error: quintet_onnx::Error| BuildError { is_setup: error.is_setup(), message: error.to_string() };
    let runtime = Runtime::load(&settings.runtime).map_err(setup)?;
    let repository = quintet_sources::open(&settings.models, environment()).map_err(setup)?;
    let peers = &settings.peers;

    let tokenization = quintet_tokenization::build(&settings.tokenization, server, &repository).map_err(BuildError::from)?;
    let text = quintet_text::build(&settings.text, peers, server, &runtime, &repository).map_err(BuildError::from)?;
    let image = quintet_image::build(&settings.image, server, &runtime, &repository).map_err(BuildError::from)?;
    let anomaly = quintet_anomaly::build(&settings.anomaly, server, &runtime, &repository).map_err(BuildError::from)?;
    let evaluation = quintet_evaluation::build(&settings.evaluation, peers, server, &runtime, &repository).map_err(BuildError::from)?;

    // Each after those that it calls.
    let services: Vec<Arc<dyn Hosting>> = vec![
        tokenization.models,
        Arc::new(text.models.clone()),
        Arc::new(image.models.clone()),
        Arc::new(anomaly.models.clone()),
        Arc::new(evaluation.models.clone()),
    ];
    let hosts: Vec<Arc<dyn Host>> = vec![Arc::new(text.models), Arc::new(image.models), Arc::new(anomaly.models), Arc::new(evaluation.models)];
    let inference = quintet_open_inference::component(server, Some(&runtime), &repository, services, hosts).map_err(setup)?;
    Ok(vec![tokenization.component, text.component, image.component, anomaly.component, evaluation.component, inference])
}

#[cfg(test)]
mod tests {
    use quintet_serving::config::{Layers, load};

    use super::*;

    #[test]
    fn the_defaults_of_every_section_load() {
        let loaded = load::<Settings>(&Layers { defaults: &defaults(), ..Layers::default() }).unwrap();
        assert!(loaded.sources.keys().any(|key| key.starts_with("evaluation.")));
    }
}
