use std::sync::Arc;

use quintet_onnx::{ModelFolder, Repository, Runtime};
use quintet_open_inference::Graph;
use quintet_proto::text::v1::text_service_server::TextServiceServer;
use quintet_serving::{
    command::BuildError,
    component::Component,
    server::{Server, ServerConfig},
};
use tonic::transport::{Channel, Endpoint};

use crate::{
    Config, Error, Settings,
    engine::{decoder::Decoder, encoder::Encoder, seq2seq::Seq2Seq},
    service::{Engine, Model, Models, TextService},
    tokenizer::Tokenizer,
};

/// The service's full name.
const NAME: &str = "quintet.text.v1.TextService";

/// The kinds of model folders that the service takes.
const KINDS: [&str; 3] = ["causal-lm", "seq2seq", "encoder"];

/// The service, ready to be served, and its graphs for raw tensors.
#[derive(Debug)]
pub struct Served {
    /// The service.
    pub component: Component,
    /// Its graphs.
    pub graphs: Vec<Graph>,
}

/// Loads every text model of the repository. `own` is a channel to the services of this process: the tokenization
/// service is there unless the configuration names another.
pub fn build(config: &Config, server: &Server, runtime: &Runtime, repository: &Repository, own: Channel) -> Result<Served, Error> {
    let models = repository
        .load(|folder| KINDS.contains(&folder.manifest.kind.as_str()), |folder| load(folder, config, server, runtime, repository.verifies()))?;
    if models.is_empty() && !repository.keeps_going() {
        let reason = format!("no folder of kind {} is in it", KINDS.join(", "));
        return Err(quintet_onnx::Error::Repository { path: repository.path().to_owned(), reason }.into());
    }
    let graphs = models.iter().flat_map(graphs).collect();
    let channel = match config.tokenization_endpoint.as_str() {
        "" => own,
        url => Endpoint::from_shared(url.to_owned())
            .map_err(|error| Error::Setup(format!("text.tokenization_endpoint = {url:?}: {error}")))?
            .connect_lazy(),
    };
    let ready = !models.is_empty();
    let service = TextService {
        models: Models::new(models, &config.default_model)?,
        tokenizer: Tokenizer::new(channel, server.config().max_response_bytes),
        tasks: server.tasks().clone(),
        max_score_tokens: config.max_score_tokens,
    };
    let ServerConfig { max_request_bytes, max_response_bytes, .. } = *server.config();
    let grpc = TextServiceServer::new(service).max_decoding_message_size(max_request_bytes).max_encoding_message_size(max_response_bytes);
    let component = Component::new(NAME).ready(ready).register(move |routes| {
        routes.add_service(grpc);
    });
    Ok(Served { component, graphs })
}

fn load(folder: &ModelFolder, config: &Config, server: &Server, runtime: &Runtime, verify: bool) -> Result<Model, Error> {
    let engine = match folder.manifest.kind.as_str() {
        "causal-lm" => Engine::Decoder(Decoder::load(folder, runtime, config, verify)?),
        "seq2seq" => Engine::Seq2Seq(Seq2Seq::load(folder, runtime, config, server.tasks(), verify)?),
        _ => Engine::Encoder(Encoder::load(folder, runtime, config, server.tasks(), verify)?),
    };
    let model = Model { folder: folder.clone(), engine };
    tracing::info!(model = folder.id(), kind = folder.manifest.kind, providers = ?model.provider_nodes(), "a text model is ready");
    Ok(model)
}

fn graphs(model: &Model) -> Vec<Graph> {
    let folder = &model.folder;
    match &model.engine {
        Engine::Decoder(decoder) => {
            let info = decoder.info();
            vec![Graph::new(folder, &info.graph, info.inputs.clone(), info.outputs.clone(), decoder.raw())]
        }
        Engine::Seq2Seq(pair) => pair
            .info()
            .graphs
            .iter()
            .zip([false, true])
            .map(|((file, inputs, outputs), decoder)| Graph::new(folder, file, inputs.clone(), outputs.clone(), pair.raw(decoder)))
            .collect(),
        Engine::Encoder(encoder) => {
            let (file, inputs, outputs) = encoder.graph();
            vec![Graph::new(folder, file, inputs.to_vec(), outputs.to_vec(), encoder.raw())]
        }
    }
}

/// Builds the service alone, with everything that it needs: what its own program does.
pub async fn serve(settings: &Settings, server: &Server) -> Result<Vec<Component>, BuildError> {
    let built = || -> Result<Vec<Component>, Error> {
        if settings.text.tokenization_endpoint.is_empty() {
            let key = "text.tokenization_endpoint = \"\"";
            return Err(Error::Setup(format!("{key}: this program has no tokenization service of its own; name one's URL")));
        }
        let runtime = Runtime::load(&settings.runtime)?;
        let repository = Repository::open(&settings.models)?;
        let served = build(&settings.text, server, &runtime, &repository, server.local_channel())?;
        Ok(vec![served.component, quintet_open_inference::component(&settings.server, served.graphs)])
    };
    // Loading blocks; nothing else runs on this thread yet.
    tokio::task::block_in_place(built).map_err(BuildError::from)
}

impl std::fmt::Debug for TextService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextService").field("models", &Arc::as_ptr(&self.models.0)).finish_non_exhaustive()
    }
}
