use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Uri;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tonic::{Code, Request, Status, body::Body, client::Grpc};

use super::Ground;
use crate::conformance::{
    check::{Checked, Verdict, shown},
    target::{PATIENCE, Raw},
};

const DEADLINE: Duration = Duration::from_millis(200);

/// Calls with `grpc-timeout` through a client that keeps no clock of its own: the end that comes is the service's.
pub(super) async fn ends(ground: &Ground) -> Checked {
    let Some(call) = &ground.endless else { return Err(Verdict::skipped("the target has no call that lasts")) };
    let Some(address) = ground.target.plain_address() else {
        return Err(Verdict::skipped("over TLS the kit's client keeps the deadline itself"));
    };
    let origin: Uri = format!("http://{address}").parse().map_err(|_| Verdict::failed(format!("{address} is no address")))?;
    let transport = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Body>();
    let mut client = Grpc::with_origin(transport, origin);
    let path = call.path().parse().map_err(|_| Verdict::failed(format!("{} is no path", call.path())))?;
    // The requests are left open: only the deadline ends the call.
    let messages = stream::iter(call.messages().to_vec()).chain(stream::pending::<Bytes>());
    let mut request = Request::new(messages);
    request
        .metadata_mut()
        .insert("grpc-timeout", format!("{}m", DEADLINE.as_millis()).parse().map_err(|_| Verdict::failed("the deadline is no header"))?);
    if let Some(bearer) = ground.target.bearer().and_then(|bearer| bearer.parse().ok()) {
        request.metadata_mut().insert("authorization", bearer);
    }
    let begun = Instant::now();
    let ended = async {
        let mut answers = client.streaming(request, path, Raw).await?.into_inner();
        while let Some(answer) = answers.next().await {
            answer?;
        }
        Ok::<_, Status>(())
    };
    let Ok(ended) = tokio::time::timeout(DEADLINE + PATIENCE, ended).await else {
        return Err(Verdict::failed(format!("{} with a deadline of {DEADLINE:?} goes on {:?} after it", call.rpc(), PATIENCE)));
    };
    match ended {
        // A server may end the call with a reset in place of a status.
        Err(status) if matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) => Ok(()),
        Err(status) => Err(Verdict::failed(format!("{} ended at its deadline with {}", call.rpc(), shown(&status)))),
        Ok(()) if begun.elapsed() < DEADLINE => Err(Verdict::skipped(format!("{} was whole before its deadline", call.rpc()))),
        Ok(()) => Err(Verdict::failed(format!("{} ended after its deadline with OK", call.rpc()))),
    }
}
