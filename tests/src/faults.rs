//! What goes wrong around a process: neighbours that die, clients that do not read or never speak.

use std::time::Duration;

use quintet_proto::{
    image::v1::{GenerateRequest as ImageRequest, GenerateStreamRequest as ImageStream, ImageFormat, image_service_client::ImageServiceClient},
    text::v1::{GenerateRequest, Sampling, Stopping, text_service_client::TextServiceClient},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

use crate::harness::{Process, metric, soaks};

fn short() -> GenerateRequest {
    GenerateRequest {
        prompt: "And Moses".into(),
        sampling: Some(Sampling { seed: Some(5), ..Sampling::default() }),
        stopping: Some(Stopping { max_new_tokens: Some(12), ..Stopping::default() }),
        ..GenerateRequest::default()
    }
}

/// A neighbour that is killed is UNAVAILABLE to its callers' callers, and is found again by itself when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_neighbour_is_unavailable_and_is_found_again() {
    let mut tokenization = Process::start("quintet-tokenization", &[]);
    let endpoint = format!("text.tokenization_endpoint=http://{}", tokenization.address);
    let text = Process::start("quintet-text", &["--set", &endpoint]);
    let mut client = TextServiceClient::new(text.channel().await);
    let expected = client.generate(short()).await.unwrap().into_inner().text;
    for _ in 0..if soaks() { 20 } else { 2 } {
        // Calls are under way when it dies.
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let mut client = client.clone();
            callers.spawn(async move {
                loop {
                    if let Err(status) = client.generate(short()).await {
                        return status;
                    }
                }
            });
        }
        let address = tokenization.address.clone();
        tokenization.kill();
        while let Some(status) = callers.join_next().await {
            let status = status.unwrap();
            assert_eq!(status.code(), Code::Unavailable, "{status}");
        }
        tokenization = Process::start("quintet-tokenization", &["--listen", &address]);
        let again = async {
            loop {
                match client.generate(short()).await {
                    Ok(answer) => return answer.into_inner().text,
                    Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
                }
            }
        };
        assert_eq!(tokio::time::timeout(Duration::from_mins(1), again).await.unwrap(), expected);
    }
    assert!(!text.log().contains("panicked"), "{}", text.log());
}

/// A client that opens a stream and does not read holds up neither the server nor others, and what is computed for it is
/// bounded.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_up_nobody() {
    let process = Process::up(&[]);
    let request = ImageRequest { count: Some(4096), seed: Some(1), format: ImageFormat::RawF32.into(), ..ImageRequest::default() };
    let mut slow = ImageServiceClient::new(process.channel().await);
    let mut unread = slow.generate_stream(ImageStream { request: Some(request) }).await.unwrap().into_inner();
    assert!(unread.message().await.unwrap().is_some());
    let mut other = ImageServiceClient::new(process.channel().await);
    for _ in 0..20 {
        other.generate(ImageRequest::default()).await.unwrap();
    }
    let made = metric(&process.metrics().await, "quintet_image_images_total", &[]);
    assert!(made < 1000.0, "{made} images were made for a client that reads none");
    drop(unread);
}

/// Connections that send nothing are closed after a while, and hold up nobody meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_send_nothing_are_closed() {
    let process = Process::start("quintet-tokenization", &["--set", "server.handshake_seconds=2", "--set", "server.max_connections=3000"]);
    let mut idle = Vec::new();
    for index in 0..2000 {
        let mut stream = TcpStream::connect(&process.address).await.unwrap();
        // Some begin to speak and go no further.
        if index % 2 == 1 {
            stream.write_all(b"P").await.unwrap();
        }
        idle.push(stream);
    }
    // Somebody who speaks is served.
    assert!(process.get("/healthz").await.starts_with("HTTP/1.1 200"));
    let mut closed = 0;
    for mut stream in idle {
        let mut bytes = Vec::new();
        let end = tokio::time::timeout(Duration::from_mins(1), stream.read_to_end(&mut bytes)).await;
        assert!(end.is_ok(), "a silent connection is still open");
        closed += 1;
    }
    assert_eq!(closed, 2000);
    assert!(process.get("/healthz").await.starts_with("HTTP/1.1 200"));
}
