//! Deadlines and cancellation, from the client's call through every hop to the graph.

use std::time::Duration;

use quintet_proto::{
    image::v1::{GenerateRequest as ImageRequest, ImageFormat, image_service_client::ImageServiceClient},
    text::v1::{GenerateRequest, GenerateStreamRequest, Sampling, ScoreRequest, Stopping, text_service_client::TextServiceClient},
};
use tonic::{Code, Request};

use crate::harness::{Process, metric};

fn within<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// Whether a call ended at its deadline, by the server's word or by the client's own clock.
fn is_late(status: &tonic::Status) -> bool {
    status.code() == Code::DeadlineExceeded || (status.code() == Code::Cancelled && status.message() == "Timeout expired")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_at_its_deadline_and_so_does_its_work() {
    let process = Process::up(&["--set", "text.slots=1", "--set", "image.max_batch_images=64"]);
    let mut text = TextServiceClient::new(process.channel().await);
    let long = GenerateRequest {
        prompt: "And".into(),
        sampling: Some(Sampling { seed: Some(1), ..Sampling::default() }),
        stopping: Some(Stopping { max_new_tokens: Some(450), ignore_eos: true, ..Stopping::default() }),
        ..GenerateRequest::default()
    };
    let late = text.generate(within(long.clone(), Duration::from_millis(60))).await.unwrap_err();
    assert!(is_late(&late), "{late}");
    // Its only slot is free again: a short text gets it.
    let short = GenerateRequest { stopping: Some(Stopping { max_new_tokens: Some(2), ..Stopping::default() }), ..long.clone() };
    text.generate(short).await.unwrap();
    // A stream that has begun ends at its deadline too.
    let stream = GenerateStreamRequest { request: Some(long) };
    let mut stream = text.generate_stream(within(stream, Duration::from_millis(200))).await.unwrap().into_inner();
    let ended = loop {
        match stream.message().await {
            Ok(Some(_)) => (),
            Ok(None) => panic!("the text was whole before its deadline"),
            Err(status) => break status,
        }
    };
    assert!(is_late(&ended), "{ended}");

    // What waits for a graph is not run once its deadline has passed, and a run for nobody is ended; both are counted.
    let mut images = ImageServiceClient::new(process.channel().await);
    let many = ImageRequest { count: Some(2000), format: ImageFormat::RawU8.into(), ..ImageRequest::default() };
    images.generate(ImageRequest { count: Some(64), ..many.clone() }).await.unwrap();
    let late = images.generate(within(many, Duration::from_millis(30))).await.unwrap_err();
    assert!(is_late(&late), "{late}");
    images.generate(ImageRequest::default()).await.unwrap();
    let page = process.metrics().await;
    assert!(metric(&page, "quintet_batch_reclaimed_requests_total", &["model=\"glyph-gan\""]) > 0.0, "{page}");
    assert!(metric(&page, "quintet_batch_reclaimed_seconds", &["model=\"glyph-gan\""]) > 0.0, "{page}");
}

/// A deadline that has passed already is the same in every service that the call would reach.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_travels_to_the_tokenization_service() {
    let tokenization = Process::start("quintet-tokenization", &["--set", "tokenization.fast_encoder=false"]);
    let endpoint = format!("text.tokenization_endpoint=http://{}", tokenization.address);
    let text = Process::start("quintet-text", &["--set", &endpoint]);
    let mut client = TextServiceClient::new(text.channel().await);
    // Much text: encoding it takes longer than the call may.
    let texts = vec!["In the beginning God created the heaven and the earth. ".repeat(5000); 40];
    let late = client.score(within(ScoreRequest { texts, ..ScoreRequest::default() }, Duration::from_millis(700))).await.unwrap_err();
    assert!(is_late(&late), "{late}");
    // The tokenization service has ended its part as well, with the same code, or has seen its caller go.
    let ended = async {
        loop {
            let page = tokenization.metrics().await;
            let of = |code: &str| metric(&page, "quintet_rpc_requests_total", &["method=\"Encode\"", &format!("code=\"{code}\"")]);
            if of("DEADLINE_EXCEEDED") + of("CANCELLED") > 0.0 {
                return of("OK");
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap(), 0.0);
}
