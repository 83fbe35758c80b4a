use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ndarray::{ArrayD, Axis};
use ndarray_npy::NpzReader;
use quintet_proto::anomaly::v1::{
    ExplainRequest, SampleData, SampleScore, ScoreKind, ScoreRequest, Values, anomaly_service_client::AnomalyServiceClient, sample_data::Data,
};
use serde_json::json;

use super::{
    Connection, Error,
    connection::Channel,
    connection::MAX_MESSAGE_BYTES,
    output::{print, print_json, progress, table},
    picture,
};

const EXAMPLES: &str = "\
Examples:
  quintet anomaly score --model vae-glyphs --rows deploy/datasets/glyph-defects-heldout/rows.npz --top 10
  quintet anomaly score --model vae-breast-cancer --rows measurements.csv --json
  quintet anomaly score --model vae-glyphs print.png
  quintet anomaly explain --model vae-glyphs --rows deploy/datasets/glyph-defects-heldout/rows.npz --index 601 -o heat.png
  quintet anomaly explain --model vae-breast-cancer --rows deploy/datasets/breast-cancer-heldout/rows.npz --index 200";

/// Samples in one call.
const CHUNK: usize = 1024;

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
    /// Score samples, the most anomalous first
    Score {
        #[command(flatten)]
        samples: Samples,
        /// Show this many
        #[arg(long, default_value_t = 20)]
        top: usize,
        /// Score by the negative evidence lower bound instead of the model's own choice
        #[arg(long)]
        elbo: bool,
    },
    /// Explain one sample: the features that stand out, or a heat map
    Explain {
        #[command(flatten)]
        samples: Samples,
        /// Which sample, from 0
        #[arg(long, default_value_t = 0)]
        index: usize,
        /// Where to write the heat map
        #[arg(short, long, default_value = "heat.png")]
        output: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Samples {
    /// Pictures to score
    pictures: Vec<PathBuf>,
    /// The model
    #[arg(long, default_value = "")]
    model: String,
    /// Rows: an .npz with an array `x`, or a .csv of numbers (a first line of names is passed over)
    #[arg(long, conflicts_with = "pictures")]
    rows: Option<PathBuf>,
}

impl Samples {
    fn read(&self) -> Result<Vec<SampleData>, Error> {
        if let Some(path) = &self.rows {
            let rows = if path.extension().is_some_and(|extension| extension == "npz") { read_npz(path)? } else { read_csv(path)? };
            return Ok(rows.into_iter().map(|values| SampleData { data: Some(Data::Values(Values { values })) }).collect());
        }
        if self.pictures.is_empty() {
            return Err(Error::Usage("nothing to score: name pictures, or rows with --rows".to_owned()));
        }
        let read = |path: &PathBuf| std::fs::read(path).map_err(|error| file(path, &error));
        self.pictures.iter().map(|path| Ok(SampleData { data: Some(Data::Image(read(path)?)) })).collect()
    }
}

fn file(path: &Path, reason: &impl ToString) -> Error {
    Error::File { path: path.display().to_string(), reason: reason.to_string() }
}

fn read_npz(path: &Path) -> Result<Vec<Vec<f32>>, Error> {
    let opened = std::fs::File::open(path).map_err(|error| file(path, &error))?;
    let mut archive = NpzReader::new(opened).map_err(|error| file(path, &error))?;
    let x: ArrayD<f32> = archive.by_name("x").map_err(|error| file(path, &error))?;
    Ok(x.axis_iter(Axis(0)).map(|row| row.iter().copied().collect()).collect())
}

fn read_csv(path: &Path) -> Result<Vec<Vec<f32>>, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| file(path, &error))?;
    let mut rows = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row: Result<Vec<f32>, _> = line.split(',').map(|value| value.trim().parse()).collect();
        match row {
            Ok(row) => rows.push(row),
            Err(_) if number == 0 => (),
            Err(_) => return Err(file(path, &format!("line {}: not a row of numbers", number + 1))),
        }
    }
    Ok(rows)
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Error> {
    let json = arguments.connection.json;
    let channel = arguments.connection.open().await?;
    let client = AnomalyServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES);
    match arguments.command {
        Command::Score { samples, top, elbo } => score(client, samples, top, elbo, json).await,
        Command::Explain { samples, index, output } => explain(client, samples, index, output, json).await,
    }
}

async fn score(mut client: AnomalyServiceClient<Channel>, samples: Samples, top: usize, elbo: bool, json: bool) -> Result<(), Error> {
    let data = samples.read()?;
    let bar = progress(data.len() as u64, "samples");
    let mut scores: Vec<SampleScore> = Vec::with_capacity(data.len());
    for chunk in data.chunks(CHUNK) {
        let kind = if elbo { ScoreKind::NegativeElbo } else { ScoreKind::Unspecified };
        let request = ScoreRequest { model: samples.model.clone(), samples: chunk.to_vec(), score: kind.into(), ..ScoreRequest::default() };
        scores.extend(client.score(request).await?.into_inner().scores);
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    if json {
        return scores.iter().enumerate().try_for_each(|(index, score)| {
            print_json(&json!({
                "index": index, "score": score.score, "threshold": score.threshold, "is_anomaly": score.is_anomaly, "p_value": score.p_value,
                "reconstruction_error": score.reconstruction_error, "negative_elbo": score.negative_elbo,
            }))
        });
    }
    let anomalies = scores.iter().filter(|score| score.is_anomaly).count();
    let mut order: Vec<(usize, &SampleScore)> = scores.iter().enumerate().collect();
    order.sort_by(|(_, a), (_, b)| b.score.total_cmp(&a.score));
    let rows = order.into_iter().take(top).map(|(index, score)| {
        let name = samples.pictures.get(index).map_or_else(|| index.to_string(), |path| path.display().to_string());
        vec![
            name,
            format!("{:.4}", score.score),
            format!("{:.4}", score.threshold),
            format!("{:.4}", score.p_value),
            if score.is_anomaly { "yes" } else { "no" }.to_owned(),
        ]
    });
    table(&["sample", "score", "threshold", "p-value", "anomaly"], rows)?;
    print(&format!("{anomalies} of {} samples are above the threshold\n", scores.len()))
}

async fn explain(mut client: AnomalyServiceClient<Channel>, samples: Samples, index: usize, output: PathBuf, json: bool) -> Result<(), Error> {
    let data = samples.read()?;
    let count = data.len();
    let sample = data.into_iter().nth(index).ok_or_else(|| Error::Usage(format!("--index {index}: there are {count} samples")))?;
    let request = ExplainRequest { model: samples.model, sample: Some(sample), ..ExplainRequest::default() };
    let answer = client.explain(request).await?.into_inner();
    let score = answer.score.unwrap_or_default();
    let drawn = !answer.heat_map.is_empty();
    if drawn {
        picture::write(&output, &answer.heat_map)?;
    }
    if json {
        let features: Vec<_> =
            answer.features.iter().map(|f| json!({"name": f.name, "value": f.value, "expected": f.expected, "share": f.share})).collect();
        return print_json(&json!({
            "score": score.score, "threshold": score.threshold, "is_anomaly": score.is_anomaly, "p_value": score.p_value,
            "features": features, "heat_map": drawn.then_some(&output),
        }));
    }
    let verdict = if score.is_anomaly { "an anomaly" } else { "normal" };
    print(&format!("{verdict}: score {:.4}, threshold {:.4}, p-value {:.4}\n", score.score, score.threshold, score.p_value))?;
    if !answer.features.is_empty() {
        let rows = answer
            .features
            .iter()
            .take(8)
            .map(|f| vec![f.name.clone(), format!("{:.4}", f.value), format!("{:.4}", f.expected), format!("{:.1} %", f.share * 100.0)]);
        table(&["feature", "value", "expected", "share"], rows)?;
    }
    if drawn {
        picture::show(&answer.heat_map)?;
        print(&format!("{}: the sample, its reconstruction, and where they differ\n", output.display()))?;
    }
    Ok(())
}
