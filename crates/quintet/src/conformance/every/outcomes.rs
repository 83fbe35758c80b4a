use futures_util::future::join_all;
use tonic::Code;

use super::Ground;
use crate::conformance::{
    check::{Checked, ensure, shown},
    target::Call,
};

pub(super) async fn unknown_rpc(ground: &Ground) -> Checked {
    let answered = ground.target.call(&Call::raw(ground.service, "NoSuchRpc", "")).await;
    ensure!(answered.status.code() == Code::Unimplemented, "an unknown rpc ended with {}", shown(&answered.status));
    ensure!(answered.messages.is_empty(), "an unknown rpc gave {} messages", answered.messages.len());
    Ok(())
}

pub(super) async fn one_message_or_an_error(ground: &Ground) -> Checked {
    let answered = ground.target.call(&ground.ordinary).await;
    ensure!(answered.status.code() == Code::Ok, "{} ended with {}", ground.ordinary.rpc(), shown(&answered.status));
    ensure!(answered.messages.len() == 1, "{} gave {} messages", ground.ordinary.rpc(), answered.messages.len());
    for refusal in &ground.refusals {
        let answered = refusal.call(&ground.target).await;
        let (count, rpc, is_unary) = (answered.messages.len(), refusal.call.rpc(), !refusal.call.rpc().contains("Stream"));
        let is_error = answered.status.code() != Code::Ok;
        ensure!(!is_error || count == 0, "{rpc} gave {count} messages, and {}", shown(&answered.status));
        ensure!(is_error || !is_unary || count == 1, "{rpc} gave {count} messages, and OK");
    }
    Ok(())
}

/// Good and bad at once: the good ones' answers are those that they have alone.
pub(super) async fn fails_alone(ground: &Ground) -> Checked {
    let alone = ground.ordinary().await?;
    let refusals = ground.refusals.iter().take(8);
    let bad = join_all(refusals.map(|refusal| refusal.call(&ground.target)));
    let good = join_all((0..8).map(|_| ground.ordinary()));
    let (_, good) = tokio::join!(bad, good);
    for answer in good {
        ensure!(answer? == alone, "{} has another answer beside requests that are refused", ground.ordinary.rpc());
    }
    Ok(())
}
