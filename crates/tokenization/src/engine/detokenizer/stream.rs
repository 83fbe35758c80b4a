use super::Detokenizer;

/// A text that is still being decoded.
#[derive(Debug)]
pub(crate) struct Stream {
    skip_special_tokens: bool,
    started: bool,
    /// Bytes that are not yet a whole character: three at most between steps.
    pending: Vec<u8>,
    /// How often the edge character has been taken off; None = the edge is past.
    edge: Option<usize>,
    /// The last id, where it may be another as the last.
    held: Option<u32>,
    /// All ids, where they can only be decoded together.
    all: Vec<u32>,
}

impl Stream {
    /// An empty text.
    pub(crate) fn new(skip_special_tokens: bool) -> Self {
        Self { skip_special_tokens, started: false, pending: Vec::new(), edge: Some(0), held: None, all: Vec::new() }
    }

    /// How many ids are held back because they can only be decoded together.
    pub(crate) fn held(&self) -> usize {
        self.all.len()
    }

    /// Adds ids and gives the text that became whole. Ids outside the vocabulary add nothing.
    pub(crate) fn push(&mut self, detokenizer: &Detokenizer, ids: &[u32]) -> String {
        let skip = self.skip_special_tokens;
        let mut ids = ids.iter().copied().filter(|&id| !(skip && detokenizer.is_special(id)));
        if detokenizer.holds_all() {
            self.all.extend(ids);
            return String::new();
        }
        if detokenizer.holds_last {
            for id in ids {
                if let Some(id) = self.held.replace(id) {
                    self.add(detokenizer, id);
                }
            }
        } else {
            ids.by_ref().for_each(|id| self.add(detokenizer, id));
        }
        let text = self.whole_characters();
        self.past_edge(detokenizer, text)
    }

    /// Ends the text and gives what was held back.
    pub(crate) fn finish(mut self, detokenizer: &Detokenizer) -> Result<String, String> {
        if let Some(whole) = &detokenizer.whole {
            return whole(&self.all);
        }
        if let Some(entry) = self.held.and_then(|id| detokenizer.entries.get(id as usize)) {
            self.pending.extend_from_slice(detokenizer.slice(&entry.last));
        }
        let mut text = self.whole_characters();
        if !self.pending.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        Ok(self.past_edge(detokenizer, text))
    }

    /// Ends the text with these ids and gives its bytes, where nothing has been given of it yet.
    pub(crate) fn bytes(mut self, detokenizer: &Detokenizer, ids: &[u32]) -> Result<Vec<u8>, String> {
        if let Some(whole) = &detokenizer.whole {
            let kept: Vec<u32> = ids.iter().copied().filter(|&id| !(self.skip_special_tokens && detokenizer.is_special(id))).collect();
            return whole(&kept).map(String::into_bytes);
        }
        let skip = self.skip_special_tokens;
        let mut last = None;
        for id in ids.iter().copied().filter(|&id| !(skip && detokenizer.is_special(id))) {
            if let Some(id) = last.replace(id) {
                self.add(detokenizer, id);
            }
        }
        match last.and_then(|id| detokenizer.entries.get(id as usize)) {
            Some(entry) if detokenizer.holds_last => self.pending.extend_from_slice(detokenizer.slice(&entry.last)),
            _ => last.into_iter().for_each(|id| self.add(detokenizer, id)),
        }
        self.close_edge(detokenizer);
        Ok(self.pending)
    }

    /// Takes off the pending bytes what the start of the text loses, and nothing off what follows.
    fn close_edge(&mut self, detokenizer: &Detokenizer) {
        let (Some(mut taken), Some(edge)) = (self.edge.take(), detokenizer.edge) else { return };
        let mut encoded = [0; 4];
        let content = edge.content.encode_utf8(&mut encoded).as_bytes();
        let mut rest = self.pending.as_slice();
        while taken < edge.at_most
            && let Some(shorter) = rest.strip_prefix(content)
        {
            (rest, taken) = (shorter, taken + 1);
        }
        self.pending = rest.to_vec();
    }

    fn add(&mut self, detokenizer: &Detokenizer, id: u32) {
        if let Some(entry) = detokenizer.entries.get(id as usize) {
            if entry.ends_edge {
                self.close_edge(detokenizer);
            }
            let range = if self.started { &entry.rest } else { &entry.first };
            self.started = true;
            self.pending.extend_from_slice(detokenizer.slice(range));
        }
    }

    /// Takes all but an unfinished character off the pending bytes.
    fn whole_characters(&mut self) -> String {
        let pending = std::mem::take(&mut self.pending);
        let mut text = match String::from_utf8(pending) {
            Ok(text) => return text,
            Err(error) => {
                self.pending = error.into_bytes();
                String::with_capacity(self.pending.len())
            }
        };
        let mut done = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            if chunk.invalid().is_empty() {
                break;
            }
            // At the end, bytes that more bytes could complete are no fault yet.
            let at_end = done + chunk.invalid().len() == self.pending.len();
            if at_end && std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none()) {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            done += chunk.invalid().len();
        }
        self.pending.drain(..done);
        text
    }

    /// Takes off what the start of the text loses.
    fn past_edge(&mut self, detokenizer: &Detokenizer, text: String) -> String {
        let (Some(mut taken), Some(edge)) = (self.edge, detokenizer.edge) else { return text };
        let mut rest = text.as_str();
        while taken < edge.at_most
            && let Some(shorter) = rest.strip_prefix(edge.content)
        {
            (rest, taken) = (shorter, taken + 1);
        }
        self.edge = (rest.is_empty() && taken < edge.at_most).then_some(taken);
        rest.to_owned()
    }
}
