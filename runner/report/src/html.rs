//! One HTML file of one or many runs, from their journals alone. It loads nothing and runs nothing: style and plots are inside, and
//! it is legible in light and dark, on paper, and 360 pixels wide. Whatever a journal says is text here.
//!
//! The plots are SVG of our own (`svg`): plotting libraries put colours and fonts into what they draw, and these take theirs from
//! the page, so that they change with it.

mod campaign;
mod curve;
mod facts;
mod lateness;
mod map;
mod numbers;
mod run;
mod sets;
mod svg;
mod timeline;

use askama::Template;
use brim_campaign::{CampaignResult, Head};
use brim_trial::Event;

pub use campaign::Kept;
pub use sets::{Set, sets};

use campaign::CampaignPage;
use map::Overview;
use run::RunPage;

/// Runs of a range that are shown whole: the first of each kind of failure.
const WHOLE_MAX: usize = 24;

/// What is said of where a report comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The brim that wrote it: `0.1.0 (0123abc)`.
    pub brim: String,
    /// The journals that it was made of.
    pub journals: Vec<String>,
}

/// The page could not be put together.
#[derive(Debug, thiserror::Error)]
#[error("the page could not be put together: {0}")]
pub struct HtmlError(#[from] askama::Error);

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    title: String,
    style: &'static str,
    campaign: Option<CampaignPage>,
    overview: Option<Overview>,
    runs: Vec<RunPage>,
    /// Runs that are not shown whole.
    left: usize,
    origin: &'a Origin,
}

/// The page of what `events` say: the journal of one run, or of many one behind the other.
///
/// # Errors
/// Never, with memory to write to; the library says it may.
pub fn page(events: &[Event], origin: &Origin) -> Result<String, HtmlError> {
    let sets = sets(events);
    let whole = sets::worth_showing(&sets, WHOLE_MAX);
    let overview = (sets.len() > 1).then(|| Overview::of(&sets));
    let title = match (sets.as_slice(), &overview) {
        ([only], _) => format!("{}: {}", only.run.scenario, only.outcome()),
        (_, Some(overview)) => overview.title.clone(),
        _ => "nothing ran".to_owned(),
    };
    let left = sets.len() - whole.len();
    let runs = whole.into_iter().enumerate().map(|(index, set)| RunPage::of(index, set)).collect();
    let style = include_str!("../templates/style.css");
    Ok(Page { title: text(&title), style, campaign: None, overview, runs, left, origin }.render()?)
}

/// The page of what a campaign came to; `kept` are the trials whose journals are there, of which the first of each kind of failure is
/// shown whole.
///
/// # Errors
/// Never, with memory to write to; the library says it may.
pub fn campaign(
    head: &Head,
    result: &CampaignResult,
    kept: &[Kept],
    origin: &Origin,
) -> Result<String, HtmlError> {
    let mut first = campaign::first_of_each(result, kept);
    first.truncate(WHOLE_MAX);
    let runs: Vec<RunPage> =
        first.iter().enumerate().map(|(index, (_, set))| RunPage::of(index, set)).collect();
    let ids: Vec<(usize, String)> =
        first.iter().zip(&runs).map(|((index, _), run)| (*index, run.id.clone())).collect();
    let page = CampaignPage::of(head, result, kept, &ids);
    let style = include_str!("../templates/style.css");
    let title = page.title.clone();
    Ok(Page { title, style, campaign: Some(page), overview: None, runs, left: 0, origin }.render()?)
}

/// Text of a journal as a page may have it: control characters, which HTML has none of, as pictures of themselves.
fn text(text: &str) -> String {
    let shown = |letter: char| match u32::from(letter) {
        10 => letter,
        9 => ' ',
        code @ 0..32 => char::from_u32(0x2400 + code).unwrap_or('\u{fffd}'),
        127 => '\u{2421}',
        128..160 => '\u{fffd}',
        _ => letter,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn control_characters_are_pictures() {
        assert_eq!(super::text("a\u{1b}[31mred\u{0}\u{7f}\u{9b}\n"), "a␛[31mred␀␡\u{fffd}\n");
    }
}
