use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::{counter, gauge, histogram};
use quintet_onnx::{Cancel, Error};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Command,
    graphs::{Graphs, Place},
    searches::{Search, Step},
    shape::ModelShape,
    task::{Task, Text, Work},
};
use crate::engine::{
    Generation,
    decode_thread::{DecodeLoop, Start},
    decoder::sequence::{Rank, Times},
    drawing::Drawing,
    guided::Ahead,
};

/// Tokens of a text that there must be memory for when its input is taken up.
const HEADROOM: usize = 32;

/// The decode loop.
pub(super) struct Scheduler {
    graphs: Graphs,
    shape: ModelShape,
    settings: Settings,
    model: String,
    /// The first rows of the caches, without gaps.
    rows: Vec<Row>,
    /// Those that hold rows.
    running: Vec<Task>,
    waiting: Vec<Task>,
    /// Started with the first guided text.
    ahead: Option<Arc<Ahead>>,
    /// Input tokens that came so far: the clock of [`Rank::due`].
    taken: u64,
    came: u64,
}

/// What a row holds.
#[derive(Clone, Copy)]
struct Row {
    /// The number of its task.
    task: u64,
    /// Which of its beams it is.
    beam: usize,
    /// Tokens of the text.
    done: usize,
}

/// How the loop runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// Texts that run at once.
    pub(super) rows: usize,
    /// Bytes of keys and values.
    pub(super) cache_bytes: usize,
    /// The longest time that inputs may be run between two tokens of the others, where there is more than one; zero = no bound.
    pub(super) max_token_gap: Duration,
}

impl DecodeLoop for Scheduler {
    type Command = Command;

    fn take(&mut self, command: Command) {
        match command {
            Command::Raw(at, job) => {
                if let Some(session) = self.graphs.session_mut(at) {
                    session.arm();
                    job(session, &Cancel::nothing());
                }
            }
            Command::Start(Start::Text { mut generation, events, place }) => {
                if generation.constraint.is_some() && self.ahead.is_none() {
                    self.ahead = Ahead::start().map(Arc::new);
                }
                let (vocabulary, eos, start) = (self.graphs.vocabulary(), Arc::clone(&self.shape.eos), self.shape.start);
                // The input counts as a prompt for no penalty: it is another text.
                let drawing = Drawing::new(&mut generation, vocabulary, eos, &[start], self.ahead.clone()).with_forced(self.shape.forced);
                self.enqueue(&generation, Work::Generate(Box::new(Text { tokens: vec![start], drawing, events })), place);
            }
            Command::Start(Start::Search { generation, beams, events, place }) => {
                let ends = (self.shape.start, Arc::clone(&self.shape.eos), self.shape.forced);
                let search = Search::new(&generation, beams, ends, self.graphs.vocabulary(), events);
                self.enqueue(&generation, Work::Search(Box::new(search)), place);
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    fn turn(&mut self) {
        self.drop_abandoned();
        self.admit();
        self.step();
        self.report();
    }

    fn rest(&mut self) {
        self.release_free_rows();
        self.report();
    }
}

impl Scheduler {
    pub(super) fn new(graphs: Graphs, shape: ModelShape, settings: Settings, model: String) -> Self {
        let (rows, running, waiting) = (Vec::new(), Vec::new(), Vec::new());
        Self { graphs, shape, settings, model, rows, running, waiting, ahead: None, taken: 0, came: 0 }
    }

    fn report(&self) {
        let gauge = |name: &'static str, value: usize| gauge!(name, "model" => self.model.clone()).set(value as f64);
        gauge("quintet_text_slots_busy", self.rows.len());
        gauge("quintet_text_kv_bytes", self.graphs.held_bytes());
    }

    fn enqueue(&mut self, generation: &Generation, work: Work, place: OwnedSemaphorePermit) {
        let tokens = generation.prompt.len() as u64;
        counter!("quintet_text_tokens_total", "model" => self.model.clone(), "kind" => "prompt").increment(tokens);
        self.came += 1;
        self.taken += tokens;
        self.waiting.push(Task {
            input: generation.prompt.as_slice().into(),
            scope: Arc::clone(&generation.scope),
            rank: Rank { priority: generation.priority, due: self.taken, number: self.came },
            work,
            place: Some(place),
            cached: 0,
            times: Times::now(),
        });
    }

    /// Frees the rows of texts that nobody waits for.
    fn drop_abandoned(&mut self) {
        self.waiting.retain(|task| !task.is_abandoned());
        let abandoned: Vec<u64> = self.running.iter().filter(|task| task.is_abandoned()).map(|task| task.rank.number).collect();
        for number in abandoned {
            self.leave(number);
        }
    }

    /// Takes a task out of its rows.
    fn leave(&mut self, number: u64) -> Option<Task> {
        for row in (0..self.rows.len()).rev() {
            if self.rows.get(row).is_some_and(|row| row.task == number) {
                self.close(row);
            }
        }
        let at = self.running.iter().position(|task| task.rank.number == number)?;
        Some(self.running.swap_remove(at))
    }

    /// Frees a row. The last one fills the gap.
    fn close(&mut self, row: usize) {
        let Some(last) = self.rows.len().checked_sub(1) else { return };
        if row < last
            && let Some(moved) = self.rows.get(last).copied()
        {
            let input = self.task(moved.task).map_or(0, |task| task.input.len());
            self.graphs.copy_input(last, row, input);
            self.graphs.copy_text(last, row, moved.done);
        }
        self.rows.swap_remove(row);
    }

    fn task(&self, number: u64) -> Option<&Task> {
        self.running.iter().find(|task| task.rank.number == number)
    }

    fn task_mut(&mut self, number: u64) -> Option<&mut Task> {
        self.running.iter_mut().find(|task| task.rank.number == number)
    }

    /// Gives waiting tasks rows, the first in rank first, while there are rows and memory. Where others decode, no longer than the time
    /// between two of their tokens may be.
    fn admit(&mut self) {
        let (began, others) = (Instant::now(), !self.rows.is_empty());
        while let Some(index) = (0..self.waiting.len()).min_by_key(|index| self.waiting.get(*index).map(|task| task.rank)) {
            let Some(next) = self.waiting.get(index) else { return };
            let taken: usize = self.running.iter().map(Task::width).sum();
            if taken + next.width() > self.settings.rows || !self.has_memory(next) {
                return;
            }
            let task = self.waiting.swap_remove(index);
            self.begin(task);
            let bound = self.settings.max_token_gap;
            if others && !bound.is_zero() && began.elapsed() >= bound {
                return;
            }
        }
    }

    /// Whether there is memory for the input and some tokens of one more task. One alone always fits.
    fn has_memory(&self, next: &Task) -> bool {
        let needed = |task: &Task, done: usize| task.width() * self.graphs.bytes(task.input.len(), (done + HEADROOM).min(self.shape.max_tokens));
        let done = |task: &Task| self.rows.iter().find(|row| row.task == task.rank.number).map_or(0, |row| row.done);
        let wanted: usize = self.running.iter().map(|task| needed(task, done(task))).sum();
        self.running.is_empty() || wanted + needed(next, 0) <= self.settings.cache_bytes
    }

    /// Runs a task's input, or finds it in another row, and puts the task behind the others.
    fn begin(&mut self, mut task: Task) {
        let row = self.rows.len();
        drop(task.place.take());
        if task.times.started.is_none() {
            task.times.started = Some(Instant::now());
            histogram!("quintet_text_queue_seconds", "model" => self.model.clone()).record(task.times.came.elapsed());
        }
        let needed = self.graphs.bytes(task.input.len(), 1).saturating_sub(self.graphs.held_by(row));
        if self.graphs.held_bytes() + needed > self.settings.cache_bytes {
            self.release_free_rows();
        }
        let is_same = |other: &Task| other.scope == task.scope && other.input == task.input;
        let same = self.rows.iter().position(|row| self.task(row.task).is_some_and(is_same));
        let outcome = match same {
            Some(other) => {
                self.graphs.copy_input(other, row, task.input.len());
                Ok(())
            }
            None => self.graphs.encode(row, &task.input),
        };
        if let Err(error) = outcome {
            tracing::error!(%error, model = self.model, "an input's run failed");
            task.fail(error);
            return;
        }
        if task.times.first_token.is_none() {
            task.cached = if same.is_some() { task.input.len() } else { 0 };
        }
        self.rows.push(Row { task: task.rank.number, beam: 0, done: 0 });
        self.running.push(task);
    }

    fn release_free_rows(&mut self) {
        for row in self.rows.len()..self.settings.rows {
            self.graphs.release(row);
        }
    }

    /// Gives back the memory of free rows, and in the others what earlier texts left behind those that have them now.
    fn trim_rows(&mut self) {
        self.release_free_rows();
        for (at, row) in self.rows.iter().enumerate() {
            if let Some(task) = self.running.iter().find(|task| task.rank.number == row.task) {
                self.graphs.trim(at, task.input.len(), row.done);
            }
        }
    }

    /// Makes memory for the tokens that a step adds: what earlier texts hold still, then that of the task that is last in rank, which begins anew
    /// later.
    fn make_room(&mut self) {
        let needed = |scheduler: &Self| {
            let grows = |(row, text): &(usize, &Row)| {
                let input = scheduler.task(text.task).map_or(0, |task| task.input.len());
                scheduler.graphs.bytes(input, text.done + 1).saturating_sub(scheduler.graphs.held_by(*row))
            };
            scheduler.rows.iter().enumerate().map(|row| grows(&row)).sum::<usize>()
        };
        if self.graphs.held_bytes() + needed(self) <= self.settings.cache_bytes {
            return;
        }
        self.trim_rows();
        while self.graphs.held_bytes() + needed(self) > self.settings.cache_bytes {
            let Some(last) = self.running.iter().max_by_key(|task| task.rank).map(|task| task.rank.number) else { return };
            let is_alone = self.running.len() == 1;
            if is_alone && self.rows.len() == 1 {
                return;
            }
            let Some(mut task) = self.leave(last) else { return };
            self.trim_rows();
            if is_alone {
                let message = "its beams together do not fit text.kv_cache_mb".to_owned();
                task.fail(Error::Runtime { doing: "search".to_owned(), message });
                return;
            }
            counter!("quintet_text_preemptions_total", "model" => self.model.clone()).increment(1);
            task.restart();
            self.waiting.push(task);
        }
    }

    /// Runs the next token of every text.
    fn step(&mut self) {
        self.make_room();
        let place = |row: &Row| {
            let task = self.task(row.task)?;
            Some(Place { token: task.token(row.beam, row.done)?, past: row.done, input: task.input.len() })
        };
        let places: Vec<Place> = self.rows.iter().filter_map(place).collect();
        if places.is_empty() {
            return;
        }
        histogram!("quintet_text_batch_size", "model" => self.model.clone()).record(places.len() as f64);
        let Self { graphs, rows, running, model, .. } = self;
        let mut ended = Vec::new();
        let outcome = graphs.step(&places, |at, logits| {
            let Some(row) = rows.get_mut(at) else { return };
            row.done += 1;
            let task = running.iter_mut().find(|task| task.rank.number == row.task);
            if task.is_some_and(|task| task.advance(row.beam, row.done, logits, model)) {
                ended.push(row.task);
            }
        });
        if let Err(error) = outcome {
            // Every text that was in this run has lost its place in the caches.
            tracing::error!(%error, model = self.model, "a decode step failed");
            self.rows.clear();
            for task in std::mem::take(&mut self.running) {
                task.fail(Error::Runtime { doing: "decode".to_owned(), message: error.to_string() });
            }
            return;
        }
        for number in ended {
            self.leave(number);
        }
        self.advance_searches();
    }

    /// Takes a step in each search: all its beams were in the run.
    fn advance_searches(&mut self) {
        let is_search = |task: &&Task| matches!(task.work, Work::Search(_));
        let searches: Vec<u64> = self.running.iter().filter(is_search).map(|task| task.rank.number).collect();
        for number in searches {
            let Some(Task { work: Work::Search(search), times, .. }) = self.task_mut(number) else { continue };
            let step = search.advance();
            let now = Instant::now();
            times.first_token.get_or_insert(now);
            match step {
                Ok(Step::Beams(parents)) => self.rearrange(number, &parents),
                Ok(Step::Done) => {
                    if let Some(Task { work: Work::Search(search), cached, times, .. }) = self.leave(number) {
                        search.finish(cached, times);
                    }
                }
                Err(error) => {
                    if let Some(task) = self.leave(number) {
                        task.fail(error);
                    }
                }
            }
        }
    }

    /// Gives the beams that come next rows: the first child of a beam stays in its parent's, the others take rows of beams without
    /// children, or new ones, which are the search's by its width.
    fn rearrange(&mut self, number: u64, parents: &[usize]) {
        let mut old: Vec<(usize, usize)> =
            self.rows.iter().enumerate().filter(|(_, row)| row.task == number).map(|(at, row)| (row.beam, at)).collect();
        old.sort_unstable();
        let row_of = |parent: &usize| old.iter().find(|(beam, _)| beam == parent).map(|(_, at)| *at);
        let mut spare: Vec<usize> = old.iter().filter(|(beam, _)| !parents.contains(beam)).map(|(_, at)| *at).collect();
        let input = self.task(number).map_or(0, |task| task.input.len());
        for (beam, parent) in parents.iter().enumerate() {
            let Some(from) = row_of(parent) else { continue };
            let Some(done) = self.rows.get(from).map(|row| row.done) else { continue };
            let is_first = parents.iter().position(|other| other == parent) == Some(beam);
            let to = if is_first {
                from
            } else if let Some(row) = spare.pop() {
                self.graphs.copy_text(from, row, done);
                row
            } else {
                let row = self.rows.len();
                self.graphs.copy_input(from, row, input);
                self.graphs.copy_text(from, row, done);
                self.rows.push(Row { task: number, beam, done });
                row
            };
            if let Some(row) = self.rows.get_mut(to) {
                *row = Row { task: number, beam, done };
            }
        }
        // From the last on: a gap is filled from the end.
        spare.sort_unstable();
        for row in spare.into_iter().rev() {
            self.close(row);
        }
    }
}
