//! Intervals: percentiles of the bootstrap (Efron 1979), and the jackknife that leaves groups out (Shao and Wu 1989).

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::engine::Interval;

/// The confidence level of every interval.
pub const LEVEL: f64 = 0.95;

/// The interval of a statistic over resamples of `groups`: each group is drawn with replacement to its own size, so
/// several groups make a stratified bootstrap. `statistic` gets the indices drawn in each group.
pub fn interval(groups: &[usize], resamples: usize, seed: u64, mut statistic: impl FnMut(&[Vec<usize>]) -> f64) -> Option<Interval> {
    if groups.contains(&0) || groups.iter().all(|size| *size < 2) {
        return None;
    }
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let mut values: Vec<f64> = (0..resamples)
        .map(|_| {
            let drawn: Vec<Vec<usize>> = groups.iter().map(|size| (0..*size).map(|_| random.random_range(0..*size)).collect()).collect();
            statistic(&drawn)
        })
        .filter(|value| value.is_finite())
        .collect();
    percentiles(&mut values, "percentile-bootstrap")
}

/// Groups of the jackknife, and Student's t at 97.5 % for one fewer degrees of freedom.
pub const GROUPS: usize = 20;
const STUDENT_T: f64 = 2.093;

/// The interval of a statistic that resampling with replacement would bias, such as FID, whose bias grows as samples
/// repeat: from the spread of the statistic with one of [`GROUPS`] groups left out at a time. `without` gets the group to
/// leave out.
pub fn jackknife(value: f64, without: impl FnMut(usize) -> f64) -> Option<Interval> {
    let values: Vec<f64> = (0..GROUPS).map(without).collect();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let error = ((count - 1.0) / count * values.iter().map(|value| (value - mean).powi(2)).sum::<f64>()).sqrt();
    let reach = STUDENT_T * error;
    reach.is_finite().then_some(Interval { lower: value - reach, upper: value + reach, level: LEVEL, method: "delete-group-jackknife".into() })
}

/// The interval between the outer percentiles of values.
pub fn percentiles(values: &mut [f64], method: &'static str) -> Option<Interval> {
    values.sort_by(f64::total_cmp);
    let tail = (1.0 - LEVEL) / 2.0;
    Some(Interval { lower: quantile(values, tail)?, upper: quantile(values, 1.0 - tail)?, level: LEVEL, method: method.into() })
}

/// The quantile of sorted values, linear between neighbours (Hyndman and Fan's type 7, numpy's default).
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (*sorted.get(place.floor() as usize)?, *sorted.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_mean_is_that_of_its_standard_error() {
        let values: Vec<f64> = (0..400).map(|index| f64::from(index % 20)).collect();
        let mean = |indices: &[usize]| indices.iter().map(|index| values[*index]).sum::<f64>() / indices.len() as f64;
        let interval = interval(&[400], 2000, 1, |drawn| mean(&drawn[0])).unwrap();
        let error = 1.96 * (33.25f64 / 400.0).sqrt();
        assert!((interval.lower - (9.5 - error)).abs() < 0.06 && (interval.upper - (9.5 + error)).abs() < 0.06, "{interval:?}");
    }

    #[test]
    fn the_jackknife_of_a_mean_is_that_of_its_standard_error() {
        let values: Vec<f64> = (0..400).map(|index| f64::from(index * 7919 % 400)).collect();
        let mean = |without: usize| {
            let kept: Vec<f64> = values.iter().enumerate().filter(|(index, _)| index / 20 != without).map(|(_, value)| *value).collect();
            kept.iter().sum::<f64>() / kept.len() as f64
        };
        let interval = jackknife(mean(usize::MAX), mean).unwrap();
        // The standard error of the mean of 400 evenly spread values is 5.8; twenty groups estimate it roughly.
        let reach = (interval.upper - interval.lower) / 2.0;
        assert!((2.093 * 2.0..2.093 * 10.0).contains(&reach), "{interval:?}");
        assert!((interval.upper + interval.lower - 399.0).abs() < 1e-9);
    }

    #[test]
    fn one_sample_has_no_interval() {
        assert!(interval(&[1], 100, 1, |_| 0.0).is_none());
        assert!(interval(&[5, 0], 100, 1, |_| 0.0).is_none());
    }

    #[test]
    fn quantiles_are_numpys() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), Some(2.5));
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 1.0), Some(4.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
