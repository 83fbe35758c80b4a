use futures_util::future::join_all;

use super::Ground;
use crate::conformance::check::{Checked, ensure};

/// How often the call is made beside others.
const BESIDE: usize = 6;

/// Byte by byte: alone, and in the midst of others.
pub(super) async fn alone_and_beside(ground: &Ground) -> Checked {
    let calls: Vec<_> = std::iter::once(&ground.ordinary).chain(&ground.company).collect();
    let mut alone = Vec::new();
    for call in &calls {
        alone.push(ground.answer(call).await?);
    }
    let crowd = join_all((0..BESIDE).flat_map(|_| calls.iter().map(|call| ground.answer(call)))).await;
    for (index, answer) in crowd.into_iter().enumerate() {
        let which = index % calls.len();
        ensure!(answer? == alone[which], "{} number {which} has other bytes beside others than alone", calls[which].rpc());
    }
    Ok(())
}
