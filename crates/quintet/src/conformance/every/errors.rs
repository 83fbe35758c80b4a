use prost::Message;
use tonic::Code;
use tonic_types::StatusExt;

use super::Ground;
use crate::conformance::{
    check::{Checked, Verdict, ensure, shown},
    service::rpcs,
    target::Call,
};

/// What the headers of a status may take.
const MOST_HEADER_BYTES: usize = 8 << 10;

/// Bytes that no message begins with: a wire type that is not one, and a length that lies.
const BROKEN: [&[u8]; 2] = [&[0x0f], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]];

pub(super) async fn details(ground: &Ground) -> Checked {
    for refusal in &ground.refusals {
        let status = refusal.call(&ground.target).await.status;
        if matches!(status.code(), Code::Ok | Code::Unimplemented) {
            continue;
        }
        let rpc = refusal.call.rpc();
        let packed = tonic_types::Status::decode(status.details()).ok().filter(|_| !status.details().is_empty());
        let Some(packed) = packed else { return Err(Verdict::failed(format!("{rpc} has no google.rpc.Status beside {}", shown(&status)))) };
        ensure!(packed.code == status.code() as i32, "{rpc} ended with {}, and its details say code {}", shown(&status), packed.code);
        ensure!(packed.message == status.message(), "{rpc} ended with {}, and its details say {:?}", shown(&status), packed.message);
        let Some(info) = status.get_details_error_info() else {
            return Err(Verdict::failed(format!("{rpc} has no ErrorInfo beside {}", shown(&status))));
        };
        let is_upper = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        let is_reason = info.reason.starts_with(|first: char| first.is_ascii_uppercase()) && info.reason.bytes().all(is_upper);
        ensure!(is_reason, "{rpc} has the reason {:?}, which is not in UPPER_SNAKE_CASE", info.reason);
        ensure!(!info.domain.is_empty(), "{rpc} has an ErrorInfo without a domain: {}", shown(&status));
    }
    Ok(())
}

pub(super) async fn every_field(ground: &Ground) -> Checked {
    ground.refused("E2").await
}

pub(super) async fn wrapped(ground: &Ground) -> Checked {
    ground.refused("E3").await
}

pub(super) async fn enumerations(ground: &Ground) -> Checked {
    ground.refused("E5").await
}

pub(super) async fn reasons(ground: &Ground) -> Checked {
    for refusal in ground.refusals.iter().filter(|refusal| refusal.code == Code::InvalidArgument) {
        let status = refusal.call(&ground.target).await.status;
        if status.code() != Code::InvalidArgument {
            continue;
        }
        let reason = status.get_details_error_info().map(|info| info.reason);
        ensure!(reason.as_deref() == Some("INVALID_REQUEST"), "{} has the reason {reason:?}: {}", refusal.call.rpc(), shown(&status));
    }
    ground.refused("E6").await
}

/// A value that is as long as the request: what is said of it is not.
pub(super) async fn short(ground: &Ground) -> Checked {
    let Some(call) = &ground.long_name else { return Err(Verdict::skipped("the service takes no name")) };
    let status = ground.target.call(call).await.status;
    ensure!(
        matches!(status.code(), Code::NotFound | Code::InvalidArgument),
        "{} with a name of {} bytes ended with {}",
        call.rpc(),
        call.len(),
        shown(&status)
    );
    let message: usize = status.message().bytes().map(|byte| if byte.is_ascii_graphic() || byte == b' ' { 1 } else { 3 }).sum();
    let details = status.details().len().div_ceil(3) * 4;
    ensure!(message + details <= MOST_HEADER_BYTES, "{} ended with a message of {message} bytes and details of {details}", call.rpc());
    Ok(())
}

pub(super) async fn undecodable(ground: &Ground) -> Checked {
    for rpc in rpcs(ground.service) {
        let not_utf8 = rpc.text_field.map(|number| {
            let mut message = Vec::new();
            prost::encoding::bytes::encode(number, &vec![b'a', 0xff, 0xfe], &mut message);
            message
        });
        for message in BROKEN.map(<[u8]>::to_vec).into_iter().chain(not_utf8) {
            let status = ground.target.call(&Call::raw(ground.service, &rpc.name, message.clone())).await.status;
            let is_refused = matches!(status.code(), Code::InvalidArgument | Code::Unimplemented);
            ensure!(is_refused, "{} with the bytes {message:02x?} ended with {}", rpc.name, shown(&status));
        }
    }
    Ok(())
}

pub(super) async fn unknown_fields(ground: &Ground) -> Checked {
    let (known, more) = (ground.ordinary().await?, ground.answer(&ground.ordinary.with_unknown_field(64)).await?);
    ensure!(known == more, "{} has another answer with a field that is not known", ground.ordinary.rpc());
    Ok(())
}

/// Many broken messages at once, to every rpc; then the ordinary call again.
pub(super) async fn survives(ground: &Ground) -> Checked {
    let before = ground.ordinary().await?;
    let calls: Vec<Call> =
        rpcs(ground.service).iter().flat_map(|rpc| (0..16u8).map(move |round| Call::raw(ground.service, &rpc.name, garbage(round)))).collect();
    for answered in futures_util::future::join_all(calls.iter().map(|call| ground.target.call(call))).await {
        let is_fault = matches!(answered.status.code(), Code::Internal | Code::Unknown | Code::DataLoss | Code::Unavailable);
        ensure!(!is_fault, "a broken message ended with {}", shown(&answered.status));
    }
    ensure!(ground.ordinary().await? == before, "{} has another answer after broken messages", ground.ordinary.rpc());
    Ok(())
}

/// Bytes that look like a message at first and then are none, the same in every run.
fn garbage(round: u8) -> Vec<u8> {
    let mut state = u32::from(round) + 1;
    let mut drawn = std::iter::repeat_with(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let mut bytes: Vec<u8> = [0x0a, 1, b'x'].into_iter().chain(drawn.by_ref().take(usize::from(round) * 16)).collect();
    bytes.extend_from_slice(BROKEN[1]);
    bytes
}
