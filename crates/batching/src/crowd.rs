//! How many requests are under way at once.

/// Counts requests from when they enter until they are answered or leave, and remembers how many there were at once of late.
///
/// Requesters that wait for their answers before they ask again are back a moment after a batch has ended. Whoever knows how many
/// they are does not begin the next batch with the first of them alone.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    present: usize,
    /// The most that were present since the last batch ended.
    crest: usize,
    /// What the crests before have left; it halves its distance to them with each batch.
    memory: usize,
}

impl Crowd {
    pub(crate) fn enter(&mut self, requests: usize) {
        self.present += requests;
        self.crest = self.crest.max(self.present);
    }

    pub(crate) fn leave(&mut self, requests: usize) {
        self.present = self.present.saturating_sub(requests);
    }

    /// The requests of a batch have been answered.
    pub(crate) fn answered(&mut self, requests: usize) {
        self.leave(requests);
        self.memory = self.crest.max(self.memory.midpoint(self.crest));
        self.crest = self.present;
    }

    /// How many are to be expected at once.
    pub(crate) fn size(&self) -> usize {
        self.crest.max(self.memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_come_back_are_expected_and_those_who_do_not_are_forgotten() {
        let mut crowd = Crowd::default();
        crowd.enter(1);
        assert_eq!(crowd.size(), 1);
        crowd.enter(31);
        // Two batches in turn, whose requesters return: as many are expected as there are, whichever has just ended.
        for _ in 0..4 {
            crowd.answered(16);
            assert_eq!(crowd.size(), 32);
            crowd.enter(16);
        }
        crowd.answered(16);
        // One remains, who asks again and again.
        crowd.answered(15);
        let mut sizes = Vec::new();
        for _ in 0..6 {
            crowd.answered(1);
            crowd.enter(1);
            sizes.push(crowd.size());
        }
        assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
        assert_eq!(sizes.last(), Some(&1), "{sizes:?}");
    }
}
