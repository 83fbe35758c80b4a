use quintet_proto::anomaly::v1::{CalibrateRequest, Model, SampleData, SampleRequest, ScoreRequest};
use tonic::Code;

use super::{MOST, SERVICE, sample, sample_request, score_request, size, stream};
use crate::conformance::{every::Refusal, target::Call};

/// The most values of a sample of which one more than a request may have fits in 16 MiB.
const MOST_VALUES: usize = 512;

/// What an anomaly service must refuse.
pub(super) fn of(model: &Model, samples: &[SampleData]) -> Vec<Refusal> {
    let score = |request: &ScoreRequest| Call::new(SERVICE, "Score", request);
    let (length, one) = (size(model), &samples[..1]);
    let mut infinite = vec![0.0; length];
    infinite[0] = f32::NAN;
    let wrong = [samples[0].clone(), sample(vec![0.0; length + 1]), sample(infinite), SampleData::default()];
    let unnamed = CalibrateRequest {
        model: model.name.clone(),
        name: "No Name".to_owned(),
        normals: samples.to_vec(),
        false_positive_rate: Some(0.75),
        ..CalibrateRequest::default()
    };
    let nobody = || "no-such-model".to_owned();
    let of_nobody = SampleRequest { model: nobody(), model_version: String::new(), ..sample_request(model, 1) };
    let uncalibrated = ScoreRequest { calibration: "no-such-calibration".to_owned(), ..score_request(model, one) };
    let drawn = |count| Call::new(SERVICE, "Sample", &sample_request(model, count));
    let mut refusals = vec![
        Refusal::invalid("E2", score(&score_request(model, &wrong)), &["samples[1].values", "samples[2].values[0]", "samples[3]"]),
        Refusal::invalid("E2", Call::new(SERVICE, "Calibrate", &unnamed), &["name", "false_positive_rate"]).saying(&["0.75", "0.5"]),
        Refusal::invalid("E3", Call::new(SERVICE, "ScoreStream", &stream::first(model, &wrong[1])), &["sample.values"]),
        Refusal::invalid("E5", score(&ScoreRequest { score: 42, ..score_request(model, one) }), &["score"]).saying(&["42"]),
        Refusal::with("E6", Call::new(SERVICE, "Sample", &of_nobody), Code::NotFound, Some("UNKNOWN_MODEL")),
        Refusal::with(
            "E6",
            score(&ScoreRequest { model_version: "no-such-version".to_owned(), ..score_request(model, one) }),
            Code::NotFound,
            Some("UNKNOWN_MODEL_VERSION"),
        ),
        Refusal::with("E6", score(&uncalibrated), Code::NotFound, Some("UNKNOWN_CALIBRATION")),
        Refusal::invalid("L2", score(&score_request(model, &[])), &["samples"]),
        Refusal::invalid("L2", drawn(0), &["count"]),
        Refusal::invalid("L2", drawn(MOST as u32 + 1), &["count"]).saying(&["4097", "4096"]),
    ];
    // Pictures may be too large for as many in one message.
    if length <= MOST_VALUES {
        let many = vec![samples[0].clone(); MOST + 1];
        refusals.push(Refusal::invalid("L2", score(&score_request(model, &many)), &["samples"]).saying(&["4097"]));
    }
    refusals
}
