//! What holds for every service, whatever it serves: held on a ground that each service's own module prepares.

mod deadlines;
mod errors;
pub(super) mod health;
mod limits;
mod outcomes;
mod sameness;

use bytes::Bytes;
use tonic::{Code, Status};

use super::{
    check::{Check, Checked, Verdict, check, ensure, fields, shown},
    target::{Answered, Call, Target},
};

/// What the checks of this module need of a service.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) target: Target,
    /// The service's full name.
    pub(super) service: &'static str,
    /// A small unary call whose answer has the same bytes each time.
    pub(super) ordinary: Call,
    /// Calls of other sizes and seeds, to run beside it.
    pub(super) company: Vec<Call>,
    /// Calls that must be refused.
    pub(super) refusals: Vec<Refusal>,
    /// A call with a name of so many bytes that nobody has, as long as a client may make it.
    pub(super) long_name: Option<Call>,
    /// A call that goes on until its deadline, whatever it is: its messages are sent, and its requests are left open.
    pub(super) endless: Option<Call>,
    /// An answer without what may differ from call to call: timings, and what a cache has saved.
    pub(super) settled: fn(&Call, Bytes) -> Bytes,
}

/// For answers that have neither timings nor counts of caches.
pub(super) fn as_it_is(_: &Call, answer: Bytes) -> Bytes {
    answer
}

/// A call that must be refused, and how.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// The rule that says so.
    pub(super) rule: &'static str,
    pub(super) call: Call,
    pub(super) code: Code,
    /// `ErrorInfo.reason`, where the contract has one.
    pub(super) reason: Option<&'static str>,
    /// The fields that are named, in any order.
    pub(super) fields: Vec<String>,
    /// What the message has in it: values and limits.
    pub(super) says: Vec<String>,
}

impl Refusal {
    /// `INVALID_ARGUMENT` with these fields.
    pub(super) fn invalid(rule: &'static str, call: Call, fields: &[&str]) -> Self {
        let fields = fields.iter().map(ToString::to_string).collect();
        Self { rule, call, code: Code::InvalidArgument, reason: Some("INVALID_REQUEST"), fields, says: Vec::new() }
    }

    /// Another code, with a reason.
    pub(super) fn with(rule: &'static str, call: Call, code: Code, reason: Option<&'static str>) -> Self {
        Self { rule, call, code, reason, fields: Vec::new(), says: Vec::new() }
    }

    /// The message has these in it.
    pub(super) fn saying(mut self, says: &[&str]) -> Self {
        self.says = says.iter().map(ToString::to_string).collect();
        self
    }

    /// Makes the call, whatever it ends with.
    async fn call(&self, target: &Target) -> Answered {
        target.call(&self.call).await
    }

    /// Makes the call and compares. `None`: the target does not have the rpc.
    pub(super) async fn hold(&self, target: &Target) -> Result<Option<Status>, Verdict> {
        use tonic_types::StatusExt;

        let Answered { messages, status } = self.call(target).await;
        if status.code() == Code::Unimplemented {
            return Ok(None);
        }
        let rpc = self.call.rpc();
        ensure!(status.code() == self.code, "{rpc} should end with {:?} {:?}, and ended with {}", self.code, self.fields, shown(&status));
        ensure!(messages.is_empty(), "{rpc} gave {} messages before {}", messages.len(), shown(&status));
        let (mut named, mut expected) = (fields(&status), self.fields.clone());
        named.sort();
        expected.sort();
        ensure!(named == expected, "{rpc} should name the fields {:?}, and said {}", self.fields, shown(&status));
        if let Some(reason) = self.reason {
            let given = status.get_details_error_info().map(|info| info.reason);
            ensure!(given.as_deref() == Some(reason), "{rpc} should have the reason {reason}, and has {given:?}: {}", shown(&status));
        }
        for part in &self.says {
            ensure!(status.message().contains(part.as_str()), "{rpc} should say {part}, and said {}", shown(&status));
        }
        Ok(Some(status))
    }
}

impl Ground {
    /// The refusals of one rule, each as it must be.
    pub(super) async fn refused(&self, rule: &str) -> Checked {
        let mut held = 0;
        for refusal in self.refusals.iter().filter(|refusal| refusal.rule == rule) {
            held += usize::from(refusal.hold(&self.target).await?.is_some());
        }
        if held == 0 {
            return Err(Verdict::skipped("the target has nothing to be asked wrongly for"));
        }
        Ok(())
    }

    /// The answer to a call, without what may differ from one to the next.
    async fn answer(&self, call: &Call) -> Result<Bytes, Verdict> {
        Ok((self.settled)(call, self.target.answer(call).await?))
    }

    /// The answer to the ordinary call.
    async fn ordinary(&self) -> Result<Bytes, Verdict> {
        self.answer(&self.ordinary).await
    }
}

/// The checks, in the contract's order.
pub(super) const CHECKS: &[Check<Ground>] = &[
    check!("O1", "An rpc that is not there ends with UNIMPLEMENTED, and every call with one status.", outcomes::unknown_rpc),
    check!("O2", "A unary call answers with one message, or with an error and none.", outcomes::one_message_or_an_error),
    check!("O4", "A bad request among good ones fails alone.", outcomes::fails_alone),
    check!("E1", "A status has its google.rpc.Status with the same code and message, and an ErrorInfo.", errors::details),
    check!("E2", "INVALID_ARGUMENT names every field that is wrong, in one answer, as a path.", errors::every_field),
    check!("E3", "In a request that is wrapped paths begin within it.", errors::wrapped),
    check!("E4", "A long value is cut: the whole status fits in 8 KiB of headers.", errors::short),
    check!("E5", "Bytes that are no message, and text that is not UTF-8, are INVALID_ARGUMENT.", errors::undecodable),
    check!("E5", "Numbers that no enum value has are INVALID_ARGUMENT.", errors::enumerations),
    check!("E5", "Fields that are not known are passed over.", errors::unknown_fields),
    check!("E6", "Reasons are the contract's: INVALID_REQUEST, UNKNOWN_MODEL and the like.", errors::reasons),
    check!("E7", "After calls with broken messages others are answered as before.", errors::survives),
    check!("L1", "A request of 16 MiB is taken, and a larger one refused.", limits::request_bytes),
    check!("L2", "The numbers of things in one request are as the fields say: one more is refused, as is none.", limits::counts),
    check!("D1", "A call ends at its deadline, by the service's own clock.", deadlines::ends),
    check!("R1", "The same request has the same bytes, alone and beside others.", sameness::alone_and_beside),
    check!("H1", "Health is SERVING for the service's full name, and NOT_FOUND for one that is not there.", health::check),
    check!("H3", "Watch answers at once; for an unknown name with SERVICE_UNKNOWN, and the stream stays.", health::watch),
    check!("H4", "Health needs no key.", health::without_key),
    check!("H5", "Server reflection lists the service.", health::reflection),
];
