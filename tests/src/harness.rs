use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use tonic::transport::Channel;

/// The project's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A program of the workspace, where the tests' own build put it.
pub(crate) fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let found = own.ancestors().skip(1).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built: run `cargo build --release --workspace`"))
}

/// A command that runs a program of the workspace in the project's folder.
pub(crate) fn command(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program(name));
    command.args(arguments).current_dir(root()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a program to its end.
pub(crate) fn run(name: &str, arguments: &[&str]) -> (i32, String, String) {
    let output = command(name, arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// The most of a log that is kept.
const MOST_LOG: usize = 8 << 20;

/// Whether the long form of a test is asked for: `scripts/test --soak`.
#[allow(clippy::disallowed_methods, reason = "the test script says it this way")]
pub(crate) fn soaks() -> bool {
    std::env::var_os("QUINTET_TEST_SOAK").is_some()
}

/// The value of a metric: the sum over its samples whose labels hold all of `labels`; 0 where there is none.
pub(crate) fn metric(page: &str, name: &str, labels: &[&str]) -> f64 {
    let samples = page.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with([' ', '{'])) && labels.iter().all(|label| line.contains(label))
    });
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// A serving process. It is killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: String,
    log: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Process {
    /// `quintet up` on a free port, ready.
    pub(crate) fn up(arguments: &[&str]) -> Self {
        Self::start("quintet", &[&["up"], arguments].concat())
    }

    /// A serving program on a free port, ready.
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        Self::start_with(name, arguments, &[])
    }

    /// The same, with these variables in its environment.
    pub(crate) fn start_with(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = command(name, arguments);
        command.envs(environment.iter().copied());
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        Self::of(command)
    }

    /// What a command starts in the end, ready. It must be of this process's making: see [`command`].
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        // Somebody must read the log from the start, or a full pipe would hold the process up.
        let (lines, log) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::new(Mutex::new(String::new())));
        let kept = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut kept = kept.lock().unwrap();
                if kept.len() < MOST_LOG {
                    kept.push_str(&line);
                    kept.push('\n');
                }
            }
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Some((_, address)) = line.trim().split_once("ready on ") else {
            reader.join().unwrap();
            panic!("{command:?} did not start: {}", log.lock().unwrap());
        };
        let address = address.to_owned();
        Self { child, address, log, reader: Some(reader) }
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// What the process has logged, up to some megabytes.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The process's memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let pages = std::fs::read_to_string(format!("/proc/{}/statm", self.id())).unwrap();
        pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// Ends the process as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks the process to end.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends the process a signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Asks the process to end, and gives all that it has logged.
    pub(crate) async fn end(mut self) -> String {
        self.terminate();
        tokio::task::spawn_blocking(move || {
            assert!(self.child.wait().unwrap().success());
            self.reader.take().unwrap().join().unwrap();
            self.log()
        })
        .await
        .unwrap()
    }

    /// Waits for the process to end.
    pub(crate) async fn wait(mut self) -> ExitStatus {
        tokio::task::spawn_blocking(move || self.child.wait().unwrap()).await.unwrap()
    }

    /// Waits for the process to end, and keeps what it has logged.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        tokio::task::block_in_place(|| self.child.wait().unwrap())
    }

    /// The page at /metrics.
    pub(crate) async fn metrics(&self) -> String {
        self.get("/metrics").await
    }

    /// The answer to a plain HTTP request.
    pub(crate) async fn get(&self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
    }

    /// The answer to these very bytes.
    pub(crate) async fn send(&self, request: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The fields that a refusal names.
pub(crate) fn fields(status: &tonic::Status) -> Vec<String> {
    use tonic_types::StatusExt;
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    let details = status.get_details_bad_request().unwrap_or_else(|| panic!("no details: {status}"));
    details.field_violations.into_iter().map(|field| field.field).collect()
}
