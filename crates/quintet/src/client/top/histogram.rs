//! Histograms with cumulative buckets.

/// Counts of observations by upper bound.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Histogram {
    /// Upper bounds, ascending, and how many observations are at or below each.
    buckets: Vec<(f64, f64)>,
    /// All observations added up.
    pub(super) sum: f64,
    /// How many observations there are.
    pub(super) count: f64,
}

impl Histogram {
    /// So many observations that add up to `sum`, in buckets that are still to be added.
    pub(super) fn new(count: f64, sum: f64) -> Self {
        Self { buckets: Vec::new(), sum, count }
    }

    /// Adds observations at or below a bound; a bound that is not a number counts nothing.
    pub(super) fn add(&mut self, bound: f64, count: f64) {
        match self.buckets.iter_mut().find(|bucket| bucket.0 == bound) {
            Some(bucket) => bucket.1 += count,
            None if bound.is_nan() => {}
            None => {
                let place = self.buckets.partition_point(|bucket| bucket.0 < bound);
                self.buckets.insert(place, (bound, count));
            }
        }
    }

    /// Adds another with the same bounds.
    pub(super) fn merge(&mut self, other: &Self) {
        other.buckets.iter().for_each(|(bound, count)| self.add(*bound, *count));
        self.sum += other.sum;
        self.count += other.count;
    }

    /// What was observed after `before`. Fewer observations than then are those of a new process: all of them.
    pub(super) fn since(mut self, before: &Self) -> Self {
        let counted = |bound: f64| before.buckets.iter().find(|bucket| bucket.0 == bound).map_or(0.0, |bucket| bucket.1);
        if self.count < before.count || self.buckets.iter().any(|(bound, count)| *count < counted(*bound)) {
            return self;
        }
        self.buckets.iter_mut().for_each(|(bound, count)| *count -= counted(*bound));
        self.count -= before.count;
        self.sum = (self.sum - before.sum).max(0.0);
        self
    }

    /// The mean, where there are observations.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }

    /// The value that a share `q` (0 to 1) of observations do not exceed, as Prometheus' `histogram_quantile` estimates it:
    /// linear inside its bucket, whose lower end is 0 for the first; the highest finite bound beyond that.
    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        let (last, finite) = self.buckets.split_last()?;
        let highest = finite.last()?.0;
        // The scrape does not stop the writers, so a bucket may lag behind the one below it.
        let mut below = (0.0_f64, 0.0_f64);
        let mut rising = Vec::with_capacity(self.buckets.len());
        for (bound, count) in &self.buckets {
            below.1 = below.1.max(*count);
            rising.push((*bound, below.1));
        }
        if last.0 != f64::INFINITY || below.1 <= 0.0 {
            return None;
        }
        let rank = q * below.1;
        let mut lower = (0.0, 0.0);
        for (index, (bound, count)) in rising.into_iter().enumerate() {
            if count >= rank {
                return Some(match bound {
                    f64::INFINITY => highest,
                    _ if index == 0 && bound <= 0.0 => bound,
                    _ if count == lower.1 => bound,
                    _ => lower.0 + (bound - lower.0) * (rank - lower.1) / (count - lower.1),
                });
            }
            lower = (bound, count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(buckets: &[(f64, f64)], sum: f64) -> Histogram {
        let mut histogram = Histogram::new(buckets.last().map_or(0.0, |bucket| bucket.1), sum);
        buckets.iter().rev().for_each(|(bound, count)| histogram.add(*bound, *count));
        histogram
    }

    #[test]
    fn a_quantile_is_linear_inside_its_bucket() {
        let observed = histogram(&[(0.1, 2.0), (0.2, 6.0), (0.5, 10.0), (f64::INFINITY, 10.0)], 2.0);
        // Rank 5 of 10: 3 of the 4 in (0.1, 0.2].
        assert!((observed.quantile(0.5).unwrap() - 0.175).abs() < 1e-12);
        // Rank 9.9: 3.9 of the 4 in (0.2, 0.5].
        assert!((observed.quantile(0.99).unwrap() - 0.4925).abs() < 1e-12);
        // Rank 1: half of the 2 in (0, 0.1].
        assert!((observed.quantile(0.1).unwrap() - 0.05).abs() < 1e-12);
        assert_eq!(observed.quantile(0.0), Some(0.0));
        assert_eq!(observed.quantile(1.0), Some(0.5));
        assert_eq!(observed.mean(), Some(0.2));
    }

    #[test]
    fn a_quantile_beyond_the_last_bound_is_that_bound() {
        let observed = histogram(&[(0.1, 1.0), (1.0, 1.0), (f64::INFINITY, 4.0)], 100.0);
        assert_eq!(observed.quantile(0.99), Some(1.0));
    }

    #[test]
    fn a_bucket_that_lags_counts_as_the_one_below() {
        let observed = histogram(&[(1.0, 4.0), (2.0, 3.0), (4.0, 8.0), (f64::INFINITY, 8.0)], 0.0);
        assert_eq!(observed.quantile(0.75), Some(3.0));
    }

    #[test]
    fn nothing_observed_has_no_quantile() {
        assert_eq!(Histogram::default().quantile(0.5), None);
        assert_eq!(histogram(&[(0.1, 0.0), (f64::INFINITY, 0.0)], 0.0).quantile(0.5), None);
        assert_eq!(histogram(&[(f64::INFINITY, 3.0)], 0.0).quantile(0.5), None, "no finite bound");
        assert_eq!(histogram(&[(0.1, 1.0), (0.2, 3.0)], 0.0).quantile(0.5), None, "no infinite bound");
        assert_eq!(Histogram::default().mean(), None);
    }

    #[test]
    fn a_difference_is_what_came_after() {
        let before = histogram(&[(1.0, 2.0), (f64::INFINITY, 3.0)], 5.0);
        let after = histogram(&[(1.0, 6.0), (f64::INFINITY, 8.0)], 12.0);
        assert_eq!(after.clone().since(&before), histogram(&[(1.0, 4.0), (f64::INFINITY, 5.0)], 7.0));
        assert_eq!(after.clone().since(&Histogram::default()), after);
    }

    #[test]
    fn a_restart_counts_from_nothing_in_all_buckets() {
        let before = histogram(&[(1.0, 9.0), (f64::INFINITY, 10.0)], 50.0);
        let after = histogram(&[(1.0, 1.0), (f64::INFINITY, 12.0)], 60.0);
        assert_eq!(after.clone().since(&before), after);
    }

    #[test]
    fn merged_histograms_add_up() {
        let mut merged = histogram(&[(1.0, 1.0), (f64::INFINITY, 2.0)], 3.0);
        merged.merge(&histogram(&[(1.0, 2.0), (f64::INFINITY, 2.0)], 1.0));
        assert_eq!(merged, histogram(&[(1.0, 3.0), (f64::INFINITY, 4.0)], 4.0));
    }
}
