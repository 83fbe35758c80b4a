//! `quintet-tokenization`: the tokenization service alone.

use std::process::ExitCode;

use quintet_serving::{command, config::SERVER_DEFAULTS};

fn main() -> ExitCode {
    quintet_onnx::few_arenas();
    let summary = "Turns text into tokens and back, by gRPC";
    let about = command::About { name: "quintet-tokenization", summary, descriptors: quintet_proto::FILE_DESCRIPTOR_SET };
    let defaults = [SERVER_DEFAULTS, quintet_onnx::DEFAULTS, quintet_tokenization::DEFAULTS];
    command::main_with(about, &defaults, quintet_tokenization::serve)
}
