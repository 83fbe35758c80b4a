//! The load on a screen.

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Style},
    text::{Line, Text},
    widgets::{Block, Borders, Cell, Row, Table as Widget},
};

use super::{
    load::Load,
    table::{Table, summary, tables},
};

/// What there is to show.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// Less than two readings.
    Waiting,
    /// The load of the last interval.
    Load(Box<Load>),
    /// Why there is none.
    Failed(String),
}

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, address: &str, state: &State) {
    let width = frame.area().width.into();
    let failed = Style::new().fg(Color::Red);
    let (lines, style, tables) = match state {
        State::Load(load) => (summary(load).iter().flat_map(|parts| flow(parts, "   ", width)).collect(), Style::new(), tables(load)),
        State::Waiting => (vec![format!("{address}   reading")], Style::new(), Vec::new()),
        State::Failed(reason) => (flow(&reason.split_whitespace().collect::<Vec<_>>(), " ", width), failed, Vec::new()),
    };
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let [header, rest, footer] = Layout::vertical([Constraint::Length(height), Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(Text::from_iter(lines).style(style), header);
    for (table, area) in tables.iter().zip(split(&tables, rest)) {
        draw_table(frame, table, area);
    }
    frame.render_widget(Line::styled("q quits", Color::DarkGray), footer);
}

/// Parts side by side, in lines of this width where none of them is wider.
fn flow(parts: &[impl AsRef<str>], separator: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts.iter().map(AsRef::as_ref) {
        match lines.last_mut().filter(|line| line.chars().count() + separator.len() + part.chars().count() <= width) {
            Some(line) => *line = format!("{line}{separator}{part}"),
            None => lines.push(part.to_owned()),
        }
    }
    lines
}

/// Where the tables go: all of each where they fit; else half for the last at most, and what is left for the first.
fn split(tables: &[Table], area: Rect) -> Vec<Rect> {
    let needed = |table: &Table| u16::try_from(table.rows.len()).unwrap_or(u16::MAX).saturating_add(2);
    let Some((last, before)) = tables.split_last() else { return Vec::new() };
    let last = if before.is_empty() { area.height } else { needed(last).min(area.height / 2) };
    let mut left = area.height - last.min(area.height);
    let mut heights: Vec<u16> = Vec::with_capacity(tables.len());
    for table in before {
        let height = needed(table).min(left);
        left -= height;
        heights.push(height);
    }
    // Room that the first did not need goes to the last.
    heights.push(last.saturating_add(left));
    Layout::vertical(heights.into_iter().map(Constraint::Length)).split(area).to_vec()
}

fn draw_table(frame: &mut Frame<'_>, table: &Table, area: Rect) {
    let visible = usize::from(area.height.saturating_sub(2));
    let title = if visible < table.rows.len() { format!("{} ({visible} of {})", table.title, table.rows.len()) } else { table.title.to_owned() };
    let width = |column: usize, header: &str| {
        let cells = table.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        Constraint::Length(cells.chain([header.len()]).max().unwrap_or_default() as u16)
    };
    let cells = |texts: Vec<String>| {
        Row::new(texts.into_iter().enumerate().map(|(column, text)| {
            let alignment = if column == 0 { Alignment::Left } else { Alignment::Right };
            Cell::from(Text::from(text).alignment(alignment))
        }))
    };
    let header = cells(table.header.iter().map(ToString::to_string).collect()).style(Style::new().bold());
    let widths: Vec<Constraint> = table.header.iter().enumerate().map(|(column, header)| width(column, header)).collect();
    let widget = Widget::new(table.rows.iter().cloned().map(cells), widths)
        .header(header)
        .column_spacing(2)
        .block(Block::new().borders(Borders::TOP).border_style(Color::DarkGray).title(title));
    frame.render_widget(widget, area);
}
