//! What prompt look-up gains where texts repeat their prompts, and costs where nothing repeats: `scripts/bench speculation`.
//!
//! One server, one client, `quintet up` on two threads, with a decoder of random weights and a token a byte (models.py) and with the
//! embedded GPT. Each round asks for the same texts without drafts and with them, in turn; a round's ratio is that of its decode rates by
//! the server's own timings, and the median of the rounds counts.
//!
//! * `summary`: a guide has the text be a summary that was written by hand and quotes its prompt in part, whatever the model would write:
//!   with random weights it would write nothing. The masks of the guide count on both sides. Not for the embedded GPT, which has many ways
//!   to spell a text in tokens, and under a guide takes strange ones.
//! * `greedy`: the likeliest text behind verses that come twice.
//! * `drawn`: temperature 1, where next to nothing repeats: nearly no draft is right.
//! * `eight`: the same by eight clients at once.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::missing_panics_doc,
    clippy::disallowed_methods,
    reason = "a benchmark prints, and ends where it cannot measure"
)]

mod passage;
#[allow(dead_code, reason = "a part of it is of use here")]
#[path = "../server.rs"]
mod server;

use passage::{PROMPT, SUMMARY, VERSE};
use quintet_proto::text::v1::{
    Choices, GenerateRequest, GenerateResponse, Guide, Sampling, Speculation, Stopping, guide::Guide as Form, text_service_client::TextServiceClient,
};
use server::{Server, clients};
use tokio::{runtime::Runtime, task::JoinSet};
use tonic::transport::Channel;

const ROUNDS: u64 = 7;
const THREADS: usize = 2;

/// A flag's value: `--NAME:VALUE`.
fn flag(name: &str) -> Option<String> {
    std::env::args().skip(1).find_map(|argument| Some(argument.strip_prefix("--")?.strip_prefix(name)?.strip_prefix(':')?.to_owned()))
}

fn main() {
    // `cargo test --all-targets` must not run a benchmark.
    let Some(folder) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")) else {
        println!("usage: scripts/bench speculation");
        return;
    };
    let rounds = flag("rounds").and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    println!("decode rate with prompt look-up over that without, medians of {rounds} rounds, {THREADS} threads");
    println!("| model | texts | ratio | least, most | tokens a second without | with | drafted tokens that were right |");
    println!("|---|---|---|---|---|---|---|");
    let named = flag("model").map(|model| (flag("models").unwrap_or_else(|| "deploy/models".to_owned()), model, &Workload::ALL[..]));
    let ours = [
        (format!("{folder}/models"), "bytes".to_owned(), &Workload::ALL[..]),
        ("deploy/models".to_owned(), "gpt-english".to_owned(), &Workload::ALL[1..]),
    ];
    for (models, model, workloads) in named.map_or_else(|| ours.to_vec(), |named| vec![named]) {
        let server = Served::start(&models, model);
        for workload in workloads.iter().filter(|workload| flag("only").is_none_or(|only| workload.name() == only)) {
            measure(&server, *workload, rounds);
        }
    }
}

#[derive(Clone, Copy)]
enum Workload {
    Summary,
    Greedy,
    Drawn,
    Eight,
}

impl Workload {
    const ALL: [Self; 4] = [Self::Summary, Self::Greedy, Self::Drawn, Self::Eight];

    fn name(self) -> &'static str {
        match self {
            Self::Summary => "summary",
            Self::Greedy => "greedy",
            Self::Drawn => "drawn",
            Self::Eight => "eight",
        }
    }

    /// What is asked at once in a round.
    fn requests(self, model: &str, round: u64) -> Vec<GenerateRequest> {
        let request = |prompt: String, temperature, seed, tokens| GenerateRequest {
            model: model.to_owned(),
            prompt,
            sampling: Some(Sampling { temperature: Some(temperature), seed: Some(seed), ..Sampling::default() }),
            stopping: Some(Stopping { max_new_tokens: Some(tokens), ignore_eos: true, ..Stopping::default() }),
            ..GenerateRequest::default()
        };
        match self {
            Self::Summary => {
                let guide = Guide { guide: Some(Form::Choices(Choices { texts: vec![SUMMARY.to_owned()] })) };
                let stopping = Stopping { max_new_tokens: Some(500), ..Stopping::default() };
                vec![GenerateRequest { guide: Some(guide), stopping: Some(stopping), ..request(format!("{PROMPT} In short: "), 0.0, round, 500) }]
            }
            Self::Greedy => vec![request(format!("{VERSE} {VERSE} "), 0.0, round, 200)],
            Self::Drawn => vec![request(PROMPT.to_owned(), 1.0, round, 200)],
            Self::Eight => (0..8).map(|client| request(PROMPT.to_owned(), 1.0, 8 * round + client, 200)).collect(),
        }
    }
}

/// Tokens a second of sequences that ran together, drafted tokens, and those that were right.
struct Rate {
    tokens: f64,
    drafted: u32,
    accepted: u32,
}

fn measure(server: &Served, workload: Workload, rounds: u64) {
    // Memory and prefixes are there from then on.
    server.rate(workload, u64::MAX / 16, Speculation::None);
    let (mut ratios, mut without, mut with, mut drafted, mut accepted) = (Vec::new(), Vec::new(), Vec::new(), 0, 0);
    for round in 0..rounds {
        // Who is first alternates, so that what changes with time counts for neither.
        let order = if round % 2 == 0 { [Speculation::None, Speculation::PromptLookup] } else { [Speculation::PromptLookup, Speculation::None] };
        let rates = order.map(|speculation| server.rate(workload, round, speculation));
        let [plain, speculated] = if round % 2 == 0 { [&rates[0], &rates[1]] } else { [&rates[1], &rates[0]] };
        ratios.push(speculated.tokens / plain.tokens);
        without.push(plain.tokens);
        with.push(speculated.tokens);
        drafted += speculated.drafted;
        accepted += speculated.accepted;
    }
    let ratio = median(&mut ratios);
    println!(
        "| {} | {} | {ratio:.2} | {:.2}, {:.2} | {:.0} | {:.0} | {accepted} of {drafted} |",
        server.model,
        workload.name(),
        ratios.first().copied().unwrap_or_default(),
        ratios.last().copied().unwrap_or_default(),
        median(&mut without),
        median(&mut with),
    );
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// A server with one model. It ends with this.
struct Served {
    _server: Server,
    runtime: Runtime,
    client: TextServiceClient<Channel>,
    model: String,
}

impl Served {
    fn start(models: &str, model: String) -> Self {
        let settings = [
            format!("models.path={models}"),
            "models.control=explicit".to_owned(),
            format!("models.load={model}"),
            format!("runtime.threads={THREADS}"),
            // The cores are the decoder's own here.
            "runtime.spin=true".to_owned(),
        ];
        let (server, runtime) = (Server::start("quintet", &["up"], &settings), clients());
        let client = TextServiceClient::new(runtime.block_on(server.channel()));
        Self { _server: server, runtime, client, model }
    }

    /// Asks for a round's texts at once.
    fn rate(&self, workload: Workload, round: u64, speculation: Speculation) -> Rate {
        let answers: Vec<GenerateResponse> = self.runtime.block_on(async {
            let mut together = JoinSet::new();
            for request in workload.requests(&self.model, round) {
                let (mut client, request) = (self.client.clone(), GenerateRequest { speculation: speculation.into(), ..request });
                together.spawn(async move { client.generate(request).await.expect("a text").into_inner() });
            }
            together.join_all().await
        });
        let usages = answers.iter().filter_map(|answer| answer.usage);
        let mut rate = Rate { tokens: 0.0, drafted: 0, accepted: 0 };
        let (mut tokens, mut longest) = (0, 0.0_f64);
        for (answer, usage) in answers.iter().zip(usages) {
            // The first token is the prompt's.
            tokens += usage.completion_tokens.saturating_sub(1);
            longest = longest.max(answer.timings.map_or(0.0, |timings| timings.decode_seconds));
            rate.drafted += usage.drafted_tokens;
            rate.accepted += usage.accepted_tokens;
        }
        rate.tokens = f64::from(tokens) / longest;
        rate
    }
}
