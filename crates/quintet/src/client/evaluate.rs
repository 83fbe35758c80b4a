use clap::{Args, Subcommand};
use quintet_proto::evaluation::v1::{
    AnomalyEvaluation, CancelEvaluationRequest, CreateEvaluationRequest, Evaluation, EvaluationState, ImageEvaluation, ListDatasetsRequest, Metric,
    TextEvaluation, WatchEvaluationRequest, create_evaluation_request::Evaluation as What, evaluation_service_client::EvaluationServiceClient,
};
use serde_json::json;

use super::{
    Connection, Error,
    connection::Channel,
    connection::MAX_MESSAGE_BYTES,
    output::{print, print_json, progress, table},
};

const EXAMPLES: &str = "\
Examples:
  quintet evaluate image                                 FID, KID, Inception Score of the GAN
  quintet evaluate image --samples 5000 --seed 3 --json
  quintet evaluate text --documents 10                   perplexity of held-out chapters
  quintet evaluate anomaly --model vae-digits            ROC-AUC on held-out samples
  quintet evaluate datasets";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A GAN's images against real ones
    Image {
        #[command(flatten)]
        of: Of,
        /// How many images to generate
        #[arg(long)]
        samples: Option<u32>,
        /// The image classifier to measure with
        #[arg(long, default_value = "")]
        classifier: String,
    },
    /// A decoder's perplexity on held-out text
    Text {
        #[command(flatten)]
        of: Of,
        /// How many documents to score
        #[arg(long)]
        documents: Option<u32>,
    },
    /// How well a VAE tells anomalies from normals
    Anomaly {
        #[command(flatten)]
        of: Of,
    },
    /// List the data sets
    Datasets,
}

#[derive(Debug, Args)]
struct Of {
    /// The model
    #[arg(long, default_value = "")]
    model: String,
    /// The data set
    #[arg(long, default_value = "")]
    dataset: String,
    /// Seeds samples and resamples
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Resamples of the bootstrap
    #[arg(long)]
    resamples: Option<u32>,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Error> {
    let json = arguments.connection.json;
    let channel = arguments.connection.open().await?;
    let client = EvaluationServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let (of, what) = match arguments.command {
        Command::Datasets => return datasets(client, json).await,
        Command::Image { of, samples, classifier } => {
            let what = What::Image(ImageEvaluation { model: of.model.clone(), dataset: of.dataset.clone(), classifier, samples });
            (of, what)
        }
        Command::Text { of, documents } => {
            let what = What::Text(TextEvaluation { model: of.model.clone(), dataset: of.dataset.clone(), documents });
            (of, what)
        }
        Command::Anomaly { of } => {
            let what = What::Anomaly(AnomalyEvaluation { model: of.model.clone(), dataset: of.dataset.clone() });
            (of, what)
        }
    };
    let request = CreateEvaluationRequest { evaluation: Some(what), seed: of.seed, bootstrap_resamples: of.resamples };
    let evaluation = watch(client, request).await?;
    if evaluation.state() != EvaluationState::Succeeded {
        let state = evaluation.state().as_str_name().trim_start_matches("EVALUATION_STATE_").to_lowercase();
        return Err(Error::Usage(format!("the evaluation {state}: {}", evaluation.error)));
    }
    report(&evaluation.metrics, json)
}

/// Starts an evaluation and follows it to its end. Ctrl-C cancels it.
async fn watch(mut client: EvaluationServiceClient<Channel>, request: CreateEvaluationRequest) -> Result<Evaluation, Error> {
    let started = client.create_evaluation(request).await?.into_inner().evaluation.unwrap_or_default();
    let id = started.id.clone();
    let mut states = client.watch_evaluation(WatchEvaluationRequest { id: id.clone() }).await?.into_inner();
    let bar = progress(0, "");
    let mut last = started;
    loop {
        let state = tokio::select! {
            state = states.message() => state?,
            _ = tokio::signal::ctrl_c() => {
                let cancelled = client.cancel_evaluation(CancelEvaluationRequest { id: id.clone() }).await?.into_inner();
                last = cancelled.evaluation.unwrap_or_default();
                break;
            }
        };
        let Some(state) = state.and_then(|state| state.evaluation) else { break };
        bar.set_length(state.progress_total);
        bar.set_position(state.progress_done);
        bar.set_message(state.stage.clone());
        last = state;
    }
    bar.finish_and_clear();
    Ok(last)
}

fn report(metrics: &[Metric], json: bool) -> Result<(), Error> {
    if json {
        return metrics.iter().try_for_each(|metric| {
            let interval = metric.interval.as_ref().map(|i| json!({"lower": i.lower, "upper": i.upper, "level": i.level, "method": i.method}));
            print_json(&json!({
                "name": metric.name, "value": metric.value, "interval": interval, "signature": metric.signature, "sample_size": metric.sample_size,
                "seed": metric.seed, "higher_is_better": metric.higher_is_better, "measured_with": metric.measured_with,
            }))
        });
    }
    let rows = metrics.iter().map(|metric| {
        let interval = metric.interval.as_ref().map_or_else(|| "–".to_owned(), |i| format!("{:.4} to {:.4}", i.lower, i.upper));
        let direction = if metric.higher_is_better { "higher" } else { "lower" };
        vec![metric.name.clone(), format!("{:.4}", metric.value), interval, direction.to_owned(), metric.sample_size.to_string()]
    });
    table(&["metric", "value", "95 % interval", "better", "samples"], rows)?;
    for metric in metrics {
        print(&format!("{}: {}\n", metric.name, metric.signature))?;
    }
    Ok(())
}

async fn datasets(mut client: EvaluationServiceClient<Channel>, json: bool) -> Result<(), Error> {
    let datasets = client.list_datasets(ListDatasetsRequest {}).await?.into_inner().datasets;
    if json {
        return datasets
            .iter()
            .try_for_each(|d| print_json(&json!({"name": d.name, "kind": d.kind().as_str_name(), "size": d.size, "sha256": d.sha256})));
    }
    let rows = datasets.iter().map(|d| {
        let kind = d.kind().as_str_name().trim_start_matches("DATASET_KIND_").replace('_', " ").to_lowercase();
        vec![d.name.clone(), kind, d.size.to_string(), d.sha256.get(..12).unwrap_or_default().to_owned()]
    });
    table(&["data set", "kind", "size", "sha256"], rows)
}
