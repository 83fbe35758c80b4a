//! Bytes that are no message of their type, text that is not UTF-8 among them. The protocol's library answers them with
//! INTERNAL, as if the fault were the server's; it is the client's, who is told the field.

use http::{HeaderMap, HeaderValue};
use tonic::Code;

const STATUS: &str = "grpc-status";

/// How the library's message begins, as it stands in a header.
const BEGINS: &[u8] = b"failed%20to%20decode%20Protobuf%20message";

/// Turns the library's status for undecodable bytes into `INVALID_ARGUMENT`, in headers or trailers.
pub(super) fn blame_the_client(headers: &mut HeaderMap) {
    let is = |name, holds: &dyn Fn(&[u8]) -> bool| headers.get(name).is_some_and(|value: &HeaderValue| holds(value.as_bytes()));
    if is(STATUS, &|code| Code::from_bytes(code) == Code::Internal) && is("grpc-message", &|message| message.starts_with(BEGINS)) {
        headers.insert(STATUS, HeaderValue::from(Code::InvalidArgument as u16));
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    fn answered(status: &Status) -> Code {
        let mut headers = status.clone().into_http::<()>().headers().clone();
        blame_the_client(&mut headers);
        Status::from_header_map(&headers).unwrap().code()
    }

    #[test]
    fn only_the_librarys_own_words_are_turned() {
        let undecodable = <String as prost::Message>::decode(&b"\x0a\x01\xff"[..]).unwrap_err();
        assert_eq!(answered(&Status::internal(undecodable.to_string())), Code::InvalidArgument);
        assert_eq!(answered(&Status::internal("a fault of our own")), Code::Internal);
        assert_eq!(answered(&Status::unavailable(undecodable.to_string())), Code::Unavailable);
    }
}
