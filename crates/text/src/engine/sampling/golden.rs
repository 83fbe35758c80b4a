//! Compared with the logits processors of transformers.

use serde::Deserialize;

use super::{
    Drawn, Limits, Sampler, Sampling, log_probability,
    tests::{PLAIN, mask},
    top_log_probabilities,
};

#[derive(Deserialize)]
struct Case {
    sampling: Steps,
    logits: Vec<f32>,
    prompt: Vec<u32>,
    output: Vec<u32>,
    allowed: Option<Vec<u32>>,
    barred: Vec<u32>,
    log_probabilities: Vec<f32>,
    best: Vec<(u32, f32)>,
    probabilities: Vec<(u32, f64)>,
}

#[derive(Deserialize)]
struct Steps {
    logit_bias: Vec<(u32, f32)>,
    repetition_penalty: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    no_repeat_ngram_size: usize,
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    typical_p: f32,
}

impl From<Steps> for Sampling {
    fn from(steps: Steps) -> Self {
        let Steps { logit_bias, repetition_penalty, presence_penalty, frequency_penalty, no_repeat_ngram_size, .. } = steps;
        let Steps { temperature, top_k, top_p, min_p, typical_p, .. } = steps;
        Self {
            logit_bias,
            repetition_penalty,
            presence_penalty,
            frequency_penalty,
            no_repeat_ngram_size,
            temperature,
            top_k,
            top_p,
            min_p,
            typical_p,
            ..PLAIN
        }
    }
}

fn check(case: usize, actual: &[(u32, f32)], golden: &[(u32, f32)]) {
    let tokens = |list: &[(u32, f32)]| list.iter().map(|(token, _)| *token).collect::<Vec<_>>();
    assert_eq!(tokens(actual), tokens(golden), "case {case}");
    for (actual, golden) in actual.iter().zip(golden) {
        assert!((actual.1 - golden.1).abs() < 1e-5, "case {case}: {actual:?} for {golden:?}");
    }
}

#[test]
fn the_steps_agree_with_transformers() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("golden.json")).unwrap();
    assert!(cases.len() >= 40);
    for (number, case) in cases.into_iter().enumerate() {
        let mut sampler = Sampler::new(case.sampling.into(), case.logits.len(), &case.prompt);
        case.output.iter().for_each(|token| sampler.mark(*token));
        let allowed = case.allowed.map(|allowed| mask(&allowed, case.logits.len()));
        let limits = Limits { allowed: allowed.as_deref(), barred: &case.barred, log_probability: true, top: 5 };

        let probabilities: Vec<_> = sampler.distribution(&case.logits, limits).into_iter().map(|(token, p)| (token, p as f32)).collect();
        let golden: Vec<_> = case.probabilities.iter().map(|(token, p)| (*token, *p as f32)).collect();
        check(number, &probabilities, &golden);
        check(number, &sampler.best(&case.logits, case.best.len(), limits), &case.best);

        let mut likeliest: Vec<_> = (0u32..).zip(case.log_probabilities).collect();
        for &(token, golden) in &likeliest {
            assert!((log_probability(&case.logits, token) - golden).abs() < 1e-5, "case {number}, token {token}");
        }
        likeliest.sort_by(|a, b| b.1.total_cmp(&a.1));
        check(number, &top_log_probabilities(&case.logits, 50), &likeliest);
        let Drawn { token, log_probability, top } = sampler.draw(&case.logits, limits).unwrap();
        check(number, &top, &likeliest[..5]);
        assert!(likeliest.iter().any(|(of, golden)| *of == token && (log_probability - golden).abs() < 1e-5), "case {number}");
        assert!(golden.iter().any(|(of, _)| *of == token), "case {number}");
    }
}
