//! `quintet`: see `quintet --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    quintet_onnx::few_arenas();
    quintet::main()
}
