//! What is in a Markdown page: messages as JSON, and tables.

use serde_json::{Deserializer, Value};

/// Every message that is written out anywhere on the page. An object that starts like one and is no
/// JSON panics.
pub(crate) fn messages_in(page: &str) -> Vec<Value> {
    page.match_indices(r#"{"type":""#)
        // A description within a message has a type of its own.
        .filter(|(at, _)| !page[..*at].ends_with(':'))
        .map(|(at, _)| {
            let json = &page[at..];
            let line = json.lines().next().unwrap_or_default();
            Deserializer::from_str(json)
                .into_iter()
                .next()
                .and_then(Result::ok)
                .unwrap_or_else(|| panic!("no JSON: {line}"))
        })
        .collect()
}

/// The rows of the table that starts so, each cell trimmed.
pub(crate) fn rows<'a>(page: &'a str, start: &str) -> Vec<Vec<&'a str>> {
    let table = page.lines().skip_while(|line| !line.starts_with(start));
    let rows: Vec<Vec<_>> = table
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(!rows.is_empty(), "no table that starts with {start}");
    rows
}

pub(crate) fn first_cells<'a>(page: &'a str, start: &str) -> Vec<&'a str> {
    rows(page, start).into_iter().map(|row| row[0]).collect()
}
