use std::{cell::Cell, collections::VecDeque};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::{Terminal, backend::TestBackend};

use super::*;

/// Two readings of a server, two seconds apart.
const BEFORE: &str = "\
quintet_rpc_requests_total{service=\"quintet.text.v1.TextService\",method=\"Generate\",code=\"OK\"} 10
quintet_batch_reclaimed_requests_total{model=\"glyphs\",stage=\"queued\"} 1
quintet_batch_reclaimed_requests_total{model=\"glyphs\",stage=\"running\"} 0
quintet_cache_hits_total{service=\"s\",method=\"m\"} 6
quintet_energy_joules_total{source=\"gpu0\"} 1000
";
const AFTER: &str = "\
# TYPE quintet_rpc_requests_total counter
quintet_rpc_requests_total{service=\"quintet.text.v1.TextService\",method=\"Generate\",code=\"OK\"} 13
quintet_rpc_requests_total{service=\"quintet.image.v1.ImageService\",method=\"Generate\",code=\"OK\"} 24
quintet_rpc_requests_total{service=\"quintet.image.v1.ImageService\",method=\"Generate\",code=\"INTERNAL\"} 1
quintet_rpc_duration_seconds_bucket{service=\"quintet.image.v1.ImageService\",method=\"Generate\",le=\"0.01\"} 0
quintet_rpc_duration_seconds_bucket{service=\"quintet.image.v1.ImageService\",method=\"Generate\",le=\"0.02\"} 20
quintet_rpc_duration_seconds_bucket{service=\"quintet.image.v1.ImageService\",method=\"Generate\",le=\"+Inf\"} 25
quintet_rpc_duration_seconds_sum{service=\"quintet.image.v1.ImageService\",method=\"Generate\"} 1
quintet_rpc_duration_seconds_count{service=\"quintet.image.v1.ImageService\",method=\"Generate\"} 25
quintet_rpc_in_flight 3
quintet_connections 2
quintet_batch_rows_size_bucket{model=\"glyphs\",le=\"+Inf\"} 10
quintet_batch_rows_size_sum{model=\"glyphs\"} 75
quintet_batch_rows_size_count{model=\"glyphs\"} 10
quintet_batch_run_seconds_sum{model=\"glyphs\"} 0.123
quintet_batch_run_seconds_count{model=\"glyphs\"} 10
quintet_batch_queue_depth{model=\"glyphs\"} 4
quintet_batch_reclaimed_requests_total{model=\"glyphs\",stage=\"queued\"} 2
quintet_batch_reclaimed_requests_total{model=\"glyphs\",stage=\"running\"} 2
quintet_text_tokens_total{model=\"psalms\",kind=\"prompt\"} 40
quintet_text_tokens_total{model=\"psalms\",kind=\"completion\"} 400
quintet_text_slots_busy{model=\"psalms\"} 5
quintet_cache_hits_total{service=\"s\",method=\"m\"} 9
quintet_cache_misses_total{service=\"s\",method=\"m\"} 1
quintet_energy_joules_total{source=\"gpu0\"} 1142
quintet_device_memory_bytes{source=\"gpu0\"} 3221225472
";

fn load() -> Load {
    Load::new("here:1", Change { before: &Page::parse(BEFORE).unwrap(), after: &Page::parse(AFTER).unwrap(), seconds: 2.0 })
}

/// What a screen of this size shows.
fn screen(width: u16, height: u16, state: &State) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, "here:1", state)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |row: u16| (0..width).map(|column| buffer[(column, row)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

/// The words of the line that begins with one.
fn cells<'a>(lines: impl IntoIterator<Item = &'a str>, first: &str) -> Vec<&'a str> {
    lines.into_iter().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|words| words.first() == Some(&first)).unwrap_or_default()
}

/// A meter whose server gives these pages, then is gone.
fn meter(pages: &[&str]) -> Meter<'static, impl AsyncFn() -> Result<String, Error> + use<>> {
    let pages: Cell<VecDeque<String>> = Cell::new(pages.iter().map(ToString::to_string).collect());
    let fetch = async move || {
        let mut left = pages.take();
        let page = left.pop_front();
        pages.set(left);
        page.ok_or_else(|| Error::Unreachable { address: "here:1".to_owned(), reason: "refused".to_owned() })
    };
    Meter { address: "here:1", fetch, before: None }
}

#[test]
fn a_load_is_the_difference_of_two_readings() {
    let load = load();
    assert_eq!((load.requests_per_second, load.errors_per_second), (Some(14.0), Some(0.5)));
    assert_eq!((load.in_flight, load.connections, load.cache_hit_share), (Some(3.0), Some(2.0), Some(0.75)));
    assert_eq!(load.watts["gpu0"], 71.0);
    let image = &load.rpcs[0];
    assert_eq!((image.service.as_str(), image.requests_per_second, image.errors_per_second), ("quintet.image.v1.ImageService", 12.5, 0.5));
    // Rank 12.5 of the 20 in (10, 20] ms; rank 24.75 is beyond the last bound.
    assert!((image.p50_ms.unwrap() - 16.25).abs() < 1e-9);
    assert!((image.p99_ms.unwrap() - 20.0).abs() < 1e-9);
    assert_eq!((load.rpcs[1].requests_per_second, load.rpcs[1].p50_ms), (1.5, None));
    let [text, image] = load.models.as_slice() else { panic!("{:?}", load.models) };
    assert_eq!((text.name.as_str(), text.tokens_per_second, text.slots_busy, text.rows_per_second), ("psalms", Some(200.0), Some(5.0), None));
    assert_eq!((image.batches_per_second, image.rows_per_batch, image.rows_per_second), (Some(5.0), Some(7.5), Some(37.5)));
    assert_eq!((image.queue_depth, image.queue_p99_ms, image.reclaimed_per_second), (Some(4.0), None, Some(1.5)));
    assert!((image.run_mean_ms.unwrap() - 12.3).abs() < 1e-9);
}

#[test]
fn the_screen_shows_the_load() {
    let lines = screen(100, 14, &State::Load(Box::new(load())));
    assert_eq!(lines[0], "here:1   3 in flight   2 connections   14 requests/s   0.50 errors/s   75 % cache hits");
    assert_eq!(lines[1], "gpu0 71 W   gpu0 3.0 GiB");
    assert!(lines[2].starts_with("rpcs──"), "{lines:#?}");
    assert_eq!(lines[3], "method                 requests/s  errors/s  p50 ms  p99 ms");
    assert_eq!(lines[4], "ImageService/Generate        12.5      0.50    16.2      20");
    assert_eq!(lines[5], "TextService/Generate         1.50         0       -       -");
    assert!(lines[6].starts_with("models──"), "{lines:#?}");
    assert_eq!(lines[7], "model   batches/s  rows/batch  queue  run ms  rows/s  reclaimed/s  tokens/s  slots");
    assert_eq!(cells(lines.iter().map(String::as_str), "psalms"), ["psalms", "-", "-", "-", "-", "-", "-", "200", "5"]);
    assert_eq!(cells(lines.iter().map(String::as_str), "glyphs"), ["glyphs", "5", "7.50", "4", "12.3", "37.5", "1.50", "-", "-"]);
    assert_eq!(lines[13], "q quits");
}

#[test]
fn a_small_screen_says_what_it_leaves_out() {
    let lines = screen(100, 9, &State::Load(Box::new(load())));
    assert!(lines[2].starts_with("rpcs (1 of 2)─"), "{lines:#?}");
    assert!(lines[4].starts_with("ImageService/Generate"), "{lines:#?}");
    for (width, height) in [(1, 1), (3, 2), (10, 4), (300, 3)] {
        screen(width, height, &State::Load(Box::new(load())));
    }
}

#[test]
fn the_screen_says_why_there_is_no_load() {
    assert_eq!(screen(40, 3, &State::Waiting)[0], "here:1   reading");
    assert_eq!(screen(40, 3, &State::Failed("no service answers".to_owned()))[0], "no service answers");
    let long = screen(14, 4, &State::Failed("no service answers at here:1".to_owned()));
    assert_eq!(long[..2], ["no service", "answers at"]);
}

#[test]
fn what_is_not_measured_is_not_shown() {
    let nothing = Load::new("here:1", Change { before: &Page::default(), after: &Page::default(), seconds: 1.0 });
    assert_eq!(table::text(&nothing), "here:1\n");
    assert_eq!(serde_json::to_value(&nothing).unwrap(), json!({"address": "here:1", "seconds": 1.0, "rpcs": [], "models": []}));
}

#[tokio::test]
async fn once_is_a_table_of_one_interval() {
    let load = meter(&[BEFORE, AFTER]).once(Duration::ZERO).await.unwrap();
    let text = table::text(&load);
    assert!(text.starts_with("here:1   3 in flight   2 connections   "), "{text}");
    assert_eq!(cells(text.lines(), "method"), ["method", "requests/s", "errors/s", "p50", "ms", "p99", "ms"]);
    let image = cells(text.lines(), "ImageService/Generate");
    assert_eq!(image[3..], ["16.2", "20"]);
    assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
}

#[tokio::test]
async fn once_fails_where_the_server_does() {
    let gone = meter(&[BEFORE]).once(Duration::ZERO).await.unwrap_err();
    assert!(matches!(gone, Error::Unreachable { .. }), "{gone}");
    let malformed = meter(&["<html>"]).once(Duration::ZERO).await.unwrap_err();
    assert_eq!(malformed.to_string(), "the metrics page of here:1: line 1: no value: `<html>`");
}

#[tokio::test]
async fn objects_come_until_nobody_reads_them() {
    let mut said = Vec::new();
    let arguments = Arguments { interval: Duration::from_millis(1), once: false };
    let mut pages = meter(&[BEFORE, AFTER]);
    let ended = objects(&arguments, &mut pages, |value| {
        said.push(value);
        if said.len() < 2 { Ok(()) } else { Err(io::Error::from(io::ErrorKind::BrokenPipe).into()) }
    });
    assert!(matches!(ended.await, Err(Error::Output(_))));
    assert_eq!((said[0]["in_flight"].as_f64(), said[0]["models"][1]["name"].as_str()), (Some(3.0), Some("glyphs")));
    assert!(said[1]["error"].as_str().unwrap().contains("refused"));
}

#[tokio::test]
async fn the_view_waits_shows_and_tries_again() {
    let key = |code, modifiers| Ok(Event::Key(KeyEvent::new(code, modifiers)));
    for quit in [(KeyCode::Char('q'), KeyModifiers::NONE), (KeyCode::Esc, KeyModifiers::NONE), (KeyCode::Char('c'), KeyModifiers::CONTROL)] {
        let (send, receive) = tokio::sync::mpsc::channel(4);
        send.try_send(key(KeyCode::Char('c'), KeyModifiers::NONE)).unwrap();
        let mut states = Vec::new();
        let events = tokio_stream::wrappers::ReceiverStream::new(receive);
        let mut pages = meter(&[BEFORE, AFTER]);
        let shown = watch(Duration::from_millis(1), &mut pages, events, |state| {
            states.push(screen(90, 9, state)[0].clone());
            if states.iter().filter(|state| state.contains("refused")).count() == 2 {
                send.try_send(key(quit.0, quit.1)).unwrap_or_default();
            }
            Ok(())
        });
        shown.await.unwrap();
        states.dedup();
        let first: Vec<_> = states.iter().map(|state| state.split("   ").nth(1).unwrap_or("failed")).collect();
        assert_eq!(first, ["reading", "3 in flight", "failed"]);
    }
}

#[test]
fn intervals_have_limits() {
    assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
    for wrong in ["0.05", "61", "NaN", "-1", "soon"] {
        assert_eq!(seconds(wrong), Err(format!("must be 0.1 to 60 seconds, not {wrong}")));
    }
}
