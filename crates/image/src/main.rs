//! `quintet-image`: the image service alone.

use std::process::ExitCode;

use quintet_serving::{command, config::SERVER_DEFAULTS};

fn main() -> ExitCode {
    quintet_onnx::few_arenas();
    let summary = "Serves generative adversarial networks by gRPC";
    let about = command::About { name: "quintet-image", summary, descriptors: quintet_proto::FILE_DESCRIPTOR_SET };
    let defaults = [SERVER_DEFAULTS, quintet_onnx::DEFAULTS, quintet_image::DEFAULTS];
    command::main_with(about, &defaults, quintet_image::serve)
}
