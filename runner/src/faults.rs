//! Rows of the fault table on the command line, in the words of a scenario.

use std::fs;

use brim_device::fault::Row;

use crate::error::Error;

/// Rows in the words of a scenario, or one in JSON.
pub(crate) fn rows(text: &str) -> Result<Vec<Row>, Error> {
    let beside = |name: &str| fs::read_to_string(name).map_err(|error| error.to_string());
    if let Some(path) = text.strip_prefix('@') {
        let file = fs::read_to_string(path).map_err(|error| Error::Usage {
            what: format!("cannot read {path}: {error}"),
            help: "behind the @ is a file with [[fault]] tables".to_owned(),
        })?;
        let directory = std::path::Path::new(path).parent().unwrap_or(std::path::Path::new(""));
        let files = |name: &str| fs::read_to_string(directory.join(name)).map_err(|error| error.to_string());
        let rows = brim_scenario::faults(path, &file, &files)?;
        if rows.is_empty() {
            let what = format!("{path} has no [[fault]] table");
            return Err(Error::Usage { what, help: "docs/scenarios.md has every key of one".to_owned() });
        }
        return Ok(rows);
    }
    if text.trim_start().starts_with('{') {
        let row = serde_json::from_str(text).map_err(|error| Error::Usage {
            what: format!("this is no row: {error}"),
            help: "docs/control.md has the rows in JSON; in TOML no braces are needed".to_owned(),
        })?;
        return Ok(vec![row]);
    }
    let table = text.trim_start().starts_with("[[");
    let text = if table { text.to_owned() } else { format!("fault = [ {{ {text} }} ]\n") };
    Ok(brim_scenario::faults("the row", &text, &beside)?)
}
