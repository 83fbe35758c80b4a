//! A server in a process of its own, as `scripts/bench` built it.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use tokio::runtime::Runtime;
use tonic::transport::Channel;

/// A running server. It ends with this.
pub(crate) struct Server {
    process: Child,
    address: String,
}

impl Server {
    /// Starts a program of the project on a port of its own, with these settings and what `--server:FLAG` adds, and waits until it is
    /// ready. `arguments` come first.
    pub(crate) fn start(program: &str, arguments: &[&str], settings: &[String]) -> Self {
        let own = std::env::current_exe().expect("this program's path");
        let path = own.ancestors().skip(1).map(|folder| folder.join(program)).find(|path| path.is_file());
        let mut process = Command::new(path.expect("the program: scripts/bench builds it"))
            .args(arguments)
            .args(["--listen", "127.0.0.1:0"])
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .args(std::env::args().skip(1).filter_map(|argument| argument.strip_prefix("--server:").map(str::to_owned)))
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output")).read_line(&mut line).expect("its ready line");
        let address = line.trim().split_once("ready on ").expect("it is ready").1.to_owned();
        Self { process, address }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A connection of its own, with windows that never hold an answer up.
    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).expect("an address");
        let endpoint = endpoint.initial_stream_window_size(1 << 24).initial_connection_window_size(1 << 24);
        endpoint.tcp_nodelay(true).connect().await.expect("the server")
    }

    /// The memory that it has in use, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident memory");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes << 10
    }
}

/// What clients run on: one thread, so that they take no more of the processors than they need.
pub(crate) fn clients() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
