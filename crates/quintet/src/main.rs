//! `quintet`: see `quintet --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    quintet::main()
}
