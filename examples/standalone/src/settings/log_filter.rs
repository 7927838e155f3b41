//! What is logged.

use tracing_subscriber::EnvFilter;

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
/// The level of what the directives do not name.
const REST: &str = "info";

/// The filter of a level, or of directives separated by commas.
///
/// tracing takes a word that is no level for the name of a target, and logs nothing but that
/// target: `warning` would turn logging off. So a word alone must be a level, and what the
/// directives do not name is logged at info.
pub(super) fn log_filter(text: &str) -> Result<EnvFilter, String> {
    let directives = text.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    let directives: Vec<_> = directives.collect();
    let mut words = directives.iter().filter(|directive| !directive.contains(['=', '[']));
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    if let Some(word) = words.clone().find(|word| !is_level(word)) {
        let hint = match word.to_ascii_lowercase().as_str() {
            "warning" => "; write warn".to_owned(),
            _ => format!("; for one target, write {word}=debug"),
        };
        return Err(format!("'{word}' is not a level ({}){hint}", LEVELS.join(", ")));
    }
    let rest = words.next().is_none().then_some(REST);
    let all: Vec<_> = rest.into_iter().chain(directives.iter().copied()).collect();
    EnvFilter::try_new(all.join(",")).map_err(|error| {
        format!("'{text}' is neither a level ({}) nor directives: {error}", LEVELS.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_turns_logging_off_only_when_it_says_so() {
        for (text, expected) in [
            ("info", "info"),
            ("WARN", "warn"),
            ("off", "off"),
            ("", "info"),
            (",", "info"),
            ("signaling_core=debug", "signaling_core=debug,info"),
            ("signaling-core=debug", "signaling-core=debug,info"),
            ("off,signaling_core=debug", "signaling_core=debug,off"),
            (" warn , signaling_core=trace ", "signaling_core=trace,warn"),
            ("[call{user}]=debug", "info,[call{user}]=debug"),
        ] {
            assert_eq!(log_filter(text).unwrap().to_string(), expected, "{text}");
        }
        for text in [
            "warning",
            "Warning",
            "verbose",
            "none",
            "false",
            "0",
            "3",
            "signaling_core",
            "info,warning",
            "info debug",
            "signaling_core=warning",
            "signaling_core:debug",
            "a=b=c",
            "=info",
            "*",
        ] {
            let problem = log_filter(text).map(|filter| filter.to_string()).unwrap_err();
            assert!(!problem.contains('\n') && problem.contains("warn"), "{text}: {problem}");
        }
    }
}
