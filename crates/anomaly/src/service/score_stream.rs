use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use quintet_onnx::Loaded;
use quintet_proto::anomaly::v1::{ScoreStreamRequest, ScoreStreamResponse};
use quintet_serving::error::status;
use tonic::{Status, Streaming};

use super::{AnomalyService, ask, kind, samples, score::message};
use crate::{
    Error,
    engine::{Vae, calibration::Calibration, score::ScoreKind},
};

/// Samples of one stream that are in work at once: enough to be batched, few enough that a client that does not
/// read its answers stops being read from.
const IN_WORK: usize = 64;

/// What the first message settled.
#[derive(Clone, Debug)]
struct Settled {
    /// The version that the stream begins with is the one that it ends with.
    model: Arc<Loaded<Vae>>,
    kind: ScoreKind,
    calibration: Arc<Calibration>,
}

impl AnomalyService {
    /// One answer for each message, in order. The first error ends the stream.
    pub(super) fn score_pieces(self, messages: Streaming<ScoreStreamRequest>) -> impl Stream<Item = Result<ScoreStreamResponse, Status>> + Send {
        let service = self;
        // Settles each message's sample in order; what is left to do for it can then run beside its neighbours.
        let settled = stream::unfold(Some((messages, None, 0)), move |state| {
            let service = service.clone();
            async move {
                let (mut messages, settled, index) = state?;
                match messages.message().await {
                    Ok(None) => None,
                    Err(error) => Some((Err(error), None)),
                    Ok(Some(message)) => match service.settle(message, settled, index) {
                        Ok((settled, values)) => Some((Ok((settled.clone(), values, index)), Some((messages, Some(settled), index + 1)))),
                        Err(error) => Some((Err(status(&error)), None)),
                    },
                }
            }
        });
        settled
            .map(move |next| async move {
                let (settled, values, index) = next?;
                score_one(settled, values, index).await.map_err(|error| status(&error))
            })
            .buffered(IN_WORK)
    }

    fn settle(&self, message: ScoreStreamRequest, settled: Option<Settled>, index: u64) -> Result<(Settled, Vec<f32>), Error> {
        let settled = match settled {
            None => {
                let model = self.find(&message.model, &message.model_version)?;
                let calibration = model.calibration(&message.calibration)?;
                Settled { kind: kind(message.score, &model)?, model, calibration }
            }
            Some(settled) => {
                for (set, field) in [
                    (!message.model.is_empty(), "model"),
                    (!message.model_version.is_empty(), "model_version"),
                    (message.score != 0, "score"),
                    (!message.calibration.is_empty(), "calibration"),
                ] {
                    if set {
                        return Err(Error::invalid(field, format!("set in message {index}: only the first message may set it")));
                    }
                }
                settled
            }
        };
        let values = samples::read_one("sample", message.sample, &settled.model).map_err(Error::Invalid)?;
        Ok((settled, values))
    }
}

async fn score_one(settled: Settled, values: Vec<f32>, index: u64) -> Result<ScoreStreamResponse, Error> {
    let scores = settled.model.reconstruct(values, ask()).await?.scores;
    Ok(ScoreStreamResponse { score: Some(message(&scores, settled.kind, &settled.calibration)), index })
}
