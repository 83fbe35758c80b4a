//! The thread that an engine's decode loop has for itself, and how others speak to it.

use std::{
    fmt,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use quintet_onnx::{Error as OnnxError, Full, give_memory_back};
use quintet_open_inference::Job;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{Event, Generation, Queue, decoder::Beams, generation::events};
use crate::Error;

/// How long nothing must have been asked before a loop gives back memory that it does not need.
const IDLE: Duration = Duration::from_secs(10);

/// Commands for raw runs that may wait beside the texts'.
const RAW: usize = 16;

/// A text, or several, that is to be generated.
pub(super) enum Start {
    Text { generation: Box<Generation>, events: mpsc::Sender<Event>, place: OwnedSemaphorePermit },
    Search { generation: Box<Generation>, beams: Beams, events: Vec<mpsc::Sender<Event>>, place: OwnedSemaphorePermit },
}

/// A loop that takes commands between its turns, each of which moves all that is under way on by a step.
pub(super) trait DecodeLoop {
    type Command;

    fn take(&mut self, command: Self::Command);

    /// Whether a turn would do nothing.
    fn is_idle(&self) -> bool;

    fn turn(&mut self);

    /// Nothing has been asked for a while: gives back what is not needed.
    fn rest(&mut self);
}

/// A running loop. It ends with this, when all that it has taken has ended.
pub(super) struct DecodeThread<C> {
    commands: Option<Arc<SyncSender<C>>>,
    thread: Option<JoinHandle<()>>,
    queue: Queue,
}

impl<C> fmt::Debug for DecodeThread<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodeThread").field("thread", &self.thread).field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl<C: From<Start> + Send + 'static> DecodeThread<C> {
    /// Starts the loop that `open` makes on its thread, and gives what `open` says of it. At most `waiting` texts wait for it.
    pub(super) fn start<L, I>(name: &str, waiting: usize, open: impl FnOnce() -> Result<(L, I), Error> + Send + 'static) -> Result<(Self, I), Error>
    where
        L: DecodeLoop<Command = C>,
        I: Send + 'static,
    {
        // Room for every waiting text and a few raw runs; places are taken before, so this never fills.
        let (commands, queue) = sync_channel(waiting + RAW);
        let (opened, ready) = sync_channel::<Result<I, Error>>(1);
        let body = move || match open() {
            Ok((mut decode_loop, info)) => {
                if opened.send(Ok(info)).is_ok() {
                    run(&mut decode_loop, &queue);
                }
            }
            Err(error) => drop(opened.send(Err(error))),
        };
        let lost = || OnnxError::Thread(name.to_owned());
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|_| lost())?;
        let info = ready.recv().unwrap_or_else(|_| Err(lost().into()))?;
        Ok((Self { commands: Some(Arc::new(commands)), thread: Some(thread), queue: Queue::new(waiting) }, info))
    }

    /// Starts a text. Dropping the receiver ends it.
    pub(super) fn generate(&self, generation: Generation) -> Result<mpsc::Receiver<Event>, Error> {
        let place = self.enter()?;
        let (sender, receiver) = events(generation.max_new_tokens);
        self.send(Start::Text { generation: Box::new(generation), events: sender, place })?;
        Ok(receiver)
    }

    /// Starts a search that gives its `n` best texts, each in a channel of its own. Dropping all receivers ends it.
    pub(super) fn search(&self, generation: Generation, beams: Beams, n: usize) -> Result<Vec<mpsc::Receiver<Event>>, Error> {
        let place = self.enter()?;
        let (senders, receivers) = (0..n).map(|_| events(generation.max_new_tokens)).unzip();
        self.send(Start::Search { generation: Box::new(generation), beams, events: senders, place })?;
        Ok(receivers)
    }

    /// A place in the waiting room.
    pub(super) fn enter(&self) -> Result<OwnedSemaphorePermit, Error> {
        self.queue.enter()
    }

    pub(super) fn send(&self, command: impl Into<C>) -> Result<(), Error> {
        self.commands.as_ref().ok_or(Error::Ended)?.try_send(command.into()).map_err(|error| match error {
            TrySendError::Full(_) => Error::Full { waiting: 0, limit: 0, unit: "commands" },
            TrySendError::Disconnected(_) => Error::Ended,
        })
    }

    /// What hands raw runs to the thread. It does not keep the thread from ending.
    pub(super) fn raw(&self, command: impl Fn(Job) -> C + Send + Sync + 'static) -> impl Fn(Job) -> Result<(), Full> + Send + Sync + 'static {
        let commands = self.commands.as_ref().map(Arc::downgrade).unwrap_or_default();
        move |job| commands.upgrade().ok_or(Full)?.try_send(command(job)).map_err(|_| Full)
    }
}

/// Runs until every sender of commands is gone and all that was taken has ended.
fn run<L: DecodeLoop>(decode_loop: &mut L, commands: &Receiver<L::Command>) {
    let mut open = true;
    loop {
        // Where nothing runs there is nothing to do but wait.
        if open && decode_loop.is_idle() {
            match commands.recv_timeout(IDLE) {
                Ok(command) => decode_loop.take(command),
                Err(RecvTimeoutError::Disconnected) => open = false,
                Err(RecvTimeoutError::Timeout) => {
                    decode_loop.rest();
                    give_memory_back();
                    match commands.recv() {
                        Ok(command) => decode_loop.take(command),
                        Err(_) => open = false,
                    }
                }
            }
        }
        while open {
            match commands.try_recv() {
                Ok(command) => decode_loop.take(command),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => open = false,
            }
        }
        if !open && decode_loop.is_idle() {
            return;
        }
        decode_loop.turn();
    }
}

impl<C> Drop for DecodeThread<C> {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a decode loop's thread panicked");
        }
    }
}
