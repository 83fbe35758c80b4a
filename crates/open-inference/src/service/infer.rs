use std::{sync::Arc, time::Instant};

use quintet_proto::inference::{InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse, infer_parameter::ParameterChoice};

use super::Service;
use crate::{Error, answer, host::Found, memory::Regions, parameters, request};

/// Requests of one stream that are run at once: enough to be batched, few enough that a client that does not read its
/// answers stops being read from.
pub(super) const AT_ONCE: usize = 64;

impl Service {
    pub(super) async fn infer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, Error> {
        let graph = Arc::new(self.hosts.graph(&request.model_name, &request.model_version)?);
        let begun = Instant::now();
        let outcome = self.infer_on(&graph, request).await;
        graph.statistics.ended(begun.elapsed(), outcome.is_ok());
        outcome
    }

    async fn infer_on(&self, graph: &Arc<Found>, mut request: ModelInferRequest) -> Result<ModelInferResponse, Error> {
        let ask = parameters::ask(&request.parameters)?;
        let wanted = answer::wanted(graph, &request)?;
        let (reads, writes) = (request::reads_regions(&request), answer::writes_regions(&wanted));
        let held = Arc::clone(graph);
        let take = move |regions: &Regions| Ok((request::inputs(&held, &mut request, regions)?, request));
        let (inputs, request) = self.sharing.with(reads, take).await?;
        // What could not be sent need not be computed.
        let rows = inputs.first().and_then(|input| input.shape.first().copied()).unwrap_or(1);
        let (expected, limit) = (answer::expected_bytes(graph, &wanted, rows), self.max_response_bytes);
        if expected > limit {
            return Err(Error::invalid("inputs[0].shape", format!("{rows} rows: the answer would have {expected} bytes, at most {limit}")));
        }
        let outputs = graph.run(inputs, ask).await?;
        let held = Arc::clone(graph);
        self.sharing.with(writes, move |regions| answer::response(&held, &request, &wanted, &outputs, regions)).await
    }

    /// A request of a stream: an error is its answer, and the stream goes on.
    pub(super) async fn infer_one_of_many(&self, request: ModelInferRequest) -> ModelStreamInferResponse {
        let (id, model_name) = (request.id.clone(), request.model_name.clone());
        let (error_message, mut response) = match self.infer(request).await {
            Ok(response) => (String::new(), response),
            // Clients read nothing else of an error in a stream.
            Err(error) => (error.to_string(), ModelInferResponse { id, model_name, ..ModelInferResponse::default() }),
        };
        // Each request has one answer, which is its last.
        let is_final = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
        response.parameters.insert("triton_final_response".to_owned(), is_final);
        ModelStreamInferResponse { error_message, infer_response: Some(response) }
    }
}
