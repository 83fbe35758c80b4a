//! A PostgreSQL server of a test's own, in a temporary folder, on a free port of loopback.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// Where Debian's package has the programs, a folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// A password that stands out wherever it would be shown.
pub(super) const PASSWORD: &str = "b1ue-wha1e";

/// A server. It ends when this is dropped.
pub(super) struct Postgres {
    programs: PathBuf,
    folder: tempfile::TempDir,
    /// Whom the server runs as: it refuses to be root.
    user: Option<(u32, u32)>,
    port: u16,
    server: Option<Child>,
}

impl Postgres {
    /// A server that runs; nothing, with a word on it, where it is not installed.
    pub(super) fn start() -> Option<Self> {
        Self::start_with(|_| Vec::new())
    }

    /// The same, with the settings that the caller writes and names, given the folder.
    pub(super) fn start_with(settings: impl FnOnce(&Path) -> Vec<String>) -> Option<Self> {
        let Some(programs) = programs() else {
            println!("left out: Debian's package postgresql is not installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut this = Self { programs, user: servant(folder.path()), folder, port, server: None };
        let secret = this.folder.path().join("password");
        fs::write(&secret, PASSWORD).unwrap();
        this.own(&secret);
        let (data, secret) = (this.data(), secret.display().to_string());
        let options = ["--auth=scram-sha-256", "--username=quintet", "--encoding=UTF8", "--locale=C", "--no-sync"];
        let mut initdb = this.command("initdb");
        initdb.arg("--pgdata").arg(&data).args(options).arg(format!("--pwfile={secret}"));
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let settings = settings(this.folder.path());
        for file in fs::read_dir(this.folder.path()).unwrap() {
            this.own(&file.unwrap().path());
        }
        fs::OpenOptions::new().append(true).open(data.join("postgresql.conf")).unwrap().write_all(settings.join("\n").as_bytes()).unwrap();
        this.resume();
        Some(this)
    }

    /// Where it is, with the password.
    pub(super) fn url(&self, rest: &str) -> String {
        format!("postgres://quintet:{PASSWORD}@localhost:{}/postgres?{rest}", self.port)
    }

    /// The same without the password.
    pub(super) fn bare_url(&self, rest: &str) -> String {
        self.url(rest).replace(&format!(":{PASSWORD}"), "")
    }

    /// Starts the server again after [`Self::stop`].
    pub(super) fn resume(&mut self) {
        let mut postgres = self.command("postgres");
        postgres.arg("-D").arg(self.data()).args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
        postgres.args(["-c", "unix_socket_directories=", "-c", "logging_collector=off"]);
        let mut server = postgres.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut log = String::new();
        let is_ready = lines.by_ref().inspect(|line| log.push_str(line)).any(|line| line.contains("ready to accept connections"));
        assert!(is_ready, "{log}");
        // Somebody must read the rest, or a full pipe would hold the server up.
        std::thread::spawn(move || lines.for_each(drop));
        self.server = Some(server);
    }

    /// Ends the server, with all connections to it.
    pub(super) fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let status = Command::new("kill").args(["-INT", &server.id().to_string()]).status().unwrap();
            assert!(status.success());
            server.wait().unwrap();
        }
    }

    /// Lets a statement change what is there while the server does not run.
    pub(super) fn edit(&self, sql: &str) {
        let mut single = self.command("postgres");
        single.arg("--single").arg("-D").arg(self.data()).arg("postgres");
        let mut single = single.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // It ends with its input.
        writeln!(single.stdin.take().unwrap(), "{sql}").unwrap();
        assert!(single.wait().unwrap().success());
    }

    /// What a statement gives, a line for each row.
    pub(super) fn ask(&self, sql: &str) -> String {
        let answer = self.psql().args(["--command", sql]).output().unwrap();
        assert!(answer.status.success(), "{sql}: {}", String::from_utf8_lossy(&answer.stderr));
        String::from_utf8_lossy(&answer.stdout).trim().to_owned()
    }

    /// A session that stays open.
    pub(super) fn session(&self) -> Session {
        let mut child = self.psql().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (asks, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Session { child, asks: Some(asks), answers }
    }

    fn psql(&self) -> Command {
        let mut command = Command::new(self.programs.join("psql"));
        command.env("PGPASSWORD", PASSWORD).args(["--no-psqlrc", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]);
        command.args(["--host=127.0.0.1", "--username=quintet", "--dbname=postgres", &format!("--port={}", self.port)]);
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.folder.path());
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// Gives a file to whom the server runs as.
    fn own(&self, path: &Path) {
        if path.is_file() {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        if let Some((user, group)) = self.user {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An open session of psql.
pub(super) struct Session {
    child: Child,
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Session {
    /// The first line of what statements give.
    pub(super) fn ask(&mut self, sql: &str) -> String {
        writeln!(self.asks.as_mut().unwrap(), "{sql}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It ends with its input.
        self.asks = None;
        let _ = self.child.wait();
    }
}

/// The folder of the newest version's programs.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).ok()?.filter_map(|version| Some(version.ok()?.path().join("bin")));
    versions.filter(|programs| programs.join("initdb").is_file() && programs.join("psql").exists()).max()
}

/// Who owns the server's folder: whoever we are, but for root, who needs a servant.
fn servant(folder: &Path) -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    if fs::metadata(folder).unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let user = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut numbers = line.split(':').skip(2).map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    };
    let servant = user("postgres").or_else(|| user("nobody")).unwrap();
    chown(folder, Some(servant.0), Some(servant.1)).unwrap();
    Some(servant)
}
