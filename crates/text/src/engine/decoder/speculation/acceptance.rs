/// How often drafts of one kind were right lately, and so how long the next one should be.
///
/// Counts alone decide, and no clock: what a sequence drafts decides how its tokens are run, and so their last bits.
#[derive(Clone, Debug)]
pub(super) struct Acceptance {
    /// Drafted tokens that were drawn too, and those that were compared with what was drawn; what is long ago counts less.
    accepted: f64,
    judged: f64,
    /// Drafts that were left out since the last, and how many are before one is tried again.
    passed: u32,
    patience: u32,
}

/// How many drafted tokens what is expected beforehand counts for.
const PRIOR: f64 = 4.0;

/// How much of the old is kept with each draft.
const INERTIA: f64 = 0.8;

/// Drafts that are left out before one is tried again, at first and at most.
const PATIENCE: u32 = 8;
const MOST_PATIENCE: u32 = 256;

/// What a verification costs, as shares of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// Of the run itself, because sequences that draft nothing take their step in another.
    pub(super) run: f64,
    /// Of each token.
    pub(super) token: f64,
}

impl Acceptance {
    /// What is expected before anything is known: a drafted token is drawn with this probability.
    pub(super) fn expecting(rate: f64) -> Self {
        Self { accepted: PRIOR * rate, judged: PRIOR, passed: 0, patience: PATIENCE }
    }

    /// The tokens that the next draft should have, at most `most`; 0 where it would save less than it costs.
    ///
    /// A token is of use only if all before it are accepted, so each further one saves a step less often. It is drafted while the
    /// share of a step that it saves is above the share that it costs.
    pub(super) fn length(&self, cost: Cost, most: usize) -> usize {
        let rate = self.accepted / self.judged;
        let (mut length, mut saves, mut gain) = (0, rate, 0.0);
        while length < most && saves > cost.token {
            length += 1;
            gain += saves - cost.token;
            saves *= rate;
        }
        if gain > cost.run { length } else { 0 }
    }

    /// Whether a draft that does not pay is tried all the same, to see whether it would by now: now and then, and ever more rarely.
    pub(super) fn is_tried(&mut self) -> bool {
        self.passed += 1;
        self.passed >= self.patience
    }

    /// Notes how a draft fared.
    pub(super) fn note(&mut self, drafted: usize, accepted: usize) {
        let judged = accepted + usize::from(accepted < drafted);
        self.accepted = self.accepted * INERTIA + accepted as f64;
        self.judged = self.judged * INERTIA + judged as f64;
        let was_trial = self.passed >= self.patience;
        self.patience = match accepted {
            0 if was_trial => (2 * self.patience).min(MOST_PATIENCE),
            0 => self.patience,
            _ => PATIENCE,
        };
        self.passed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Cost = Cost { run: 0.0, token: 0.25 };

    #[test]
    fn drafts_grow_while_they_are_right_and_shrink_where_they_are_not() {
        let mut acceptance = Acceptance::expecting(0.5);
        let mut lengths = Vec::new();
        for _ in 0..5 {
            let length = acceptance.length(COST, 16);
            acceptance.note(length, length);
            lengths.push(length);
        }
        assert_eq!(lengths, [1, 2, 5, 11, 16]);
        let mut lengths = vec![16];
        for _ in 0..20 {
            acceptance.note(16, 0);
            lengths.push(acceptance.length(COST, 16));
        }
        assert!(lengths.is_sorted_by(|longer, shorter| longer >= shorter), "{lengths:?}");
        assert_eq!(lengths.last(), Some(&0), "{lengths:?}");
        assert_eq!(acceptance.length(COST, 0), 0, "where there is no room there is no draft");
    }

    #[test]
    fn a_run_of_its_own_must_be_worth_it() {
        let cost = Cost { run: 0.5, token: 0.3 };
        let lengths = [0.5, 0.6, 0.7, 0.8, 0.9].map(|rate| Acceptance::expecting(rate).length(cost, 16));
        assert_eq!(lengths, [0, 0, 3, 5, 11]);
        assert_eq!(Acceptance::expecting(0.9).length(cost, 1), 1);
        assert_eq!(Acceptance::expecting(0.79).length(cost, 1), 0, "of two or more it would be");
    }

    #[test]
    fn what_is_never_right_is_tried_ever_more_rarely() {
        let mut acceptance = Acceptance::expecting(0.1);
        let mut tried = Vec::new();
        for chance in 0..2000 {
            if acceptance.is_tried() {
                acceptance.note(1, 0);
                tried.push(chance);
            }
        }
        assert!(tried.len() < 16, "{tried:?}");
        let gaps: Vec<i32> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps.last(), Some(&(MOST_PATIENCE as i32)), "{gaps:?}");
    }
}
