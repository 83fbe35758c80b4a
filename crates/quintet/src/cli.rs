//! The command line.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use quintet_serving::command::{self, About, Flags, usage};

use crate::{
    client::{self, Connection},
    conformance, up,
};

const EXAMPLES: &str = "\
Examples:
  quintet up                                             all services on 127.0.0.1:50051
  quintet text generate \"In the beginning\"               a text, as it is written
  quintet text restore \"the lord is my shepherd\"         case and punctuation
  quintet image generate --class A --class 7 -n 24 -o letters.png
  quintet anomaly score --dataset glyph-defects-heldout
  quintet evaluate image                                 FID, KID, Inception Score
  quintet models                                         what is loaded, and where it runs
  quintet conformance --service tokenization --target 127.0.0.1:50061";

/// Serves generative models over gRPC, and calls them.
#[derive(Debug, Parser)]
#[command(name = "quintet", version, about, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all services in one process, on one port
    #[command(
        after_help = "Examples:\n  quintet up\n  quintet up --listen 0.0.0.0:8080 --set text.slots=32\n  quintet up --print-config\n\nExit codes: 64 a wrong flag or configuration, 74 the address cannot be listened on, 78 a missing library or a broken model."
    )]
    Up(Flags),
    /// Generate, restore, score and embed text
    Text(client::text::Arguments),
    /// Generate images
    Image(client::image::Arguments),
    /// Score and explain rows and images
    Anomaly(client::anomaly::Arguments),
    /// Measure models
    Evaluate(client::evaluate::Arguments),
    /// Turn text into tokens and back
    Tokenize(client::tokenize::Arguments),
    /// List, load and unload models
    #[command(after_help = "Examples:\n  quintet models\n  quintet models index\n  quintet models load glyph-gan\n  quintet models --json")]
    Models(client::models::Arguments),
    /// Watch the server's load, live
    #[command(after_help = "Examples:\n  quintet top\n  quintet top --once\n  quintet top --json --interval 5")]
    Top(Top),
    /// Hold an implementation of a service to its contract
    Conformance(conformance::Arguments),
    /// Make an API key for a server's key file
    #[command(
        after_help = "Examples:\n  quintet key team-a --scope text --scope image --file keys.toml\n  quintet key operator --scope admin --scope inference --scope metrics"
    )]
    Key(client::key::Arguments),
}

#[derive(Debug, Args)]
struct Top {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    arguments: client::top::Arguments,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match cli.command {
        Command::Up(flags) => {
            let about = About { name: "quintet", summary: "all services", descriptors: quintet_proto::FILE_DESCRIPTOR_SET };
            command::run(about, &flags, &up::defaults(), up::serve)
        }
        Command::Text(arguments) => client::run(client::text::run(arguments)),
        Command::Image(arguments) => client::run(client::image::run(arguments)),
        Command::Anomaly(arguments) => client::run(client::anomaly::run(arguments)),
        Command::Evaluate(arguments) => client::run(client::evaluate::run(arguments)),
        Command::Tokenize(arguments) => client::run(client::tokenize::run(arguments)),
        Command::Models(arguments) => client::run(client::models::run(arguments)),
        Command::Top(Top { connection, arguments }) => client::run(client::watch(&connection, &arguments)),
        Command::Conformance(arguments) => client::run(conformance::run(arguments)),
        Command::Key(arguments) => client::run(std::future::ready(client::key::run(&arguments))),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
