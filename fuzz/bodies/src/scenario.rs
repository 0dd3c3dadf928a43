//! The scenario language: a message or plans, whatever the text; and plans as text again.

use brim_scenario::{Scenario, ScenarioError, Settings, print, size};
use miette::{GraphicalReportHandler, GraphicalTheme};

/// A scenario's text; behind the first NUL, settings as `name=text`, each ended by another.
pub fn scenario(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split('\0');
    let text = parts.next().unwrap_or_default();
    let set: Vec<(String, String)> = parts
        .filter_map(|part| part.split_once('='))
        // Up to 100 000 plans are right, and take their time.
        .filter(|(_, value)| !value.contains(".."))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for (_, value) in &set {
        let _checked = size(value).map_err(|error| shown(&error));
    }
    match Scenario::parse("a.toml", text) {
        Err(error) => shown(&error),
        Ok(scenario) => {
            // What was checked is right with the defaults.
            let plans = scenario.plans(&Settings::default());
            assert!(plans.as_ref().is_ok_and(|plans| plans.len() == 1), "{plans:?}");
            for plan in plans.iter().flatten() {
                // A value may end in `$` and stand before a brace: the text would read a parameter.
                let puts_together = plan.params.values().any(|value| value.contains(['$', '{']));
                let printed = print(plan, "");
                assert!(printed.is_ok() || puts_together, "{printed:?} of {plan:?}");
            }
            let settings = Settings { set, ..Settings::default() };
            let _checked = scenario.plans(&settings).map_err(|error| shown(&error));
        }
    }
}

/// A message can be shown: its places are places in its text.
fn shown(error: &ScenarioError) {
    let mut message = String::new();
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor());
    handler.render_report(&mut message, error).unwrap();
    assert!(message.contains(|letter: char| letter.is_alphanumeric()));
}
