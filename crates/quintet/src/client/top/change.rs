//! What happened between two readings of a metrics page.

use std::collections::BTreeMap;

use super::{
    exposition::{Labels, Page, number},
    histogram::Histogram,
};

/// Two readings of the page of one server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change<'a> {
    /// The earlier.
    pub(super) before: &'a Page,
    /// The later.
    pub(super) after: &'a Page,
    /// How long after, above 0.
    pub(super) seconds: f64,
}

/// Values by those of the chosen labels, in their order; a label that is missing is empty.
pub(super) type Grouped<'a, const N: usize, T> = BTreeMap<[&'a str; N], T>;

impl<'a> Change<'a> {
    /// A counter's growth per second, added up by the labels `by`. One that fell began anew: all of it is growth.
    pub(super) fn rates<const N: usize>(self, name: &str, by: [&str; N]) -> Grouped<'a, N, f64> {
        self.rates_where(name, by, |_| true)
    }

    /// The same of the series that `keep` chooses. A group without any is there with 0.
    pub(super) fn rates_where<const N: usize>(self, name: &str, by: [&str; N], keep: impl Fn(&Labels) -> bool) -> Grouped<'a, N, f64> {
        let mut rates = BTreeMap::new();
        for (labels, after) in self.after.series(name) {
            let before = self.before.value(name, labels).unwrap_or(0.0);
            let growth = if after < before { after } else { after - before };
            let rate: &mut f64 = rates.entry(group(labels, by)).or_default();
            if keep(labels) {
                *rate += growth / self.seconds;
            }
        }
        rates
    }

    /// A gauge's value now, added up by the labels `by`.
    pub(super) fn gauges<const N: usize>(self, name: &str, by: [&str; N]) -> Grouped<'a, N, f64> {
        let mut gauges = BTreeMap::new();
        for (labels, value) in self.after.series(name) {
            *gauges.entry(group(labels, by)).or_default() += value;
        }
        gauges
    }

    /// What a histogram observed, added up by the labels `by`.
    pub(super) fn histograms<const N: usize>(self, name: &str, by: [&str; N]) -> Grouped<'a, N, Histogram> {
        let before = histograms(self.before, name);
        let mut observed: Grouped<'a, N, Histogram> = BTreeMap::new();
        for (labels, after) in histograms(self.after, name) {
            let after = match before.get(labels) {
                Some(before) => after.since(before),
                None => after,
            };
            observed.entry(group(labels, by)).or_default().merge(&after);
        }
        observed
    }
}

fn group<'a, const N: usize>(labels: &'a Labels, by: [&str; N]) -> [&'a str; N] {
    by.map(|label| labels.get(label).map(String::as_str).unwrap_or_default())
}

/// The histograms of a name by their labels, without `le`.
fn histograms<'a>(page: &'a Page, name: &str) -> BTreeMap<&'a Labels, Histogram> {
    let mut histograms: BTreeMap<&Labels, Histogram> =
        page.series(&format!("{name}_count")).map(|(labels, count)| (labels, Histogram::new(count, 0.0))).collect();
    for (labels, sum) in page.series(&format!("{name}_sum")) {
        if let Some(histogram) = histograms.get_mut(labels) {
            histogram.sum = sum;
        }
    }
    for (labels, count) in page.series(&format!("{name}_bucket")) {
        let mut labels = labels.clone();
        let bound = labels.remove("le").and_then(|bound| number(&bound).ok());
        if let (Some(bound), Some(histogram)) = (bound, histograms.get_mut(&labels)) {
            histogram.add(bound, count);
        }
    }
    histograms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        Page::parse(text).unwrap()
    }

    #[test]
    fn rates_are_growth_per_second_by_label() {
        let before = page("calls{method=\"A\",code=\"OK\"} 10\ncalls{method=\"A\",code=\"INTERNAL\"} 1");
        let after =
            page("calls{method=\"A\",code=\"OK\"} 16\ncalls{method=\"A\",code=\"INTERNAL\"} 2\ncalls{method=\"B\",code=\"OK\"} 4\nunlabelled 3");
        let change = Change { before: &before, after: &after, seconds: 2.0 };
        assert_eq!(change.rates("calls", ["method"]), BTreeMap::from([(["A"], 3.5), (["B"], 2.0)]), "B was first called in between");
        assert_eq!(change.rates("calls", []), BTreeMap::from([([], 5.5)]));
        let failed = change.rates_where("calls", ["method"], |labels| labels.get("code").is_some_and(|code| code != "OK"));
        assert_eq!(failed, BTreeMap::from([(["A"], 0.5), (["B"], 0.0)]));
        assert_eq!(change.rates("unlabelled", ["method"]), BTreeMap::from([([""], 1.5)]));
        assert_eq!(change.rates("missing", ["method"]), BTreeMap::new());
    }

    #[test]
    fn a_restart_never_gives_negative_rates() {
        let before = page("calls{method=\"A\"} 100\ncalls{method=\"B\"} 5");
        let after = page("calls{method=\"A\"} 6");
        let change = Change { before: &before, after: &after, seconds: 2.0 };
        assert_eq!(change.rates("calls", ["method"]), BTreeMap::from([(["A"], 3.0)]));
    }

    #[test]
    fn gauges_are_as_they_are() {
        let (before, after) = (page("depth{model=\"m\"} 9"), page("depth{model=\"m\"} 2\ndepth{model=\"n\"} 1"));
        let change = Change { before: &before, after: &after, seconds: 1.0 };
        assert_eq!(change.gauges("depth", ["model"]), BTreeMap::from([(["m"], 2.0), (["n"], 1.0)]));
        assert_eq!(change.gauges("depth", []), BTreeMap::from([([], 3.0)]));
    }

    #[test]
    fn histograms_are_differences_by_label() {
        let text = |one: u32, all: u32, sum: u32| {
            page(&format!(
                "h_bucket{{model=\"m\",le=\"1\"}} {one}\nh_bucket{{model=\"m\",le=\"+Inf\"}} {all}\nh_sum{{model=\"m\"}} {sum}\nh_count{{model=\"m\"}} {all}"
            ))
        };
        let (before, after, anew) = (text(1, 2, 4), text(5, 6, 12), text(0, 1, 3));
        let mut four = Histogram::new(4.0, 8.0);
        four.add(1.0, 4.0);
        four.add(f64::INFINITY, 4.0);
        assert_eq!(Change { before: &before, after: &after, seconds: 1.0 }.histograms("h", ["model"]), BTreeMap::from([(["m"], four)]));
        let mut one = Histogram::new(1.0, 3.0);
        one.add(1.0, 0.0);
        one.add(f64::INFINITY, 1.0);
        assert_eq!(Change { before: &after, after: &anew, seconds: 1.0 }.histograms("h", ["model"]), BTreeMap::from([(["m"], one)]));
    }
}
