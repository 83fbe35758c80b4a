//! A web server on this machine that can misbehave.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// What was asked for.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: BTreeMap<String, String>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What is answered.
pub(super) enum Reply {
    /// A file, or the part of it that was asked for.
    File(Vec<u8>),
    /// A file, whatever part was asked for.
    Whole(Vec<u8>),
    /// A file, or the part of it that was asked for, of which so many bytes are sent before the connection is closed.
    Cut(Vec<u8>, usize),
    /// The same, but the connection stays open.
    Stall(Vec<u8>, usize),
    /// Nothing, ever.
    Hang,
    /// A status without a body.
    Status(u16),
    /// Another address.
    Redirect(String),
}

/// A server. Its threads end with the process.
pub(super) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(super) fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, handler) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::new(handler));
        let log = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, log, handler) = (stream.unwrap(), log.clone(), handler.clone());
                std::thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    log.lock().unwrap().push(request.clone());
                    // The client may have gone.
                    let _ = answer(stream, &request, handler(&request));
                });
            }
        });
        Self { address, seen }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All requests so far whose path ends so.
    pub(super) fn seen(&self, end: &str) -> Vec<Request> {
        self.seen.lock().unwrap().iter().filter(|request| request.path.ends_with(end)).cloned().collect()
    }

    /// The Range headers of the requests whose path ends so.
    pub(super) fn ranges(&self, end: &str) -> Vec<Option<String>> {
        self.seen(end).iter().map(|request| request.header("range").map(ToOwned::to_owned)).collect()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let target = first.split(' ').nth(1)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = lines.take_while(|line| !line.is_empty());
    let headers = headers.filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))).collect();
    Some(Request { path: path.to_owned(), query: query.to_owned(), headers })
}

fn answer(mut stream: TcpStream, request: &Request, reply: Reply) -> std::io::Result<()> {
    let from = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let mut send = |content: &[u8], from: Option<usize>, limit: usize| {
        let (status, range) = match from {
            Some(from) if from >= content.len() => return write!(stream, "HTTP/1.1 416 Q\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
            Some(from) => (206, format!("Content-Range: bytes {from}-{}/{}\r\n", content.len() - 1, content.len())),
            None => (200, String::new()),
        };
        let part = &content[from.unwrap_or(0)..];
        let head = format!("HTTP/1.1 {status} OK\r\nContent-Length: {}\r\n{range}ETag: \"e\"\r\nConnection: close\r\n\r\n", part.len());
        stream.write_all(head.as_bytes())?;
        stream.write_all(&part[..limit.min(part.len())])?;
        stream.flush()
    };
    match reply {
        Reply::File(content) => send(&content, from, usize::MAX),
        Reply::Whole(content) => send(&content, None, usize::MAX),
        Reply::Cut(content, limit) => send(&content, from, limit),
        Reply::Stall(content, limit) => {
            send(&content, from, limit)?;
            std::mem::forget(stream);
            Ok(())
        }
        Reply::Hang => {
            std::mem::forget(stream);
            Ok(())
        }
        Reply::Status(status) => write!(stream, "HTTP/1.1 {status} S\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        Reply::Redirect(to) => write!(stream, "HTTP/1.1 302 F\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    }
}
