//! Percentile intervals by the bootstrap (Efron 1979).

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::engine::Interval;

/// The confidence level of every interval.
pub const LEVEL: f64 = 0.95;

/// How intervals from resamples are called.
pub const METHOD: &str = "percentile-bootstrap";

/// A statistic's values over resamples of `groups`: each group is drawn with replacement to its own size, so several
/// groups make a stratified bootstrap. `statistic` gets the indices drawn in each group. No values where a group is
/// empty or none has two samples: nothing can be resampled there.
///
/// # Errors
///
/// The first of `statistic`'s own, at once: so a computation can be given up.
pub fn resample<E>(
    groups: &[usize],
    resamples: usize,
    seed: u64,
    mut statistic: impl FnMut(&[Vec<usize>]) -> Result<f64, E>,
) -> Result<Vec<f64>, E> {
    if groups.contains(&0) || groups.iter().all(|size| *size < 2) {
        return Ok(Vec::new());
    }
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let mut drawn: Vec<Vec<usize>> = groups.iter().map(|size| vec![0; *size]).collect();
    let mut values = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        for group in &mut drawn {
            let size = group.len();
            group.iter_mut().for_each(|index| *index = random.random_range(0..size));
        }
        values.push(statistic(&drawn)?);
    }
    Ok(values)
}

/// The values moved so that their mean is the statistic's value on the samples themselves.
///
/// A statistic whose bias falls with the number of distinct samples, as those of FID and of the Inception Score do, is
/// biased in each resample once more than on the samples: its plain percentiles lie beside the value. Their spread is
/// right, so it is put where the value is.
pub fn centred(mut values: Vec<f64>, value: f64) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter_mut().for_each(|resampled| *resampled += value - mean);
    values
}

/// The interval between the outer percentiles of values. `None` where there are none, or one is not a number: an
/// interval without it would not be one of these resamples.
pub fn percentiles(mut values: Vec<f64>, method: &'static str) -> Option<Interval> {
    if values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let tail = (1.0 - LEVEL) / 2.0;
    Some(Interval { lower: quantile(&values, tail)?, upper: quantile(&values, 1.0 - tail)?, level: LEVEL, method })
}

/// The quantile of sorted values, linear between neighbours (Hyndman and Fan's type 7, numpy's default).
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (*sorted.get(place.floor() as usize)?, *sorted.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn the_interval_of_a_mean_is_that_of_its_standard_error() {
        let values: Vec<f64> = (0..400).map(|index| f64::from(index % 20)).collect();
        let mean = |indices: &[usize]| indices.iter().map(|index| values[*index]).sum::<f64>() / indices.len() as f64;
        let resampled = resample(&[400], 2000, 1, |drawn| Ok::<_, Infallible>(mean(&drawn[0]))).unwrap();
        let interval = percentiles(resampled, METHOD).unwrap();
        let error = 1.96 * (33.25f64 / 400.0).sqrt();
        assert!((interval.lower - (9.5 - error)).abs() < 0.06 && (interval.upper - (9.5 + error)).abs() < 0.06, "{interval:?}");
    }

    #[test]
    fn one_sample_has_no_interval() {
        let none = |groups: &[usize]| percentiles(resample(groups, 100, 1, |_| Ok::<_, Infallible>(0.0)).unwrap(), METHOD);
        assert!(none(&[1]).is_none());
        assert!(none(&[5, 0]).is_none());
        assert!(none(&[2]).is_some());
    }

    #[test]
    fn a_resample_that_gives_no_number_gives_no_interval() {
        assert!(percentiles(vec![1.0, f64::NAN, 2.0], METHOD).is_none());
    }

    #[test]
    fn a_statistic_can_give_the_computation_up() {
        let mut calls = 0;
        let outcome = resample(&[9], 100, 1, |_| {
            calls += 1;
            if calls == 3 { Err("enough") } else { Ok(0.0) }
        });
        assert_eq!((outcome, calls), (Err("enough"), 3));
    }

    #[test]
    fn centring_moves_the_mean_and_keeps_the_spread() {
        assert_eq!(centred(vec![4.0, 6.0], 1.0), [0.0, 2.0]);
    }

    #[test]
    fn quantiles_are_numpys() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), Some(2.5));
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 1.0), Some(4.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
