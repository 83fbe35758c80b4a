//! `quintet-anomaly`: the anomaly service alone.

use std::process::ExitCode;

use quintet_serving::{command, config::SERVER_DEFAULTS};

fn main() -> ExitCode {
    quintet_onnx::few_arenas();
    let summary = "Scores rows and images with variational autoencoders by gRPC";
    let about = command::About { name: "quintet-anomaly", summary, descriptors: quintet_proto::FILE_DESCRIPTOR_SET };
    let defaults = [SERVER_DEFAULTS, quintet_onnx::DEFAULTS, quintet_anomaly::DEFAULTS];
    command::main_with(about, &defaults, quintet_anomaly::serve)
}
