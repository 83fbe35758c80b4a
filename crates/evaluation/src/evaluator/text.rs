use std::convert::Infallible;

use super::{Evaluator, Shared};
use crate::{
    Error,
    engine::{
        Metric, Plan, TextPlan,
        datasets::{Data, Kind},
        jobs::Progress,
        metrics::{
            bootstrap,
            likelihood::{self, Document},
        },
        signature,
    },
};

/// Most documents, and about the most bytes, of one request: so that progress is seen, and other clients get their turn.
const DOCUMENTS: usize = 8;
const BYTES: usize = 1 << 15;

impl Evaluator {
    pub(super) async fn text(&self, progress: &Progress, subject: &TextPlan, plan: &Plan) -> Result<Vec<Metric>, Error> {
        let dataset = self.catalog.find(Kind::Text, &subject.dataset)?;
        let Data::Text(documents) = &dataset.data else { return Err(Error::Ended) };
        let texts = documents.get(..subject.documents).ok_or(Error::Ended)?;

        progress.stage("scoring documents", texts.len())?;
        let mut scored: Vec<Document> = Vec::with_capacity(texts.len());
        let mut settled = None;
        for request in requests(texts) {
            let answer = self.peers.text.score(&subject.model, request).await?;
            scored.extend(answer.documents);
            let (model, window) = settled.get_or_insert_with(|| (answer.model.clone(), answer.window));
            if (&answer.model, answer.window) != (&*model, *window) {
                return Err(Error::Mismatch(format!("the model {} was replaced by {} meanwhile", model.id(), answer.model.id())));
            }
            progress.found(&model.name, &dataset.name)?;
            progress.done(scored.len())?;
        }
        let (model, (context, stride)) = settled.ok_or(Error::Ended)?;
        let shared = Shared {
            sample_size: scored.len(),
            seed: plan.seed,
            measured_with: [(dataset.id(), dataset.sha256.clone()), self.hash(&model, self.peers.text.is_here)].into(),
        };
        let window = [("model", model.id()), ("context", context.to_string()), ("stride", stride.to_string())];
        progress.stage("resampling documents", 0)?;
        let resamples = plan.resamples;
        self.compute(move || Ok(measure(&scored, &window, resamples, &shared))).await
    }
}

/// The documents in requests of modest size.
fn requests(texts: &[String]) -> Vec<&[String]> {
    let (mut requests, mut rest) = (Vec::new(), texts);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take(DOCUMENTS).take_while(|text| {
            bytes += text.len();
            bytes <= BYTES
        });
        // One that is too long on its own goes alone.
        let (request, more) = rest.split_at(fits.count().max(1));
        requests.push(request);
        rest = more;
    }
    requests
}

fn measure(documents: &[Document], window: &[(&str, String)], resamples: usize, shared: &Shared) -> Vec<Metric> {
    let metric = |name: &'static str, unit: &str, of: fn(&[&Document]) -> f64| {
        let resampled = bootstrap::resample(&[documents.len()], resamples, shared.seed, |drawn| {
            let drawn: Vec<&Document> = drawn.iter().flatten().filter_map(|index| documents.get(*index)).collect();
            Ok::<_, Infallible>(of(&drawn))
        });
        let interval = resampled.ok().and_then(|values| bootstrap::percentiles(values, bootstrap::METHOD));
        let first = [("metric", name.to_owned()), ("unit", unit.to_owned())];
        let last = [("documents", documents.len().to_string()), ("bootstrap", resamples.to_string())];
        Metric {
            name,
            value: of(&documents.iter().collect::<Vec<_>>()),
            interval,
            signature: signature(&[first.as_slice(), window, &last].concat()),
            sample_size: shared.sample_size,
            seed: shared.seed,
            higher_is_better: false,
            measured_with: shared.measured_with.clone(),
        }
    };
    vec![
        metric("perplexity", "token", |documents| likelihood::perplexity(documents.iter().copied())),
        metric("bits_per_byte", "utf8-byte", |documents| likelihood::bits_per_byte(documents.iter().copied())),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn requests_are_modest_and_hold_every_document_once() {
        let texts: Vec<String> = (1..40).map(|index| "x".repeat(index * 997)).chain(["y".repeat(BYTES * 3)]).collect();
        let requests = requests(&texts);
        assert_eq!(requests.concat(), texts);
        let bytes = |request: &[String]| request.iter().map(String::len).sum::<usize>();
        assert!(requests.iter().all(|request| request.len() == 1 || (request.len() <= DOCUMENTS && bytes(request) <= BYTES)));
    }

    #[test]
    fn metrics_come_from_sums_and_carry_their_definition() {
        let document = |index: u32| Document { log_likelihood: -f64::from(index), tokens: 10, bytes: 40 };
        let documents: Vec<Document> = (20..60).map(document).collect();
        let shared = Shared { sample_size: 40, seed: 3, measured_with: BTreeMap::new() };
        let window = [("model", "m@1".to_owned()), ("context", "512".to_owned()), ("stride", "256".to_owned())];
        let metrics = measure(&documents, &window, 1000, &shared);
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            metrics[0].signature,
            format!("metric:perplexity|unit:token|model:m@1|context:512|stride:256|documents:40|bootstrap:1000|version:quintet-{version}")
        );
        assert!((metrics[0].value - 3.95f64.exp()).abs() < 1e-9);
        for metric in &metrics {
            let interval = metric.interval.unwrap();
            assert!(interval.lower < metric.value && metric.value < interval.upper);
        }
        assert!(measure(&documents[..1], &window, 1000, &shared)[0].interval.is_none());
    }
}
