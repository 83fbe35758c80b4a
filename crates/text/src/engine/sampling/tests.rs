use proptest::prelude::*;

use super::*;

pub(super) const PLAIN: Sampling = Sampling {
    logit_bias: Vec::new(),
    repetition_penalty: 1.0,
    presence_penalty: 0.0,
    frequency_penalty: 0.0,
    no_repeat_ngram_size: 0,
    temperature: 1.0,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
    typical_p: 1.0,
    seed: 7,
};

fn greedy() -> Sampling {
    Sampling { temperature: 0.0, ..PLAIN }
}

impl Sampler {
    /// The tokens that can be drawn and their probabilities after all steps; empty where nothing is to be weighed.
    pub(super) fn distribution(&self, logits: &[f32], limits: Limits<'_>) -> Vec<(u32, f64)> {
        with_scratch(|Scratch { scores, candidates, weights }| {
            let scores = self.score(logits, limits, scores);
            match self.weigh(scores, candidates, weights) {
                Weighed::Among => weights.distribution(),
                Weighed::Certain(token) => vec![(token, 1.0)],
                Weighed::Nothing => Vec::new(),
            }
        })
    }
}

pub(super) fn mask(tokens: &[u32], vocabulary: usize) -> Vec<u32> {
    let mut words = vec![0; vocabulary.div_ceil(32)];
    tokens.iter().for_each(|token| words[*token as usize / 32] |= 1 << (token % 32));
    words
}

fn token(sampler: &mut Sampler, logits: &[f32]) -> Option<u32> {
    sampler.draw(logits, Limits::default()).map(|drawn| drawn.token)
}

fn drawn(sampling: Sampling, logits: &[f32], draws: usize) -> Vec<usize> {
    let mut counts = vec![0; logits.len()];
    let mut sampler = Sampler::new(sampling, logits.len(), &[]);
    for _ in 0..draws {
        counts[token(&mut sampler, logits).unwrap() as usize] += 1;
    }
    counts
}

/// Normally distributed, from a stream of their own.
fn gaussian(vocabulary: usize, deviation: f64, seed: u64) -> Vec<f32> {
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let mut uniform = move || random.random::<f64>();
    (0..vocabulary).map(|_| (deviation * (-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()) as f32).collect()
}

/// Pearson's statistic against its bound at about five standard deviations.
fn follows(counts: &[usize], probabilities: &[f64], draws: usize) -> bool {
    let terms = counts.iter().zip(probabilities).map(|(&count, p)| (count as f64 - p * draws as f64).powi(2) / (p * draws as f64));
    let freedom = probabilities.len() as f64 - 1.0;
    terms.sum::<f64>() < freedom + 5.0 * (2.0 * freedom).sqrt() + 10.0
}

#[test]
fn the_draws_follow_the_distribution() {
    const DRAWS: usize = 50_000;
    for (sampling, vocabulary) in [
        (PLAIN, 4),
        (Sampling { temperature: 0.7, ..PLAIN }, 60),
        (Sampling { top_k: 9, top_p: 0.9, ..PLAIN }, 60),
        (Sampling { typical_p: 0.8, min_p: 0.01, ..PLAIN }, 60),
        // Several blocks of weights.
        (Sampling { temperature: 2.0, top_p: 0.8, ..PLAIN }, 1_700),
    ] {
        let logits = gaussian(vocabulary, 1.0, 3);
        let expected = Sampler::new(sampling.clone(), vocabulary, &[]).distribution(&logits, Limits::default());
        let counts = drawn(sampling.clone(), &logits, DRAWS);
        let (kept, probabilities): (Vec<_>, Vec<_>) = expected.iter().map(|(token, p)| (counts[*token as usize], *p)).unzip();
        assert_eq!(kept.iter().sum::<usize>(), DRAWS, "{sampling:?}");
        assert!(follows(&kept, &probabilities, DRAWS), "{sampling:?}");
    }
}

#[test]
fn greedy_takes_the_first_of_the_likeliest() {
    assert_eq!(drawn(greedy(), &[0.0, 3.0, 3.0, f32::NAN], 5), [0, 5, 0, 0]);
    assert_eq!(drawn(Sampling { temperature: f32::NAN, ..PLAIN }, &[0.0, 3.0, 3.0], 5), [0, 5, 0]);
    let mut logits = gaussian(1_000, 2.5, 1);
    (logits[300], logits[301], logits[999]) = (50.0, 50.0, 50.0);
    assert_eq!(token(&mut Sampler::new(greedy(), 1_000, &[]), &logits), Some(300));
    assert_eq!(token(&mut Sampler::new(Sampling { top_k: 1, ..PLAIN }, 1_000, &[]), &logits), Some(300));
}

#[test]
fn filters_keep_what_they_say() {
    let logits = [0.6f32.ln(), 0.25f32.ln(), 0.1f32.ln(), 0.05f32.ln()];
    let kept = |sampling| drawn(sampling, &logits, 4_000).into_iter().map(|count| count > 0).collect::<Vec<_>>();
    assert_eq!(kept(Sampling { top_k: 2, ..PLAIN }), [true, true, false, false]);
    assert_eq!(kept(Sampling { top_p: 0.8, ..PLAIN }), [true, true, false, false]);
    assert_eq!(kept(Sampling { top_p: 0.5, ..PLAIN }), [true, false, false, false]);
    assert_eq!(kept(Sampling { top_p: 0.0, ..PLAIN }), [true, false, false, false]);
    assert_eq!(kept(Sampling { min_p: 0.15, ..PLAIN }), [true, true, true, false]);
    assert_eq!(kept(Sampling { min_p: 2.0, ..PLAIN }), [true, false, false, false]);
    // The entropy is 1.03, the information of each 0.51, 1.39, 2.30 and 3.00: the second is nearest, then the first.
    assert_eq!(kept(Sampling { typical_p: 0.2, ..PLAIN }), [false, true, false, false]);
    assert_eq!(kept(Sampling { typical_p: 0.3, ..PLAIN }), [true, true, false, false]);
    assert_eq!(kept(PLAIN), [true, true, true, true]);
}

#[test]
fn of_equals_the_first_are_kept() {
    let logits = vec![1.5; 20_000];
    let kept = |sampling: Sampling| Sampler::new(sampling, logits.len(), &[]).distribution(&logits, Limits::default());
    for sampling in [Sampling { top_k: 5_000, ..PLAIN }, Sampling { top_p: 0.25, ..PLAIN }, Sampling { typical_p: 0.25, ..PLAIN }] {
        let tokens: Vec<_> = kept(sampling.clone()).into_iter().map(|(token, _)| token).collect();
        assert_eq!(tokens, (0..5_000).collect::<Vec<_>>(), "{sampling:?}");
    }
}

#[test]
fn the_repetition_penalty_follows_keskar() {
    let mut sampler = Sampler::new(Sampling { repetition_penalty: 2.0, ..greedy() }, 3, &[0]);
    // 3.0 / 2 = 1.5 is below 2.0; a negative score of a token that occurred falls further.
    assert_eq!(token(&mut sampler, &[3.0, 2.0, 1.9]), Some(1));
    assert_eq!(token(&mut sampler, &[-1.0, -1.0, -1.5]), Some(2));
}

#[test]
fn presence_and_frequency_are_of_the_output_alone() {
    let mut present = Sampler::new(Sampling { presence_penalty: 1.0, ..greedy() }, 3, &[0]);
    assert_eq!([0; 4].map(|_| token(&mut present, &[1.5, 1.0, 0.0]).unwrap()), [0, 1, 0, 0]);
    let mut frequent = Sampler::new(Sampling { frequency_penalty: 1.0, ..greedy() }, 3, &[0]);
    assert_eq!([0; 5].map(|_| token(&mut frequent, &[1.5, 1.0, 0.0]).unwrap()), [0, 1, 0, 1, 2]);
}

#[test]
fn no_ngram_occurs_twice() {
    let mut sampler = Sampler::new(Sampling { no_repeat_ngram_size: 2, ..greedy() }, 3, &[0]);
    // 0 | 0, then 0 0 has occurred; 0 1, 1 0, and then 0 0 and 0 1 have; 0 2, 2 0, and then all after 0 have.
    assert_eq!([0; 6].map(|_| token(&mut sampler, &[3.0, 2.0, 1.0])), [Some(0), Some(1), Some(0), Some(2), Some(0), None]);
}

#[test]
fn what_is_not_a_number_is_never_drawn() {
    for sampling in [PLAIN, greedy(), Sampling { top_k: 2, ..PLAIN }, Sampling { top_p: 0.9, typical_p: 0.9, ..PLAIN }] {
        assert_eq!(drawn(sampling.clone(), &[f32::NAN, f32::NEG_INFINITY, 0.0], 50), [0, 0, 50]);
        assert_eq!(drawn(sampling.clone(), &[f32::NEG_INFINITY, f32::INFINITY, 0.0], 5), [0, 5, 0]);
        let mut sampler = Sampler::new(sampling, 3, &[]);
        for logits in [&[f32::NAN; 3][..], &[f32::NEG_INFINITY; 3], &[]] {
            assert_eq!(sampler.draw(logits, Limits { log_probability: true, top: 2, ..Limits::default() }), None);
            assert_eq!(sampler.best(logits, 2, Limits::default()), []);
        }
    }
}

#[test]
fn a_tiny_or_endless_temperature_is_no_special_case() {
    let logits = [1.0, 1.000_1, f32::NEG_INFINITY, f32::NAN];
    assert_eq!(drawn(Sampling { temperature: f32::MIN_POSITIVE, ..PLAIN }, &logits, 9), [0, 9, 0, 0]);
    let endless = drawn(Sampling { temperature: f32::INFINITY, ..PLAIN }, &logits, 900);
    assert!(endless[0] > 350 && endless[1] > 350 && endless[2..] == [0, 0], "{endless:?}");
}

#[test]
fn a_bias_of_minus_infinity_rules_out() {
    let bias = |token, bias| Sampling { logit_bias: vec![(token, bias), (99, 1.0)], ..greedy() };
    assert_eq!(drawn(bias(1, f32::NEG_INFINITY), &[1.0, 5.0, 0.0], 1), [1, 0, 0]);
    assert_eq!(drawn(bias(2, 9.0), &[1.0, 5.0, 0.0], 1), [0, 0, 1]);
}

#[test]
fn logits_past_the_vocabulary_are_passed_over() {
    let drawn = Sampler::new(greedy(), 2, &[]).draw(&[0.0, 0.0, 9.0], Limits { log_probability: true, top: 3, ..Limits::default() });
    let half = -std::f32::consts::LN_2;
    assert_eq!(drawn, Some(Drawn { token: 0, log_probability: half, top: vec![(0, half), (1, half)] }));
}

#[test]
fn log_probabilities_are_of_the_raw_logits_and_on_request() {
    let logits = [0.0, 0.0, f32::NAN, f32::NEG_INFINITY];
    let mut sampler = Sampler::new(Sampling { logit_bias: vec![(1, 50.0)], ..PLAIN }, 4, &[]);
    let drawn = sampler.draw(&logits, Limits { log_probability: true, ..Limits::default() }).unwrap();
    assert_eq!(drawn, Drawn { token: 1, log_probability: -std::f32::consts::LN_2, top: Vec::new() });
    assert!(sampler.draw(&logits, Limits::default()).unwrap().log_probability.is_nan());
    assert_eq!([2, 3, 4].map(|token| log_probability(&logits, token)), [f32::NEG_INFINITY; 3]);
    assert_eq!(top_log_probabilities(&[f32::INFINITY, 1.0, f32::INFINITY], 3)[..2], [(0, -std::f32::consts::LN_2), (2, -std::f32::consts::LN_2)]);
}

#[test]
fn each_stream_draws_its_own_and_the_first_is_the_plain_one() {
    let logits = gaussian(500, 1.0, 5);
    let sequence = |mut sampler: Sampler| [0; 8].map(|_| token(&mut sampler, &logits).unwrap());
    let plain = Sampler::new(PLAIN, 500, &[]);
    let streams = [0, 1, 2].map(|index| sequence(plain.clone().with_stream(index)));
    assert_eq!(sequence(plain), streams[0]);
    assert!(streams[0] != streams[1] && streams[1] != streams[2] && streams[0] != streams[2]);
}

/// On every processor, whatever its vectors and its libm.
#[test]
fn the_draws_of_a_seed_are_these() {
    let logits: Vec<f32> = (0u32..3_000).map(|i| (i.wrapping_mul(2_654_435_761) >> 20) as f32 / 512.0).collect();
    let sequence = |sampling| {
        let mut sampler = Sampler::new(sampling, 3_000, &[]);
        [0; 6].map(|_| token(&mut sampler, &logits).unwrap())
    };
    assert_eq!(sequence(PLAIN), [97, 922, 430, 1634, 817, 2857]);
    assert_eq!(sequence(Sampling { temperature: 0.8, top_p: 0.9, seed: 42, ..PLAIN }), [1584, 1639, 1914, 1215, 110, 1249]);
}

proptest! {
    #[test]
    fn the_same_seed_draws_the_same(seed: u64, logits in prop::collection::vec(-20f32..20.0, 2..200), top_p in 0.05f32..1.0, top_k in 0usize..50, typical_p in 0.1f32..1.2) {
        let sampling = Sampling { seed, top_p, top_k, typical_p, temperature: 0.7, repetition_penalty: 1.2, ..PLAIN };
        prop_assert_eq!(drawn(sampling.clone(), &logits, 20), drawn(sampling, &logits, 20));
    }

    #[test]
    fn only_what_is_allowed_is_drawn(
        logits in prop::collection::vec(prop_oneof![9 => -9f32..9.0, 1 => Just(f32::NAN)], 1..200), words in prop::collection::vec(any::<u32>(), 0..7),
        barred in prop::collection::vec(0u32..220, 0..9), temperature in 0f32..2.0, top_k in 0usize..9, seed: u64,
    ) {
        let limits = Limits { allowed: Some(&words), barred: &barred, ..Limits::default() };
        let may = |token: u32| {
            words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1) && !barred.contains(&token) && !logits[token as usize].is_nan()
        };
        let mut sampler = Sampler::new(Sampling { temperature: if temperature < 0.5 { 0.0 } else { temperature }, top_k, seed, ..PLAIN }, logits.len(), &[]);
        for _ in 0..5 {
            match sampler.draw(&logits, limits) {
                Some(drawn) => prop_assert!(may(drawn.token)),
                None => prop_assert!((0..logits.len() as u32).all(|token| !may(token))),
            }
        }
        prop_assert!(sampler.best(&logits, 300, limits).iter().all(|(token, _)| may(*token)));
    }

    #[test]
    fn top_p_keeps_the_fewest_of_the_likeliest(seed: u64, vocabulary in prop_oneof![1usize..60, 8_000usize..20_000], deviation in 0.0f64..6.0, top_p in 0.0f32..1.0, steps in 1f32..64.0) {
        // In coarse steps, so that there are equals.
        let logits: Vec<f32> = gaussian(vocabulary, deviation, seed).into_iter().map(|logit| (logit * steps).round() / steps).collect();
        let kept = Sampler::new(Sampling { top_p, ..PLAIN }, vocabulary, &[]).distribution(&logits, Limits::default());
        let highest = logits.iter().copied().fold(f32::MIN, f32::max);
        let total: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
        let mut order: Vec<u32> = (0..vocabulary as u32).collect();
        order.sort_by(|a, b| logits[*b as usize].partial_cmp(&logits[*a as usize]).unwrap());
        let (first, _) = order.split_at(kept.len());
        let mut first = first.to_vec();
        let share = |tokens: &[u32]| tokens.iter().map(|token| f64::from(logits[*token as usize] - highest).exp()).sum::<f64>() / total;
        // Within rounding, they reach the share, and without the last they do not.
        prop_assert!(share(&first) >= f64::from(top_p) - 1e-6);
        prop_assert!(first.len() == 1 || share(&first[..first.len() - 1]) <= f64::from(top_p) + 1e-6);
        first.sort_unstable();
        prop_assert!(kept.iter().map(|(token, _)| *token).eq(first));
    }

    #[test]
    fn typical_p_keeps_the_fewest_of_the_most_typical(seed: u64, vocabulary in prop_oneof![1usize..60, 8_000usize..20_000], deviation in 0.0f64..6.0, typical_p in 0.0f32..1.0) {
        let logits = gaussian(vocabulary, deviation, seed);
        let kept = Sampler::new(Sampling { typical_p, ..PLAIN }, vocabulary, &[]).distribution(&logits, Limits::default());
        let log_sum = logits.iter().map(|logit| f64::from(*logit).exp()).sum::<f64>().ln();
        let information: Vec<f64> = logits.iter().map(|logit| log_sum - f64::from(*logit)).collect();
        let entropy: f64 = information.iter().map(|information| information * (-information).exp()).sum();
        let distance = |token: u32| (information[token as usize] - entropy).abs();
        let mut dropped = vec![true; vocabulary];
        kept.iter().for_each(|(token, _)| dropped[*token as usize] = false);
        let farthest = kept.iter().map(|(token, _)| distance(*token)).fold(0.0, f64::max);
        let nearest = (0..vocabulary as u32).filter(|token| dropped[*token as usize]).map(distance).fold(f64::INFINITY, f64::min);
        prop_assert!(farthest <= nearest + 1e-5);
        let share: f64 = kept.iter().map(|(token, _)| (-information[*token as usize]).exp()).sum();
        let last = kept.iter().max_by(|a, b| distance(a.0).total_cmp(&distance(b.0))).unwrap().0;
        prop_assert!(share >= f64::from(typical_p) - 1e-5);
        prop_assert!(kept.len() == 1 || share - (-information[last as usize]).exp() <= f64::from(typical_p) + 1e-5);
    }

    #[test]
    fn greedy_is_the_first_of_the_best(logits in prop::collection::vec((-40i8..40).prop_map(|n| f32::from(n) / 4.0), 1..400), k in 1usize..20, seed: u64) {
        let mut expected: Vec<u32> = (0..logits.len() as u32).collect();
        expected.sort_by(|a, b| logits[*b as usize].partial_cmp(&logits[*a as usize]).unwrap());
        expected.truncate(k);
        let mut greedy = Sampler::new(greedy(), logits.len(), &[]);
        prop_assert_eq!(greedy.best(&logits, k, Limits::default()).into_iter().map(|(token, _)| token).collect::<Vec<_>>(), &expected[..]);
        prop_assert_eq!(token(&mut greedy, &logits), Some(expected[0]));
        prop_assert_eq!(token(&mut Sampler::new(Sampling { top_k: 1, seed, ..PLAIN }, logits.len(), &[]), &logits), Some(expected[0]));
        let mut kept = Sampler::new(Sampling { top_k: k, ..PLAIN }, logits.len(), &[]).distribution(&logits, Limits::default());
        expected.sort_unstable();
        kept.sort_unstable_by_key(|(token, _)| *token);
        // Those that are too unlikely to have a weight are not in the distribution.
        prop_assert!(kept.iter().all(|(token, _)| expected.contains(token)) && kept.len() == expected.len());
    }
}
