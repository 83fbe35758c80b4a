use std::sync::Arc;

use quintet_onnx::{CAUSAL_LM_KIND, Control, Hosting, ModelFolder, Registry, Repository, Runtime};
use quintet_open_inference::Host;
use quintet_proto::text::v1::text_service_server::TextServiceServer;
use quintet_serving::{
    command::BuildError,
    component::Component,
    config::{PeersConfig, environment},
    peer,
    server::{Server, ServerConfig},
};
use tokio::sync::Semaphore;
use tonic::codec::CompressionEncoding;

use crate::{
    Config, Error, Settings,
    engine::{Engine, decoder::Decoder, encoder::Encoder, seq2seq::Seq2Seq},
    service::{Models, TextService},
    tokenizer::Tokenizer,
};

/// The service's full name.
const NAME: &str = "quintet.text.v1.TextService";

/// The kinds of model folders that the service takes.
const KINDS: [&str; 3] = ["causal-lm", "seq2seq", "encoder"];

/// The service, ready to be served, and its models.
#[derive(Debug)]
pub struct Served {
    /// The service.
    pub component: Component,
    /// Its models.
    pub models: Registry<Engine>,
}

/// Loads every text model of the repository. The tokenization service is that of this process, unless the configuration
/// names another.
pub fn build(config: &Config, peers: &PeersConfig, server: &Server, runtime: &Runtime, repository: &Repository) -> Result<Served, Error> {
    let (settings, runtime, others) = (config.clone(), runtime.clone(), repository.clone());
    let load = move |folder: &ModelFolder| load(folder, &settings, &runtime, &others);
    let models = Registry::open("text model", repository, |folder| KINDS.contains(&folder.manifest.kind.as_str()), load)?;
    if models.is_empty() && !repository.may_be_empty() {
        let reason = format!("no folder of kind {} is in it", KINDS.join(", "));
        return Err(quintet_onnx::Error::Repository { path: repository.path().to_owned(), reason }.into());
    }
    let channel = match config.tokenization_endpoint.as_str() {
        "" => server.local_channel(),
        url => peer::connect(url, peers).map_err(|reason| Error::Setup(format!("text.tokenization_endpoint = {reason}")))?,
    };
    let service = TextService {
        models: Models::new(models.clone(), &config.default_model)?,
        tokenizer: Tokenizer::new(channel, server.config().max_response_bytes),
        tasks: server.tasks().clone(),
        max_score_tokens: config.max_score_tokens,
        max_request_bytes: server.config().max_request_bytes,
        max_response_bytes: server.config().max_response_bytes,
        share_prefixes: config.share_prefixes,
        speculation: config.speculation,
        // A guide that means harm takes a second of a processor: half of them stay free for the others.
        guides: Arc::new(Semaphore::new((std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1))),
    };
    let ServerConfig { max_request_bytes, max_response_bytes, .. } = *server.config();
    let grpc = TextServiceServer::new(service)
        .max_decoding_message_size(max_request_bytes)
        .max_encoding_message_size(max_response_bytes)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate);
    // Where models come and go, having none is no fault.
    let comes_and_goes = repository.control() != Control::None;
    let (ready, generation) = (models.clone(), models.clone());
    let component = Component::new(NAME)
        .ready_while(move || comes_and_goes || !ready.is_empty())
        .cacheable(&["Embed", "Rerank", "Classify", "FillMask", "Score"], move || generation.generation())
        .register(move |routes| {
            routes.add_service(grpc);
        });
    Ok(Served { component, models })
}

fn load(folder: &ModelFolder, config: &Config, runtime: &Runtime, repository: &Repository) -> Result<Engine, Error> {
    let verify = repository.verifies();
    let engine = match folder.manifest.kind.as_str() {
        "causal-lm" => {
            let draft = Decoder::draft_of(folder)?.map(|name| draft_folder(folder, &name, repository)).transpose()?;
            Engine::Decoder(Decoder::load(folder, draft.as_ref(), runtime, config, verify)?)
        }
        "seq2seq" => Engine::Seq2Seq(Seq2Seq::load(folder, runtime, config, verify)?),
        _ => Engine::Encoder(Encoder::load(folder, runtime, config, verify)?),
    };
    tracing::info!(model = folder.id(), kind = folder.manifest.kind, providers = ?engine.provider_nodes(), "a text model is ready");
    Ok(engine)
}

/// The folder of the model that drafts for a decoder: its highest version.
fn draft_folder(decoder: &ModelFolder, name: &str, repository: &Repository) -> Result<ModelFolder, Error> {
    let refused = |reason: String| decoder.broken("quintet.toml", format!("[causal_lm] draft = {name:?}: {reason}"));
    let versions = repository.versions(name).map_err(|error| refused(error.to_string()))?;
    let found = versions.into_iter().next_back().filter(|_| name != decoder.name);
    let found = found.ok_or_else(|| refused("name another decoder of the repository".to_owned()))?;
    if found.manifest.kind != CAUSAL_LM_KIND {
        return Err(refused(format!("it is of kind \"{}\": a decoder of kind \"{CAUSAL_LM_KIND}\" drafts", found.manifest.kind)).into());
    }
    if repository.verifies() {
        found.verify()?;
    }
    Ok(found)
}

/// Builds the service alone: what its own program does.
pub async fn serve(settings: &Settings, server: &Server) -> Result<Vec<Component>, BuildError> {
    let built = || -> Result<Vec<Component>, Error> {
        if settings.text.tokenization_endpoint.is_empty() {
            let key = "text.tokenization_endpoint = \"\"";
            return Err(Error::Setup(format!("{key}: this program has no tokenization service of its own; name one's URL")));
        }
        let runtime = Runtime::load(&settings.runtime)?;
        let repository = quintet_sources::open(&settings.models, environment())?;
        let served = build(&settings.text, &settings.peers, server, &runtime, &repository)?;
        let hosting: Vec<Arc<dyn Hosting>> = vec![Arc::new(served.models.clone())];
        let hosts: Vec<Arc<dyn Host>> = vec![Arc::new(served.models)];
        Ok(vec![served.component, quintet_open_inference::component(server, Some(&runtime), &repository, hosting, hosts)?])
    };
    // Loading blocks; nothing else runs on this thread yet.
    tokio::task::block_in_place(built).map_err(BuildError::from)
}
