use std::collections::HashMap;

use clap::{Args, Subcommand};
use quintet_proto::{
    anomaly::v1::{ListModelsRequest as AnomalyRequest, anomaly_service_client::AnomalyServiceClient},
    image::v1::{ListModelsRequest as ImageRequest, image_service_client::ImageServiceClient},
    inference::{
        RepositoryIndexRequest, RepositoryModelLoadRequest, RepositoryModelUnloadRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
    },
    text::v1::{ListModelsRequest as TextRequest, text_service_client::TextServiceClient},
    tokenization::v1::{ListTokenizersRequest, tokenization_service_client::TokenizationServiceClient},
};
use serde_json::json;
use tonic::Code;

use super::{
    Connection, Error,
    connection::Channel,
    output::{print_json, table},
};

/// A model of any service.
struct Row {
    service: &'static str,
    name: String,
    version: String,
    description: String,
    license: String,
    nodes: HashMap<String, u32>,
}

/// What to do with the server's models; without a command, list them.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List what is loaded, and where it runs
    List,
    /// List the repository: every version, and where it stands
    Index,
    /// Load a model, or replace it by what its folder holds now
    Load {
        /// The model
        model: String,
    },
    /// Take a model out of service
    Unload {
        /// The model
        model: String,
    },
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Error> {
    let Arguments { connection, action } = arguments;
    let channel = connection.open().await?;
    let mut repository = GrpcInferenceServiceClient::new(channel.clone());
    match action {
        None | Some(Action::List) => list(&connection, channel).await,
        Some(Action::Index) => {
            let models = repository.repository_index(RepositoryIndexRequest::default()).await?.into_inner().models;
            if connection.json {
                return models.iter().try_for_each(|model| {
                    print_json(&json!({ "name": model.name, "version": model.version, "state": model.state, "reason": model.reason }))
                });
            }
            table(
                &["model", "version", "state", "reason"],
                models.into_iter().map(|model| vec![model.name, model.version, model.state, model.reason]),
            )
        }
        Some(Action::Load { model }) => {
            repository.repository_model_load(RepositoryModelLoadRequest { model_name: model, ..Default::default() }).await?;
            Ok(())
        }
        Some(Action::Unload { model }) => {
            repository.repository_model_unload(RepositoryModelUnloadRequest { model_name: model, ..Default::default() }).await?;
            Ok(())
        }
    }
}

async fn list(connection: &Connection, channel: Channel) -> Result<(), Error> {
    let mut rows = Vec::new();
    let tokenizers = served(TokenizationServiceClient::new(channel.clone()).list_tokenizers(ListTokenizersRequest {}).await)?;
    for tokenizer in tokenizers.into_iter().flat_map(|answer| answer.tokenizers) {
        let description = format!("{:?}, {} ids", tokenizer.algorithm(), tokenizer.vocabulary_size);
        let (name, version) = (tokenizer.name, tokenizer.version);
        rows.push(Row { service: "tokenization", name, version, description, license: String::new(), nodes: HashMap::new() });
    }
    macro_rules! models {
        ($service:literal, $answer:expr) => {
            for model in served($answer)?.into_iter().flat_map(|answer| answer.models) {
                rows.push(Row {
                    service: $service,
                    name: model.name,
                    version: model.version,
                    description: model.description,
                    license: model.license,
                    nodes: model.provider_nodes,
                });
            }
        };
    }
    models!("text", TextServiceClient::new(channel.clone()).list_models(TextRequest {}).await);
    models!("image", ImageServiceClient::new(channel.clone()).list_models(ImageRequest {}).await);
    models!("anomaly", AnomalyServiceClient::new(channel).list_models(AnomalyRequest {}).await);

    if connection.json {
        return rows.iter().try_for_each(|row| {
            print_json(&json!({
                "service": row.service, "name": row.name, "version": row.version, "description": row.description,
                "license": row.license, "provider_nodes": row.nodes,
            }))
        });
    }
    table(
        &["service", "model", "version", "what", "runs on"],
        rows.into_iter().map(|row| {
            let mut nodes: Vec<String> =
                row.nodes.iter().map(|(provider, count)| format!("{} ({count} nodes)", provider.trim_end_matches("ExecutionProvider"))).collect();
            nodes.sort();
            vec![row.service.to_owned(), row.name, row.version, row.description, nodes.join(", ")]
        }),
    )
}

/// The answer of a service that may not be at this address.
fn served<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> Result<Option<T>, Error> {
    match answer {
        Ok(answer) => Ok(Some(answer.into_inner())),
        Err(status) if status.code() == Code::Unimplemented => Ok(None),
        Err(status) => Err(status.into()),
    }
}
