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

/// How much of the old is kept with each draft.
const INERTIA: f64 = 0.8;

/// Drafts that are left out before one is tried again, at first and at most.
const PATIENCE: u32 = 8;
const MOST_PATIENCE: u32 = 256;

impl Acceptance {
    /// What is expected before anything is known: a drafted token is drawn with this probability.
    pub(super) fn expecting(rate: f64) -> Self {
        Self { accepted: 2.0 * rate, judged: 2.0, passed: 0, patience: PATIENCE }
    }

    /// The tokens that the next draft should have, at most `most`; 0 = none.
    ///
    /// A token is of use only if all before it are accepted, so each further one saves a step less often. It is drafted while the
    /// share of a step that it saves is above the share that it costs. Where none is, one is tried now and then.
    pub(super) fn length(&mut self, cost: f64, most: usize) -> usize {
        if most == 0 {
            return 0;
        }
        let rate = self.accepted / self.judged;
        let (mut length, mut saves) = (0, rate);
        while length < most && saves > cost {
            length += 1;
            saves *= rate;
        }
        if length > 0 {
            return length;
        }
        self.passed += 1;
        usize::from(self.passed >= self.patience)
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

    #[test]
    fn drafts_grow_while_they_are_right_and_shrink_where_they_are_not() {
        let mut acceptance = Acceptance::expecting(0.5);
        let mut lengths = Vec::new();
        for _ in 0..4 {
            let length = acceptance.length(0.25, 16);
            acceptance.note(length, length);
            lengths.push(length);
        }
        assert_eq!(lengths, [1, 3, 10, 16]);
        let mut lengths = vec![16];
        for _ in 0..20 {
            acceptance.note(16, 0);
            lengths.push(acceptance.length(0.25, 16));
        }
        assert!(lengths.is_sorted_by(|longer, shorter| longer >= shorter), "{lengths:?}");
        assert_eq!(lengths.last(), Some(&0), "{lengths:?}");
        assert_eq!(acceptance.length(0.25, 0), 0, "where there is no room there is no draft");
    }

    #[test]
    fn what_is_never_right_is_tried_ever_more_rarely() {
        let mut acceptance = Acceptance::expecting(0.5);
        let mut drafted = Vec::new();
        for chance in 0..2000 {
            let length = acceptance.length(0.25, 16);
            if length > 0 {
                acceptance.note(length, 0);
                drafted.push(chance);
            }
        }
        assert!(drafted.len() < 16, "{drafted:?}");
        let gaps: Vec<i32> = drafted.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps.last(), Some(&(MOST_PATIENCE as i32)), "{gaps:?}");
        // What has become right is taken up again.
        let mut after = 0;
        while acceptance.length(0.25, 16) < 4 {
            if acceptance.length(0.25, 16) > 0 {
                acceptance.note(1, 1);
            }
            after += 1;
            assert!(after < 1000);
        }
    }
}
