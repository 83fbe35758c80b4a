use std::io::Read;

use clap::{Args, Subcommand};
use quintet_proto::text::v1::{
    ClassifyInput, ClassifyRequest, EmbedRequest, FillMaskRequest, FilledMask, FinishReason, GenerateRequest, GenerateStreamRequest, LabelScore,
    RerankRequest, Sampling, ScoreRequest, Stopping, text_service_client::TextServiceClient,
};
use serde_json::json;

use super::{
    Connection, Error,
    connection::Channel,
    connection::MAX_MESSAGE_BYTES,
    output::{print, print_json, table},
};

const EXAMPLES: &str = "\
Examples:
  quintet text generate \"In the beginning\"
  quintet text generate --seed 7 --temperature 0.6 --stop \".\" \"And the king said\"
  echo \"the lord is my shepherd i shall not want\" | quintet text restore
  quintet text score \"In the beginning God created the heaven and the earth.\"
  quintet text embed \"A man is eating food.\" \"A man eats bread.\"
  quintet text rerank \"what do men eat?\" \"A man eats bread.\" \"A cheetah runs.\"
  quintet text fill-mask \"A man eats [MASK].\"";

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
    /// Continue a prompt, piece by piece as it is written
    Generate(Generate),
    /// Restore case and punctuation
    Restore(Generate),
    /// How likely a model finds texts: log-likelihood, perplexity, bits per byte
    Score(Texts),
    /// Sentence embeddings, and how alike the texts are
    Embed(Texts),
    /// Order documents by how well each answers a query
    Rerank(Rerank),
    /// The classes of texts
    Classify(Texts),
    /// The likeliest tokens where a text has the tokenizer's mask, [MASK] or <mask>
    FillMask(Texts),
}

#[derive(Debug, Args)]
struct Generate {
    /// The text; absent = standard input
    text: Option<String>,
    /// The model
    #[arg(long, default_value = "")]
    model: String,
    /// The most tokens to generate
    #[arg(long)]
    max_new_tokens: Option<u32>,
    /// 0 takes the likeliest token; higher is more varied
    #[arg(long, allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Keep the k likeliest tokens
    #[arg(long)]
    top_k: Option<u32>,
    /// Keep the likeliest tokens whose probabilities add up to p
    #[arg(long, allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// The same seed gives the same text
    #[arg(long)]
    seed: Option<u64>,
    /// End at this text; may be repeated
    #[arg(long)]
    stop: Vec<String>,
}

#[derive(Debug, Args)]
struct Texts {
    /// The texts; absent = standard input, one a line
    texts: Vec<String>,
    /// The model
    #[arg(long, default_value = "")]
    model: String,
}

#[derive(Debug, Args)]
struct Rerank {
    /// What is looked for
    query: String,
    #[command(flatten)]
    documents: Texts,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Error> {
    let json = arguments.connection.json;
    let channel = arguments.connection.open().await?;
    let client = TextServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES);
    match arguments.command {
        Command::Generate(generate) => stream(client, generate.request()?, json, true).await,
        Command::Restore(generate) => {
            let mut request = generate.request()?;
            if request.model.is_empty() {
                "restore-case".clone_into(&mut request.model);
            }
            // The sentence is one, not a draw.
            let sampling = request.sampling.get_or_insert_default();
            sampling.temperature.get_or_insert(0.0);
            // The model reads what speech gives: lower case, without punctuation.
            let plain = request.prompt.chars().filter(|character| !".,;:?!'\"()-".contains(*character)).collect::<String>();
            request.prompt = plain.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
            stream(client, request, json, false).await
        }
        Command::Score(texts) => score(client, texts, json).await,
        Command::Embed(texts) => embed(client, texts, json).await,
        Command::Rerank(asked) => rerank(client, asked, json).await,
        Command::Classify(texts) => classify(client, texts, json).await,
        Command::FillMask(texts) => fill_mask(client, texts, json).await,
    }
}

impl Generate {
    fn request(self) -> Result<GenerateRequest, Error> {
        let prompt = match self.text {
            Some(text) => text,
            None => read_input()?.trim_end().to_owned(),
        };
        let sampling = Sampling { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p, seed: self.seed, ..Sampling::default() };
        let stopping = Stopping { max_new_tokens: self.max_new_tokens, stop: self.stop, ..Stopping::default() };
        Ok(GenerateRequest { model: self.model, prompt, sampling: Some(sampling), stopping: Some(stopping), ..GenerateRequest::default() })
    }
}

impl Texts {
    fn texts(&self) -> Result<Vec<String>, Error> {
        if self.texts.is_empty() { Ok(read_input()?.lines().map(str::to_owned).collect()) } else { Ok(self.texts.clone()) }
    }
}

fn read_input() -> Result<String, Error> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| Error::File { path: "standard input".to_owned(), reason: error.to_string() })?;
    Ok(text)
}

async fn stream(mut client: TextServiceClient<Channel>, request: GenerateRequest, json: bool, echo: bool) -> Result<(), Error> {
    if echo && !json {
        print(&request.prompt)?;
    }
    let mut pieces = client.generate_stream(GenerateStreamRequest { request: Some(request) }).await?.into_inner();
    while let Some(piece) = pieces.message().await? {
        if json {
            let usage = piece.usage;
            print_json(&json!({
                "model": piece.model, "text": piece.text, "seed": piece.seed,
                "finish_reason": (piece.finish_reason() != FinishReason::Unspecified).then(|| piece.finish_reason().as_str_name()),
                "prompt_tokens": usage.map(|usage| usage.prompt_tokens), "completion_tokens": usage.map(|usage| usage.completion_tokens),
            }))?;
        } else {
            print(&piece.text)?;
        }
    }
    if json { Ok(()) } else { print("\n") }
}

async fn score(mut client: TextServiceClient<Channel>, arguments: Texts, json: bool) -> Result<(), Error> {
    let texts = arguments.texts()?;
    let answer = client.score(ScoreRequest { model: arguments.model.clone(), texts: texts.clone(), ..ScoreRequest::default() }).await?.into_inner();
    let mut rows = texts.iter().zip(&answer.scores).map(|(text, score)| {
        let perplexity = (-score.log_likelihood / f64::from(score.tokens)).exp();
        let bits = -score.log_likelihood / (f64::from(score.bytes) * std::f64::consts::LN_2);
        (text, score, perplexity, bits)
    });
    if json {
        return rows.try_for_each(|(text, score, perplexity, bits)| {
            print_json(&json!({"text": text, "log_likelihood": score.log_likelihood, "tokens": score.tokens, "perplexity": perplexity, "bits_per_byte": bits}))
        });
    }
    let rows: Vec<_> = rows
        .map(|(text, score, perplexity, bits)| {
            let short: String = text.chars().take(60).collect();
            vec![short, score.tokens.to_string(), format!("{:.2}", score.log_likelihood), format!("{perplexity:.2}"), format!("{bits:.3}")]
        })
        .collect();
    table(&["text", "tokens", "log-likelihood", "perplexity by token", "bits per byte"], rows)
}

async fn embed(mut client: TextServiceClient<Channel>, arguments: Texts, json: bool) -> Result<(), Error> {
    let texts = arguments.texts()?;
    let request = EmbedRequest { model: arguments.model.clone(), inputs: texts.clone(), ..EmbedRequest::default() };
    let embeddings = client.embed(request).await?.into_inner().embeddings;
    if json {
        return texts.iter().zip(&embeddings).try_for_each(|(text, embedding)| print_json(&json!({"text": text, "embedding": embedding.values})));
    }
    let cosine = |a: &[f32], b: &[f32]| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let header: Vec<String> = std::iter::once("cosine with".to_owned()).chain((1..=texts.len()).map(|number| number.to_string())).collect();
    let rows = texts.iter().zip(&embeddings).enumerate().map(|(index, (text, row))| {
        let short: String = text.chars().take(40).collect();
        std::iter::once(format!("{} {short}", index + 1))
            .chain(embeddings.iter().map(|column| format!("{:.3}", cosine(&row.values, &column.values))))
            .collect()
    });
    table(&header.iter().map(String::as_str).collect::<Vec<_>>(), rows)
}

async fn rerank(mut client: TextServiceClient<Channel>, asked: Rerank, json: bool) -> Result<(), Error> {
    let request = RerankRequest {
        model: asked.documents.model.clone(),
        query: asked.query,
        documents: asked.documents.texts()?,
        return_documents: true,
        ..RerankRequest::default()
    };
    let results = client.rerank(request).await?.into_inner().results;
    if json {
        return results.iter().try_for_each(|result| {
            print_json(&json!({"index": result.index, "relevance_score": result.relevance_score, "document": result.document}))
        });
    }
    table(&["document", "score"], results.iter().map(|result| vec![short(&result.document), format!("{:.4}", result.relevance_score)]))
}

async fn classify(mut client: TextServiceClient<Channel>, arguments: Texts, json: bool) -> Result<(), Error> {
    let texts = arguments.texts()?;
    let inputs = texts.iter().map(|text| ClassifyInput { text: text.clone(), ..ClassifyInput::default() }).collect();
    let request = ClassifyRequest { model: arguments.model, inputs, ..ClassifyRequest::default() };
    let found = client.classify(request).await?.into_inner().classifications;
    if json {
        return texts.iter().zip(&found).try_for_each(|(text, found)| {
            let labels: Vec<_> = found.labels.iter().map(|label| json!({"label": label.label, "score": label.score})).collect();
            print_json(&json!({"text": text, "labels": labels}))
        });
    }
    let rows = texts.iter().zip(&found).flat_map(|(text, found)| {
        let row = move |label: &LabelScore| vec![short(text), label.label.clone(), format!("{:.4}", label.score)];
        found.labels.iter().take(3).map(row)
    });
    table(&["text", "class", "score"], rows)
}

async fn fill_mask(mut client: TextServiceClient<Channel>, arguments: Texts, json: bool) -> Result<(), Error> {
    let texts = arguments.texts()?;
    let request = FillMaskRequest { model: arguments.model, inputs: texts.clone(), ..FillMaskRequest::default() };
    let filled = client.fill_mask(request).await?.into_inner().texts;
    if json {
        return texts.iter().zip(&filled).try_for_each(|(text, filled)| {
            let tokens = |mask: &FilledMask| mask.tokens.iter().map(|token| json!({"token": token.token, "score": token.score})).collect();
            print_json(&json!({"text": text, "masks": filled.masks.iter().map(tokens).collect::<Vec<serde_json::Value>>()}))
        });
    }
    let rows = texts.iter().zip(&filled).flat_map(|(text, filled)| {
        let row = move |(index, mask): (usize, &FilledMask)| {
            let tokens = mask.tokens.iter().map(|token| format!("{} {:.3}", token.token.trim(), token.score)).collect::<Vec<_>>();
            vec![short(text), (index + 1).to_string(), tokens.join(", ")]
        };
        filled.masks.iter().enumerate().map(row)
    });
    table(&["text", "mask", "tokens"], rows)
}

/// The beginning of a text, for a table.
fn short(text: &str) -> String {
    text.chars().take(60).collect()
}
