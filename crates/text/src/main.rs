//! `quintet-text`: the text service alone.

use std::process::ExitCode;

use quintet_serving::{command, config::SERVER_DEFAULTS};

fn main() -> ExitCode {
    quintet_onnx::few_arenas();
    let about =
        command::About { name: "quintet-text", summary: "Serves transformers over text by gRPC", descriptors: quintet_proto::FILE_DESCRIPTOR_SET };
    let defaults = [SERVER_DEFAULTS, quintet_onnx::DEFAULTS, quintet_text::DEFAULTS];
    command::main_with(about, &defaults, async |settings: &quintet_text::Settings, server| quintet_text::serve(settings, server).await)
}
