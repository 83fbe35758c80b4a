use tonic::Code;

use super::Ground;
use crate::conformance::{
    check::{Checked, Verdict, ensure, shown},
    target::Answered,
};

const MOST_REQUEST_BYTES: usize = 16 << 20;

/// The ordinary call, filled up with a field that nobody knows.
pub(super) async fn request_bytes(ground: &Ground) -> Checked {
    let ordinary = ground.ordinary().await?;
    let larger = ground.ordinary.with_unknown_field(MOST_REQUEST_BYTES);
    let Answered { status, .. } = ground.target.call(&larger).await;
    // Libraries of gRPC that look at the size before the service does say RESOURCE_EXHAUSTED.
    let is_refused = matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted);
    ensure!(is_refused, "a request of {} bytes ended with {}", larger.len(), shown(&status));
    let largest = ground.ordinary.with_unknown_field(MOST_REQUEST_BYTES - ground.ordinary.len() - 16);
    let Answered { messages, status } = ground.target.call(&largest).await;
    if matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted) && status.message().bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(Verdict::skipped(format!("the target is configured to take less: {}", shown(&status))));
    }
    ensure!(status.code() == Code::Ok, "a request of {} bytes ended with {}", largest.len(), shown(&status));
    let messages: Vec<_> = messages.into_iter().map(|message| (ground.settled)(&largest, message)).collect();
    ensure!(messages == [ordinary], "a request of {} bytes has another answer", largest.len());
    Ok(())
}

pub(super) async fn counts(ground: &Ground) -> Checked {
    ground.refused("L2").await
}
