//! The evaluations that were accepted, and what was heard of them.

use std::{collections::BTreeMap, sync::Mutex};

use quintet_proto::evaluation::v1::{
    Evaluation, EvaluationState, ListEvaluationsRequest, WatchEvaluationRequest, evaluation_service_client::EvaluationServiceClient,
};
use tonic::transport::Channel;

/// Evaluations by their ids: how each ended, where a client has heard of it.
#[derive(Debug, Default)]
pub(super) struct Jobs(Mutex<BTreeMap<String, Option<EvaluationState>>>);

impl Jobs {
    pub(super) fn accepted(&self, id: &str) {
        self.0.lock().unwrap().insert(id.to_owned(), None);
    }

    pub(super) fn ended(&self, id: &str, state: EvaluationState) {
        let before = self.0.lock().unwrap().insert(id.to_owned(), Some(state));
        assert_eq!(before, Some(None), "{id} ended twice");
    }

    /// Each that was accepted is there, ends, and has ended as its client was told.
    pub(super) async fn check(&self, channel: Channel) {
        let mut client = EvaluationServiceClient::new(channel);
        let mut found = BTreeMap::new();
        let mut page_token = String::new();
        loop {
            let page = client.list_evaluations(ListEvaluationsRequest { page_size: 1000, page_token }).await.unwrap().into_inner();
            for Evaluation { id, .. } in page.evaluations {
                let mut states = client.watch_evaluation(WatchEvaluationRequest { id: id.clone() }).await.unwrap().into_inner();
                let mut last = EvaluationState::Unspecified;
                while let Some(state) = states.message().await.unwrap() {
                    last = state.evaluation.unwrap().state();
                }
                assert!(!matches!(last, EvaluationState::Unspecified | EvaluationState::Queued | EvaluationState::Running), "{id}: {last:?}");
                assert!(found.insert(id, last).is_none());
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        for (id, told) in &*self.0.lock().unwrap() {
            let is = found.get(id).unwrap_or_else(|| panic!("{id} was accepted and is lost"));
            assert!(told.is_none_or(|told| told == *is), "{id}: {told:?} was told, and it is {is:?}");
        }
    }
}
