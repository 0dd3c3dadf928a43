//! A campaign on the whole terminal: how far it is, a mark for each cell, and what has failed alike.

use std::collections::BTreeMap;
use std::io::{self, Stderr};
use std::time::Duration;

use brim_campaign::Ledger;
use brim_campaign::result::CellEnded;
use brim_campaign::tried::Tried;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::Stylize;
use ratatui::text::Line;
use ratatui::widgets::{Block, Gauge, Paragraph, Wrap};
use ratatui::{Frame, Terminal};

use super::progress::{Numbers, duration};

/// The terminal while it is ours.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stderr>>,
}

/// What is drawn: no terminal is needed to make it.
struct Picture<'a> {
    name: &'a str,
    about: &'a str,
    numbers: &'a Numbers,
    marks: String,
    groups: Vec<(String, u64)>,
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn open() -> io::Result<Self> {
        enable_raw_mode()?;
        execute!(io::stderr(), EnterAlternateScreen)?;
        Ok(Self { terminal: Terminal::new(CrosstermBackend::new(io::stderr()))? })
    }

    /// Whether `q` or Ctrl-C was typed: in raw mode the terminal makes no signal of it.
    pub(super) fn asked_to_end() -> bool {
        let mut asked = false;
        while event::poll(Duration::ZERO).unwrap_or(false) {
            if let Ok(Event::Key(key)) = event::read() {
                let is_interrupt =
                    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                asked |= is_interrupt || key.code == KeyCode::Char('q');
            }
        }
        asked
    }

    /// Draws it anew.
    pub(super) fn draw(&mut self, ledger: &Ledger<'_>, numbers: &Numbers) {
        let picture = Picture::of(ledger, numbers);
        // A terminal that cannot be drawn on is no reason to stop.
        let _ = self.terminal.draw(|frame| picture.draw(frame));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Whatever cannot be put back: the user sees it, and has `reset`.
        let _ = disable_raw_mode();
        let _ = execute!(io::stderr(), LeaveAlternateScreen);
        let _ = self.terminal.show_cursor();
    }
}

impl<'a> Picture<'a> {
    fn of(ledger: &Ledger<'a>, numbers: &'a Numbers) -> Self {
        let head = ledger.head();
        let here = || ledger.rows().iter().enumerate().filter(|(index, _)| ledger.is_here(*index));
        let marks = here().flat_map(|(_, row)| {
            let (first, count) = row.span();
            (first..first + count).map(|index| row.cell(index).map_or(' ', mark))
        });
        let mut groups: BTreeMap<String, u64> = BTreeMap::new();
        let cells = here().flat_map(|(_, row)| row.cells());
        for record in
            cells.flat_map(|(_, cell)| cell.counted()).filter_map(|record| record.signature.as_ref())
        {
            *groups.entry(record.clone()).or_default() += 1;
        }
        let mut groups: Vec<(String, u64)> = groups.into_iter().collect();
        groups.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Self { name: &head.name, about: &head.about, numbers, marks: marks.collect(), groups }
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let [top, bar, map, bottom] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(3),
            Constraint::Min(4),
            Constraint::Length(u16::try_from(self.groups.len()).unwrap_or(u16::MAX).clamp(1, 8) + 2),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(vec![Line::from(self.name).bold(), Line::from(self.about)]), top);
        let (done, all) = self.numbers.cells;
        let share = done
            .saturating_mul(100)
            .checked_div(all)
            .map_or(0, |percent| u16::try_from(percent).unwrap_or(100));
        let title = format!(" {}; since {} ", self.numbers.line(), duration(self.numbers.elapsed));
        let gauge = Gauge::default().block(Block::bordered().title(title)).percent(share.min(100));
        frame.render_widget(gauge, bar);
        let title = " cells: X all reproduced, . none, 1 to 9 so many tenths, ? inconclusive; q ends ";
        let marks = Paragraph::new(self.marks.as_str())
            .wrap(Wrap { trim: false })
            .block(Block::bordered().title(title));
        frame.render_widget(marks, map);
        let lines: Vec<Line<'_>> = self
            .groups
            .iter()
            .map(|(signature, count)| Line::from(format!("{count:>6}  {signature}")))
            .collect();
        frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" failures alike ")), bottom);
    }
}

fn mark(cell: &Tried) -> char {
    let tally = cell.tally();
    match (cell.ended(), tally.trials()) {
        (None, 0) if cell.inconclusive() == 0 => '·',
        (Some(CellEnded::Failed), _) => '!',
        (_, 0) => '?',
        _ if tally.hits == 0 => '.',
        _ if tally.misses == 0 => 'X',
        (_, trials) => {
            let tenths = u64::from(tally.hits) * 10 / trials;
            char::from_digit(u32::try_from(tenths.clamp(1, 9)).unwrap_or(5), 10).unwrap_or('5')
        }
    }
}

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;

    use super::*;

    #[test]
    fn the_picture_has_numbers_marks_and_groups() {
        let numbers = Numbers {
            rate: 25.0,
            cells: (3, 10),
            trials: 70,
            left: 30,
            hits: 2,
            inconclusive: 0,
            elapsed: 3.0,
        };
        let groups = vec![("pwrite/ENOSPC/data".to_owned(), 2)];
        let picture = Picture {
            name: "map",
            about: "what it is for",
            numbers: &numbers,
            marks: "..X·".to_owned(),
            groups,
        };
        let mut terminal = Terminal::new(TestBackend::new(90, 20)).unwrap();
        terminal.draw(|frame| picture.draw(frame)).unwrap();
        let drawn = terminal.backend().to_string();
        for wanted in ["map", "what it is for", "3 of 10 cells", "30%", "..X·", "pwrite/ENOSPC/data"] {
            assert!(drawn.contains(wanted), "{wanted:?} is not in\n{drawn}");
        }
    }
}
