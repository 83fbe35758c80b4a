use quintet_proto::evaluation::v1::{Evaluation, ListEvaluationsRequest, ListEvaluationsResponse};

use super::{SERVICE, Subject, jobs::cancel};
use crate::conformance::{
    check::{Checked, Verdict, ensure},
    every::Refusal,
    target::Call,
};

/// Pages that are read one by one.
const PAGES: usize = 4;

impl Subject {
    async fn page(&self, page_size: u32, page_token: &str) -> Result<ListEvaluationsResponse, Verdict> {
        let request = ListEvaluationsRequest { page_size, page_token: page_token.to_owned() };
        Ok(self.client().list_evaluations(request).await?.into_inner())
    }

    /// The newest evaluation's id, if there is one.
    pub(super) async fn newest(&self) -> Result<Option<String>, Verdict> {
        Ok(self.page(1, "").await?.evaluations.pop().map(|evaluation| evaluation.id))
    }
}

pub(super) async fn datasets(subject: &Subject) -> Checked {
    let names: Vec<_> = subject.datasets.iter().map(|dataset| dataset.name.as_str()).collect();
    ensure!(names.is_sorted(), "ListDatasets gives {}", names.join(", "));
    Ok(())
}

pub(super) async fn pages(subject: &Subject) -> Checked {
    for _ in 0..3 {
        let id = subject.create(subject.small()?).await?.id;
        cancel(subject, &id).await?;
    }
    let all = subject.page(1000, "").await?.evaluations;
    let moment = |evaluation: &Evaluation| evaluation.created_at.map(|at| (at.seconds, at.nanos));
    ensure!(all.is_sorted_by(|one, next| moment(one) >= moment(next)), "ListEvaluations is not the newest first");
    let ids = |evaluations: &[Evaluation]| evaluations.iter().map(|evaluation| evaluation.id.clone()).collect::<Vec<_>>();
    let (mut listed, mut token) = (Vec::new(), String::new());
    for page in 0..PAGES {
        let answer = subject.page(1, &token).await?;
        ensure!(answer.evaluations.len() <= 1, "a page of one has {} evaluations", answer.evaluations.len());
        listed.extend(answer.evaluations);
        token = answer.next_page_token;
        let is_last = listed.len() == all.len();
        ensure!(token.is_empty() == is_last, "after page {page} of {} next_page_token is {token:?}", all.len());
        if is_last {
            break;
        }
    }
    ensure!(ids(&all).starts_with(&ids(&listed)), "pages of one give {:?}, and one page of all {:?}", ids(&listed), ids(&all));
    let wrong = ListEvaluationsRequest { page_token: "no token of this service".to_owned(), ..ListEvaluationsRequest::default() };
    Refusal::invalid("V5", Call::new(SERVICE, "ListEvaluations", &wrong), &["page_token"]).hold(&subject.ground.target).await?;
    Ok(())
}
