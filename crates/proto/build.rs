//! Compiles the contracts under `proto/` with protox, so that no `protoc` is needed on the machine.

use std::path::{Path, PathBuf};

use prost::Message;

const FILES: [&str; 7] = [
    "quintet/tokenization/v1/tokenization.proto",
    "quintet/text/v1/text.proto",
    "quintet/image/v1/image.proto",
    "quintet/anomaly/v1/anomaly.proto",
    "quintet/evaluation/v1/evaluation.proto",
    "inference/model_config.proto",
    "inference/grpc_inference.proto",
];

#[allow(clippy::disallowed_methods, reason = "cargo hands a build script its folder this way")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    // tonic-prost-build names no inputs to cargo; without these lines every build would generate anew.
    for file in FILES {
        println!("cargo:rerun-if-changed={}", root.join(file).display());
    }
    let descriptors = protox::compile(FILES, [&root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Image data, tensors and pictures are shared between the decoder's buffer and the message, not copied.
        .bytes(".quintet.image.v1.Image.data")
        .bytes(".inference.ModelInferRequest.raw_input_contents")
        .bytes(".inference.ModelInferResponse.raw_output_contents")
        .bytes(".inference.InferTensorContents.bytes_contents")
        .bytes(".inference.ModelRepositoryParameter.bytes_param")
        .compile_fds(descriptors)?;
    Ok(())
}
