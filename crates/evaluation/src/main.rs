//! `quintet-evaluation`: the evaluation service alone.

use std::process::ExitCode;

use quintet_serving::{command, config::SERVER_DEFAULTS};

fn main() -> ExitCode {
    quintet_onnx::few_arenas();
    let summary = "Measures generative models by gRPC";
    let about = command::About { name: "quintet-evaluation", summary, descriptors: quintet_proto::FILE_DESCRIPTOR_SET };
    let defaults = [SERVER_DEFAULTS, quintet_onnx::DEFAULTS, quintet_evaluation::DEFAULTS];
    command::main_with(about, &defaults, quintet_evaluation::serve)
}
