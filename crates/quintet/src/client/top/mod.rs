//! `quintet top`: the load of a running server, from its metrics page.

mod change;
mod exposition;
mod histogram;
mod load;
mod screen;
mod table;
#[cfg(test)]
mod tests;
mod view;

use std::{
    io::{self, IsTerminal},
    pin::pin,
    time::{Duration, Instant},
};

use clap::Args;
use crossterm::event::{Event, EventStream};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::{Stream, StreamExt};

use super::{
    Error,
    output::{print, print_json},
};
use change::Change;
use exposition::Page;
use load::Load;
use screen::Screen;
use view::State;

/// A server that has not answered for so long is taken as unreachable.
const PATIENCE: Duration = Duration::from_secs(10);

/// How to watch.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Read the metrics every so many seconds, 0.1 to 60
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Print the load of one interval and exit, as where standard output is not a terminal
    #[arg(long)]
    once: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 0.1..=60.0) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("must be 0.1 to 60 seconds, not {text}")),
    }
}

/// Shows the load of the server at `address`, whose metrics page `fetch` gets: as a view of the terminal until it is quit,
/// with `json` as an object per interval, and else once as a table.
pub(crate) async fn run<F>(arguments: &Arguments, json: bool, address: &str, fetch: F) -> Result<(), Error>
where
    F: AsyncFn() -> Result<String, Error>,
{
    let mut meter = Meter { address, fetch, before: None };
    if json {
        return objects(arguments, &mut meter, |value| print_json(&value)).await;
    }
    if arguments.once || !io::stdout().is_terminal() {
        return print(&table::text(&meter.once(arguments.interval).await?));
    }
    let mut screen = Screen::open()?;
    let ended = pin!(screen::asked_to_end());
    let shown = watch(arguments.interval, &mut meter, EventStream::new(), |state| screen.draw(address, state));
    tokio::select! { shown = shown => shown, ended = ended => Ok(ended?) }
}

/// Makes loads of readings.
struct Meter<'a, F> {
    address: &'a str,
    fetch: F,
    before: Option<(Instant, Page)>,
}

impl<F: AsyncFn() -> Result<String, Error>> Meter<'_, F> {
    /// Reads once. The load since the reading before; none for the first, and none across a failure.
    async fn read(&mut self) -> Result<Option<Load>, Error> {
        let before = self.before.take();
        let page = timeout(PATIENCE, (self.fetch)()).await.unwrap_or_else(|_| {
            Err(Error::Unreachable { address: self.address.to_owned(), reason: format!("no metrics page within {} s", PATIENCE.as_secs()) })
        })?;
        let at = Instant::now();
        let after = Page::parse(&page)
            .map_err(|malformed| Error::File { path: format!("the metrics page of {}", self.address), reason: malformed.to_string() })?;
        let load = before.map(|(earlier, before)| {
            let seconds = (at - earlier).as_secs_f64().max(1e-3);
            Load::new(self.address, Change { before: &before, after: &after, seconds })
        });
        self.before = Some((at, after));
        Ok(load)
    }

    /// The load of one interval.
    async fn once(&mut self, period: Duration) -> Result<Load, Error> {
        loop {
            if let Some(load) = self.read().await? {
                return Ok(load);
            }
            tokio::time::sleep(period).await;
        }
    }
}

/// Says an object per interval, also where the server cannot be read; of one interval alone that is the command's failure.
async fn objects<F>(arguments: &Arguments, meter: &mut Meter<'_, F>, mut say: impl FnMut(serde_json::Value) -> Result<(), Error>) -> Result<(), Error>
where
    F: AsyncFn() -> Result<String, Error>,
{
    let object = |load: &Load| serde_json::to_value(load).map_err(io::Error::from);
    if arguments.once {
        return say(object(&meter.once(arguments.interval).await?)?);
    }
    let mut ticks = interval(arguments.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match meter.read().await {
            Ok(Some(load)) => say(object(&load)?)?,
            Ok(None) => {}
            Err(error) => say(json!({"address": meter.address, "error": error.to_string()}))?,
        }
    }
}

/// Draws the state at each reading and each event, until one of these quits.
async fn watch<F>(
    period: Duration,
    meter: &mut Meter<'_, F>,
    mut events: impl Stream<Item = io::Result<Event>> + Unpin,
    mut draw: impl FnMut(&State) -> io::Result<()>,
) -> Result<(), Error>
where
    F: AsyncFn() -> Result<String, Error>,
{
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut state = State::Waiting;
    loop {
        draw(&state)?;
        let mut reading = pin!(async {
            ticks.tick().await;
            meter.read().await
        });
        // A reading in progress outlives the events, such as a new size of the terminal.
        let read = loop {
            tokio::select! {
                read = &mut reading => break read,
                event = events.next() => match event.transpose()? {
                    Some(event) if !screen::quits(&event) => draw(&state)?,
                    _ => return Ok(()),
                },
            }
        };
        state = match read {
            Ok(Some(load)) => State::Load(Box::new(load)),
            Ok(None) => State::Waiting,
            Err(error) => State::Failed(error.to_string()),
        };
    }
}
