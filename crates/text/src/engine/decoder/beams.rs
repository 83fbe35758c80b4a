use std::sync::Arc;

/// What a beam search is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beams {
    /// Texts that are followed at once.
    pub width: usize,
    /// The power of a text's length by which its score is divided.
    pub length_penalty: f32,
    /// When the search ends.
    pub stopping: BeamStopping,
}

/// When a beam search ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeamStopping {
    /// When there are as many whole texts as beams and the best beam, were it to end now, would not be better than the worst of them.
    Estimate,
    /// As soon as there are as many whole texts as beams.
    First,
    /// Only when no beam could become better.
    Never,
}

/// A beam search as transformers' `generate` has it: the beams, and the whole texts that they have given so far.
#[derive(Clone, Debug)]
pub(in crate::engine) struct BeamSearch {
    asked: Beams,
    eos: Arc<[u32]>,
    most: usize,
    running: Vec<Running>,
    whole: Vec<Whole>,
    /// Whether a beam could still be better than the worst whole text.
    can_improve: bool,
}

/// A text under way.
#[derive(Clone, Debug, Default)]
struct Running {
    tokens: Vec<(u32, f32)>,
    sum: f64,
}

/// A text that has ended.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Whole {
    /// Its tokens with their log-probabilities, without the end-of-text token.
    pub(in crate::engine) tokens: Vec<(u32, f32)>,
    /// Whether it ended by itself.
    pub(in crate::engine) by_eos: bool,
    score: f64,
}

/// What comes after a step.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine) enum Next {
    /// These beams: each one's parent and its new token.
    Beams(Vec<(usize, u32)>),
    /// Nothing: the search is over.
    Done,
}

impl BeamSearch {
    /// A search for texts of at most so many tokens.
    pub(in crate::engine) fn new(asked: Beams, eos: Arc<[u32]>, most: usize) -> Self {
        Self { asked, eos, most, running: vec![Running::default()], whole: Vec::new(), can_improve: true }
    }

    /// How many of the likeliest tokens of each beam a step needs: so many that enough are left when all ends are taken out.
    pub(in crate::engine) fn candidates(&self) -> usize {
        (1 + self.eos.len()).max(2) * self.asked.width
    }

    /// Takes a step: for each beam its likeliest tokens with their log-probabilities.
    pub(in crate::engine) fn advance(&mut self, candidates: &[Vec<(u32, f32)>]) -> Next {
        let mut ranked: Vec<(f64, usize, u32, f32)> = Vec::new();
        for (parent, (beam, candidates)) in self.running.iter().zip(candidates).enumerate() {
            ranked.extend(candidates.iter().map(|(token, log)| (beam.sum + f64::from(*log), parent, *token, *log)));
        }
        // Equals in the order of beam and token, so that the search is one function of the logits.
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        ranked.truncate(self.candidates());

        let length = self.running.first().map_or(0, |beam| beam.tokens.len()) + 1;
        let ends = |token: u32| self.eos.contains(&token) || length >= self.most;
        let is_full = self.whole.len() >= self.asked.width;
        if self.can_improve && !(is_full && self.asked.stopping == BeamStopping::First) {
            for (sum, parent, token, log) in ranked.iter().take(self.asked.width).filter(|(_, _, token, _)| ends(*token)) {
                let mut tokens = self.running.get(*parent).map(|beam| beam.tokens.clone()).unwrap_or_default();
                let by_eos = self.eos.contains(token);
                if !by_eos {
                    tokens.push((*token, *log));
                }
                self.whole.push(Whole { tokens, by_eos, score: self.normalised(*sum, length) });
            }
            self.whole.sort_by(|a, b| b.score.total_cmp(&a.score));
            self.whole.truncate(self.asked.width);
        }

        let next: Vec<_> = ranked.into_iter().filter(|(_, _, token, _)| !ends(*token)).take(self.asked.width).collect();
        let extended = |(sum, parent, token, log): &(f64, usize, u32, f32)| {
            let mut tokens = self.running.get(*parent).map(|beam| beam.tokens.clone()).unwrap_or_default();
            tokens.push((*token, *log));
            Running { tokens, sum: *sum }
        };
        self.running = next.iter().map(extended).collect();
        let reached = if self.asked.stopping == BeamStopping::Never && self.asked.length_penalty > 0.0 { self.most } else { length };
        let best = self.running.first().map(|beam| self.normalised(beam.sum, reached));
        let is_full = self.whole.len() >= self.asked.width;
        let worst = if is_full { self.whole.last().map_or(f64::NEG_INFINITY, |whole| whole.score) } else { f64::NEG_INFINITY };
        self.can_improve &= best.is_some_and(|best| best > worst);
        if next.is_empty() || !self.can_improve || is_full && self.asked.stopping == BeamStopping::First {
            return Next::Done;
        }
        Next::Beams(next.into_iter().map(|(_, parent, token, _)| (parent, token)).collect())
    }

    fn normalised(&self, sum: f64, length: usize) -> f64 {
        sum / (length as f64).powf(f64::from(self.asked.length_penalty))
    }

    /// The `n` best whole texts, the best first. Where there are fewer, the last stands for those that are missing too; where there is
    /// none at all, nothing.
    pub(in crate::engine) fn best(mut self, n: usize) -> Vec<Whole> {
        if let Some(last) = self.whole.last().cloned() {
            self.whole.resize(n, last);
        }
        self.whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A language of three tokens, of which 0 ends a text, with the same probabilities everywhere.
    fn search(asked: Beams, most: usize, probabilities: [f32; 3]) -> Vec<Whole> {
        let mut search = BeamSearch::new(asked, Arc::new([0]), most);
        let candidates: Vec<(u32, f32)> = (0..).zip(probabilities.map(f32::ln)).collect();
        let mut beams = 1;
        while let Next::Beams(next) = search.advance(&vec![candidates.clone(); beams]) {
            beams = next.len();
            assert!(beams <= asked.width);
        }
        search.best(asked.width)
    }

    fn ids(whole: &Whole) -> Vec<u32> {
        whole.tokens.iter().map(|(token, _)| *token).collect()
    }

    #[test]
    fn length_penalties_favour_long_and_short_texts() {
        let beams = |length_penalty| Beams { width: 2, length_penalty, stopping: BeamStopping::Never };
        let probabilities = [0.3, 0.6, 0.1];
        let long = search(beams(2.0), 5, probabilities);
        assert_eq!(ids(&long[0]), [1; 5], "the sum divided by the square of the length is best for the longest");
        let short = search(beams(0.0), 5, probabilities);
        assert_eq!((ids(&short[0]), short[0].by_eos), (vec![], true), "the likeliest text of all is the empty one");
        assert!((short[0].score - f64::from(0.3f32.ln())).abs() < 1e-6);
    }

    #[test]
    fn the_first_whole_texts_end_the_search_where_asked() {
        let first = search(Beams { width: 2, length_penalty: 1.0, stopping: BeamStopping::First }, 50, [0.45, 0.5, 0.05]);
        assert_eq!(first.len(), 2);
        assert!(first.iter().all(|whole| whole.by_eos && whole.tokens.len() <= 2), "{first:?}");
        let never = search(Beams { width: 2, length_penalty: 1.0, stopping: BeamStopping::Never }, 50, [0.45, 0.5, 0.05]);
        assert_eq!(ids(&never[0]).len(), 50);
    }

    #[test]
    fn the_last_whole_text_stands_for_those_that_are_missing() {
        let mut search = BeamSearch::new(Beams { width: 3, length_penalty: 1.0, stopping: BeamStopping::Estimate }, Arc::new([0]), 2);
        assert_eq!(search.clone().best(3).len(), 0);
        // A bias or a rule against repetition may leave fewer tokens than there are to be beams.
        assert_eq!(search.advance(&[vec![(1, -0.5), (0, -1.0)]]), Next::Beams(vec![(0, 1)]));
        assert_eq!(search.advance(&[vec![(2, -0.5)]]), Next::Done);
        assert_eq!(search.best(4).iter().map(ids).collect::<Vec<_>>(), [vec![1, 2], vec![], vec![], vec![]]);
    }

    #[test]
    fn at_the_length_limit_what_runs_is_whole() {
        let whole = search(Beams { width: 3, length_penalty: 1.0, stopping: BeamStopping::Estimate }, 2, [0.0, 0.7, 0.3]);
        assert_eq!(whole.iter().map(ids).collect::<Vec<_>>(), [[1, 1], [1, 2], [2, 1]]);
        assert!(whole.iter().all(|whole| !whole.by_eos));
    }
}
