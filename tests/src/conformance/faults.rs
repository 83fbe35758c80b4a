use bytes::Bytes;
use prost::Message;
use quintet_proto::{
    anomaly::v1 as anomaly,
    evaluation::v1::{self as evaluation, EvaluationState},
    image::v1 as image,
    text::v1 as text,
    tokenization::v1::{self as tokenization, SpecialTokenPolicy},
};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckResponse, health_check_response::ServingStatus};

use super::{
    kit,
    proxy::{Proxy, Spoil, each, edited},
};
use crate::harness::Process;

/// One thing that an implementation does wrong.
struct Fault {
    what: &'static str,
    /// The rpc that does it; empty = every one.
    rpc: &'static str,
    spoil: Spoil,
    /// The rules that it breaks.
    breaks: &'static [&'static str],
}

/// Each fault breaks the rules that it must, and those of `control` hold beside it.
async fn hold(service: &str, control: &[&str], faults: Vec<Fault>) {
    let process = Process::up(&[]);
    for Fault { what, rpc, spoil, breaks } in faults {
        let proxy = Proxy::start(process.channel().await, rpc, spoil).await;
        let mut arguments = vec!["--service", service, "--timeout", "20"];
        for rule in control.iter().chain(breaks) {
            arguments.extend(["--only", rule]);
        }
        let (output, outcomes) = kit(&proxy.address, &arguments).await;
        let failed: Vec<&str> = outcomes.iter().filter(|(_, outcome)| *outcome == "failed").map(|(rule, _)| rule.as_str()).collect();
        let mut expected = breaks.to_vec();
        expected.sort_unstable();
        assert_eq!(failed, expected, "{what}: {}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(output.status.code(), Some(1), "{what}");
    }
}

/// The same status with other details.
fn with_details(status: &Status, change: impl FnOnce(&mut tonic_types::pb::Status)) -> Status {
    let mut details = tonic_types::pb::Status::decode(status.details()).unwrap();
    change(&mut details);
    Status::with_details(status.code(), status.message(), details.encode_to_vec().into())
}

/// The same status with another code, in its details too.
fn with_code(status: Status, code: Code) -> Status {
    if status.code() == Code::Ok || status.details().is_empty() {
        return status;
    }
    let mut details = tonic_types::pb::Status::decode(status.details()).unwrap();
    details.code = code as i32;
    Status::with_details(code, status.message(), details.encode_to_vec().into())
}

#[allow(clippy::too_many_lines, reason = "a list of faults")]
#[tokio::test(flavor = "multi_thread")]
async fn a_spoilt_tokenization_service_fails() {
    let faults = vec![
        Fault {
            what: "the status has no details",
            rpc: "/Encode",
            spoil: Spoil::Answer(|messages, status| (messages, Status::new(status.code(), status.message()))),
            breaks: &["E1", "E2", "L2"],
        },
        Fault {
            what: "the details have another message than the status",
            rpc: "/Encode",
            spoil: Spoil::Answer(|messages, status| {
                let is_plain = status.code() == Code::Ok || status.details().is_empty();
                (messages, if is_plain { status } else { with_details(&status, |details| details.message.push('!')) })
            }),
            breaks: &["E1"],
        },
        Fault {
            what: "another code for what is not there",
            rpc: "/GetTokenizer",
            spoil: Spoil::Answer(|messages, status| (messages, with_code(status, Code::InvalidArgument))),
            breaks: &["E6"],
        },
        Fault {
            what: "an oversized batch is let through",
            rpc: "/Encode",
            spoil: Spoil::Request(|request| edited(request, |request: &mut tokenization::EncodeRequest| request.inputs.truncate(4096))),
            breaks: &["L2"],
        },
        Fault {
            what: "other bytes beside others",
            rpc: "/Encode",
            spoil: Spoil::AnswerInCompany(|messages, status| {
                each((messages, status), |answer: &mut tokenization::EncodeResponse| {
                    answer.encodings.iter_mut().for_each(|encoding| encoding.ids.reverse());
                })
            }),
            breaks: &["O4", "R1"],
        },
        Fault {
            what: "two answers of a stream in the other's place",
            rpc: "/EncodeStream",
            spoil: Spoil::Answer(|mut messages, status| {
                if messages.len() > 2 {
                    messages.swap(0, 1);
                }
                (messages, status)
            }),
            breaks: &["R4"],
        },
        Fault {
            what: "the last message of a stream comes twice",
            rpc: "/DecodeStream",
            spoil: Spoil::Answer(|mut messages, status| {
                messages.extend(messages.last().cloned().filter(|_| status.code() == Code::Ok));
                (messages, status)
            }),
            breaks: &["K2", "S5"],
        },
        Fault {
            what: "special tokens that users spell are tokens",
            rpc: "/Encode",
            spoil: Spoil::Request(|request| {
                edited(request, |request: &mut tokenization::EncodeRequest| {
                    if request.special_tokens == 0 && request.allowed_special_token.is_empty() {
                        request.special_tokens = SpecialTokenPolicy::Allow.into();
                    }
                })
            }),
            breaks: &["K4"],
        },
        Fault {
            what: "counts are off by one",
            rpc: "/CountTokens",
            spoil: Spoil::Answer(|messages, status| {
                each((messages, status), |answer: &mut tokenization::CountTokensResponse| answer.counts.iter_mut().for_each(|count| *count += 1))
            }),
            breaks: &["K8"],
        },
        Fault {
            what: "the vocabulary has two ids in each other's place",
            rpc: "/GetVocabulary",
            spoil: Spoil::Answer(|messages, status| {
                each((messages, status), |part: &mut tokenization::GetVocabularyResponse| {
                    if part.entries.len() > 8 {
                        part.entries.swap(5, 6);
                    }
                })
            }),
            breaks: &["K3"],
        },
        Fault {
            what: "ids that are not there are passed over",
            rpc: "/Decode",
            spoil: Spoil::Request(|request| {
                edited(request, |request: &mut tokenization::DecodeRequest| {
                    request.sequences.iter_mut().for_each(|sequence| sequence.ids.retain(|id| *id < 8192));
                })
            }),
            breaks: &["K10"],
        },
        Fault {
            what: "offsets in characters are those in bytes",
            rpc: "/Encode",
            spoil: Spoil::Answer(|messages, status| {
                each((messages, status), |answer: &mut tokenization::EncodeResponse| {
                    answer.encodings.iter_mut().for_each(|encoding| encoding.char_offsets = encoding.byte_offsets.clone());
                })
            }),
            breaks: &["K6"],
        },
        Fault { what: "what lasts is not ended at its deadline", rpc: "/DecodeStream", spoil: Spoil::Deadline, breaks: &["D1"] },
        Fault {
            what: "undecodable bytes are a fault of the service's own",
            rpc: "",
            spoil: Spoil::Answer(|messages, status| {
                let is_transport = status.code() == Code::InvalidArgument && status.details().is_empty();
                (messages, if is_transport { Status::internal("undecodable") } else { status })
            }),
            breaks: &["E5", "E7"],
        },
    ];
    hold("tokenization", &["O2", "N1", "K9"], faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spoilt_health_fails() {
    let faults = vec![
        Fault {
            what: "what is not there serves",
            rpc: "/grpc.health.v1.Health/Check",
            spoil: Spoil::Answer(|messages, status| {
                if status.code() != Code::NotFound {
                    return (messages, status);
                }
                let serving = HealthCheckResponse { status: ServingStatus::Serving.into() };
                (vec![serving.encode_to_vec().into()], Status::ok(""))
            }),
            breaks: &["H1"],
        },
        Fault {
            what: "whatever is watched, the whole process is",
            rpc: "/grpc.health.v1.Health/Watch",
            spoil: Spoil::Request(|_| Bytes::new()),
            breaks: &["H3"],
        },
        Fault {
            what: "reflection lists nothing",
            rpc: "/ServerReflectionInfo",
            spoil: Spoil::Answer(|_, status| (Vec::new(), status)),
            breaks: &["H5"],
        },
    ];
    hold("anomaly", &["O1", "A1"], faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoilt_text_service_fails() {
    let faults = vec![
        Fault {
            what: "a stream's last message comes twice",
            rpc: "/GenerateStream",
            spoil: Spoil::Answer(|mut messages, status| {
                messages.extend(messages.last().cloned().filter(|_| status.code() == Code::Ok));
                (messages, status)
            }),
            breaks: &["X1"],
        },
        Fault {
            what: "stop strings are passed over",
            rpc: "/Generate",
            spoil: Spoil::Request(|request| {
                edited(request, |request: &mut text::GenerateRequest| request.stopping.iter_mut().for_each(|stopping| stopping.stop.clear()))
            }),
            // The refusals of stop strings go with it.
            breaks: &["E2", "X2"],
        },
        Fault {
            what: "guides are passed over",
            rpc: "/Generate",
            spoil: Spoil::Request(|request| edited(request, |request: &mut text::GenerateRequest| request.guide = None)),
            breaks: &["X5"],
        },
        Fault {
            what: "the seed that is named is not the one that was drawn",
            rpc: "/Generate",
            spoil: Spoil::Answer(|messages, status| each((messages, status), |answer: &mut text::GenerateResponse| answer.seed ^= 1)),
            breaks: &["R2"],
        },
        Fault {
            what: "tokens are counted of the first text alone",
            rpc: "/Generate",
            spoil: Spoil::Answer(|messages, status| {
                each((messages, status), |answer: &mut text::GenerateResponse| {
                    let texts = 1 + answer.alternatives.len() as u32;
                    answer.usage.iter_mut().for_each(|usage| usage.completion_tokens /= texts);
                })
            }),
            breaks: &["X3"],
        },
        Fault {
            what: "log_likelihood is a mean",
            rpc: "/Score",
            spoil: Spoil::Answer(|messages, status| {
                each((messages, status), |answer: &mut text::ScoreResponse| {
                    answer.scores.iter_mut().for_each(|score| score.log_likelihood /= f64::from(score.tokens));
                })
            }),
            breaks: &["X6"],
        },
        Fault {
            what: "vectors are not of length 1",
            rpc: "/Embed",
            spoil: Spoil::Request(|request| edited(request, |request: &mut text::EmbedRequest| request.normalize = request.normalize.map(|_| false))),
            breaks: &["X7"],
        },
        Fault {
            what: "a model of another kind is a bad request",
            rpc: "/Embed",
            spoil: Spoil::Answer(|messages, status| {
                let is_kind = status.code() == Code::FailedPrecondition;
                (messages, if is_kind { with_code(status, Code::InvalidArgument) } else { status })
            }),
            breaks: &["X9"],
        },
        // The last one: what goes on keeps the process busy.
        Fault { what: "calls that are cancelled go on", rpc: "/GenerateStream", spoil: Spoil::Cancellation, breaks: &["D2"] },
    ];
    hold("text", &["O2", "H1"], faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoilt_image_service_fails() {
    let faults = vec![
        Fault {
            what: "a streamed image has one byte changed",
            rpc: "/GenerateStream",
            spoil: Spoil::Answer(|messages, status| {
                each((messages, status), |answer: &mut image::GenerateStreamResponse| {
                    if let Some(image) = answer.image.as_mut().filter(|image| image.index == 2) {
                        let mut data = image.data.to_vec();
                        data[0] ^= 1;
                        image.data = data.into();
                    }
                })
            }),
            breaks: &["I1"],
        },
        Fault {
            what: "every image is a PNG",
            rpc: "/Generate",
            spoil: Spoil::Request(|request| {
                edited(request, |request: &mut image::GenerateRequest| request.format = if request.format > 5 { request.format } else { 1 })
            }),
            breaks: &["I1", "I2"],
        },
        Fault {
            what: "images depend on how many there are",
            rpc: "/Generate",
            spoil: Spoil::Request(|request| {
                edited(request, |request: &mut image::GenerateRequest| request.seed = request.seed.map(|seed| seed + u64::from(request.count())))
            }),
            breaks: &["I1", "R3"],
        },
        Fault {
            what: "classes that are not there are passed over",
            rpc: "/Generate",
            spoil: Spoil::Request(|request| {
                edited(request, |request: &mut image::GenerateRequest| {
                    request.classes.iter_mut().for_each(|classes| classes.names.retain(|name| name.len() < 3));
                })
            }),
            breaks: &["I3"],
        },
        Fault {
            what: "answers do not name the version",
            rpc: "/Generate",
            spoil: Spoil::Answer(|messages, status| each((messages, status), |answer: &mut image::GenerateResponse| answer.model_version.clear())),
            breaks: &["I1", "N1", "N2"],
        },
    ];
    hold("image", &["O2", "H1"], faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoilt_anomaly_service_fails() {
    let faults = vec![
        Fault {
            what: "what is normal is called anomalous",
            rpc: "/Score",
            spoil: Spoil::Answer(|messages, status| {
                each((messages, status), |answer: &mut anomaly::ScoreResponse| {
                    answer.scores.iter_mut().for_each(|score| score.is_anomaly = !score.is_anomaly);
                })
            }),
            breaks: &["A1", "A2"],
        },
        Fault {
            what: "shares add up to 100",
            rpc: "/Explain",
            spoil: Spoil::Answer(|messages, status| {
                each((messages, status), |answer: &mut anomaly::ExplainResponse| answer.shares.iter_mut().for_each(|share| *share *= 100.0))
            }),
            breaks: &["A3"],
        },
        Fault {
            what: "a calibration is kept by another name",
            rpc: "/Calibrate",
            spoil: Spoil::Request(|request| {
                edited(request, |request: &mut anomaly::CalibrateRequest| {
                    if request.name == "conformance-kit" {
                        request.name = "elsewhere".into();
                    }
                })
            }),
            breaks: &["A4"],
        },
        Fault {
            what: "a refused calibration is made all the same",
            rpc: "/ListCalibrations",
            spoil: Spoil::Answer(|messages, status| {
                // Each listing has one more, whatever was refused.
                static LISTED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
                let count = LISTED.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                each((messages, status), |answer: &mut anomaly::ListCalibrationsResponse| {
                    answer.calibrations.iter_mut().for_each(|calibration| calibration.normals += count);
                })
            }),
            breaks: &["O5"],
        },
        Fault {
            what: "a stream's index begins with 1",
            rpc: "/ScoreStream",
            spoil: Spoil::Answer(|messages, status| each((messages, status), |answer: &mut anomaly::ScoreStreamResponse| answer.index += 1)),
            breaks: &["A2"],
        },
        Fault {
            what: "a later message may set the model",
            rpc: "/ScoreStream",
            spoil: Spoil::Request(|request| edited(request, |request: &mut anomaly::ScoreStreamRequest| request.model.clear())),
            breaks: &["S2"],
        },
    ];
    hold("anomaly", &["O2", "N3"], faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoilt_evaluation_service_fails() {
    let faults = vec![
        Fault {
            what: "a watcher sees the end twice",
            rpc: "/WatchEvaluation",
            spoil: Spoil::Answer(|mut messages, status| {
                messages.extend(messages.last().cloned().filter(|_| status.code() == Code::Ok));
                (messages, status)
            }),
            breaks: &["V3"],
        },
        Fault {
            what: "a job that has ended is queued again",
            rpc: "/WatchEvaluation",
            spoil: Spoil::Answer(|mut messages, status| {
                if let Some(last) = messages.last().cloned() {
                    messages.push(edited(last, |answer: &mut evaluation::WatchEvaluationResponse| {
                        answer.evaluation.iter_mut().for_each(|evaluation| evaluation.state = EvaluationState::Queued.into());
                    }));
                }
                (messages, status)
            }),
            breaks: &["V2", "V3"],
        },
        Fault {
            what: "the defaults are not filled in",
            rpc: "/CreateEvaluation",
            spoil: Spoil::Answer(|messages, status| {
                each((messages, status), |answer: &mut evaluation::CreateEvaluationResponse| {
                    answer
                        .evaluation
                        .iter_mut()
                        .flat_map(|evaluation| &mut evaluation.request)
                        .for_each(|request| request.bootstrap_resamples = None);
                })
            }),
            breaks: &["V1"],
        },
        Fault {
            what: "an evaluation has another value each time",
            rpc: "/WatchEvaluation",
            spoil: Spoil::Answer(|messages, status| {
                static WATCHED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
                let count = WATCHED.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                each((messages, status), |answer: &mut evaluation::WatchEvaluationResponse| {
                    let metrics = answer.evaluation.iter_mut().flat_map(|evaluation| &mut evaluation.metrics);
                    metrics.for_each(|metric| metric.value += f64::from(count));
                })
            }),
            breaks: &["V6"],
        },
        Fault {
            what: "pages repeat",
            rpc: "/ListEvaluations",
            spoil: Spoil::Request(|request| {
                edited(request, |request: &mut evaluation::ListEvaluationsRequest| {
                    if request.page_token.bytes().all(|byte| byte.is_ascii_digit()) {
                        request.page_token.clear();
                    }
                })
            }),
            breaks: &["V5"],
        },
    ];
    hold("evaluation", &["O2", "N3"], faults).await;
}
