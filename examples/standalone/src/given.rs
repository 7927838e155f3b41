//! The command line and the environment, and which of the two each value came from: an error names
//! what the user set.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
};

use clap::{
    ArgMatches, Command, CommandFactory, FromArgMatches,
    builder::Resettable,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};

use crate::cli::Cli;

/// The variables of the secrets, which have no flags.
pub(crate) const SECRET_VARIABLES: [&str; 3] =
    ["SIGNALING_JWT_SECRET", "SIGNALING_API_KEY", "SIGNALING_TURN_SECRET"];

/// What the user has given.
pub(crate) struct Given {
    pub(crate) cli: Cli,
    matches: ArgMatches,
    command: Command,
}

/// What the command line asks for instead of a server, or what is wrong with it: one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoCli {
    /// Text to print: `--help` or `--version`.
    Print(String),
    /// What is wrong.
    Wrong(String),
}

impl Given {
    /// Reads `args`, the first of which is the program's name, and the variables of the flags. A
    /// variable that is empty counts as not set.
    pub(crate) fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, NoCli> {
        let args: Vec<_> = args.into_iter().collect();
        let command = Cli::command();
        let mut set = Cli::command().mut_args(|arg| match arg.get_env().map(env::var_os) {
            Some(Some(value)) if value.is_empty() => arg.env(Resettable::Reset),
            _ => arg,
        });
        let read = set.try_get_matches_from_mut(&args).and_then(|matches| {
            let cli = Cli::from_arg_matches(&matches)?;
            Ok(Self { cli, matches, command: command.clone() })
        });
        read.map_err(|error| no_cli(&error, &args, &command))
    }

    /// The flag or the variable that set the field `id` of [`Cli`]; the flag if none did.
    pub(crate) fn name(&self, id: &str) -> String {
        let variable = self.matches.value_source(id) == Some(ValueSource::EnvVariable);
        let mut args = self.command.get_arguments();
        let arg = args.find(|arg| arg.get_id() == id);
        let variable = arg.and_then(|arg| arg.get_env()).filter(|_| variable);
        match (variable, arg.and_then(|arg| arg.get_long())) {
            (Some(variable), _) => variable.to_string_lossy().into_owned(),
            (None, Some(flag)) => format!("--{flag}"),
            (None, None) => id.to_owned(),
        }
    }

    /// Whether the user set the field `id` of [`Cli`].
    pub(crate) fn is_set(&self, id: &str) -> bool {
        let source = self.matches.value_source(id);
        source.is_some_and(|source| source != ValueSource::DefaultValue)
    }

    /// One line for each variable in `set` that looks like one of this server's and is none.
    pub(crate) fn unknown_variables(
        &self,
        set: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Vec<String> {
        let set = set.into_iter().filter(|(_, value)| !value.is_empty());
        let set = set.filter(|(name, value)| !is_from_kubernetes(name, value));
        let mut lines: Vec<_> =
            set.filter_map(|(name, _)| self.unknown_variable(&name.to_string_lossy())).collect();
        lines.sort();
        lines
    }

    fn unknown_variable(&self, name: &str) -> Option<String> {
        // Spelt either way.
        let rest = name.strip_prefix("SIGNALING_").or_else(|| name.strip_prefix("SIGNALLING_"))?;
        let flags = self.command.get_arguments().filter_map(|arg| {
            let flag = arg.get_long()?;
            let called = flag.replace('-', "_").to_uppercase();
            let variable = arg.get_env().map(|variable| variable.to_string_lossy().into_owned());
            Some((called, variable.unwrap_or_else(|| format!("--{flag}"))))
        });
        let secrets = SECRET_VARIABLES.map(|name| (short(name).to_owned(), name.to_owned()));
        let known: Vec<_> = flags.chain(secrets).collect();
        if known.iter().any(|(_, known)| known == name) {
            return None;
        }
        let distance = |known: &str| strsim::damerau_levenshtein(known, rest);
        let nearest =
            known.iter().min_by_key(|(called, known)| distance(called).min(distance(short(known))));
        let nearest = nearest.map(|(_, known)| format!("; the nearest is {known}"));
        Some(format!("the variable {name} is unknown and ignored{}", nearest.unwrap_or_default()))
    }
}

/// The parser's own part holds what was typed, secrets too.
impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Given").field(&self.cli).finish_non_exhaustive()
    }
}

fn short(variable: &str) -> &str {
    variable.strip_prefix("SIGNALING_").unwrap_or(variable)
}

/// Kubernetes sets variables such as `SIGNALING_SERVICE_HOST` and `SIGNALING_PORT_80_TCP_ADDR` for
/// a service named `signaling`.
fn is_from_kubernetes(name: &OsStr, value: &OsStr) -> bool {
    let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
    let parts = ["_SERVICE_HOST", "_SERVICE_PORT", "_TCP", "_UDP", "_SCTP"];
    parts.iter().any(|part| name.contains(part)) || value.contains("://") && name.ends_with("_PORT")
}

fn no_cli(error: &clap::Error, args: &[OsString], command: &Command) -> NoCli {
    match error.kind() {
        // With the names of the variables that are empty, which the parser was not told of.
        ErrorKind::DisplayHelp => {
            let long = !args.iter().any(|arg| arg == "-h");
            let mut command = command.clone();
            let help = if long { command.render_long_help() } else { command.render_help() };
            NoCli::Print(help.to_string())
        }
        ErrorKind::DisplayVersion => NoCli::Print(error.to_string()),
        // It might be a secret in the wrong place.
        ErrorKind::UnknownArgument => NoCli::Wrong(unknown_argument(error)),
        ErrorKind::InvalidUtf8 => NoCli::Wrong(not_utf8(args, command)),
        _ => NoCli::Wrong(wrong_value(error, args, command)),
    }
}

fn unknown_argument(error: &clap::Error) -> String {
    let name = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) => name.split('=').next().unwrap_or_default(),
        _ => "",
    };
    match name.starts_with("--") {
        true => format!("there is no flag {name}; see --help"),
        false => "there are only flags that start with --; see --help".to_owned(),
    }
}

/// The error in one line, with the variable's name in the place of the flag's where the value is
/// the variable's.
fn wrong_value(error: &clap::Error, args: &[OsString], command: &Command) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line).to_owned();
    // As in `--listen <ADDRESS>`.
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return line };
    let flag = shown.split_whitespace().next().unwrap_or_default();
    let is_flag = |arg: &OsString| {
        let arg = arg.to_string_lossy();
        arg.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    let mut known = command.get_arguments();
    let long = flag.trim_start_matches("--");
    let variable = known.find(|arg| arg.get_long() == Some(long)).and_then(|arg| arg.get_env());
    match variable {
        Some(variable) if !args.iter().any(is_flag) => {
            line.replace(&format!("'{shown}'"), &format!("'{}'", variable.to_string_lossy()))
        }
        _ => line,
    }
}

/// clap does not say which one it is.
fn not_utf8(args: &[OsString], command: &Command) -> String {
    let is_broken = |text: &OsStr| text.to_str().is_none();
    // `--flag=value` in one argument, or the flag in the one before.
    let pair = args.windows(2).find(|pair| is_broken(&pair[1]));
    let flag = pair.and_then(|pair| {
        let mut texts = [&pair[1], &pair[0]].into_iter().map(|arg| arg.to_string_lossy());
        let flag = texts.find(|text| text.starts_with("--"))?;
        flag.split('=').next().map(str::to_owned)
    });
    let mut variables = command.get_arguments().filter_map(|arg| arg.get_env());
    let variable = variables.find(|name| env::var_os(name).is_some_and(|text| is_broken(&text)));
    let name = match pair {
        Some(_) => flag,
        None => variable.map(|name| name.to_string_lossy().into_owned()),
    };
    format!("{} is not valid UTF-8", name.as_deref().unwrap_or("an argument"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(args: &[&str]) -> Result<Given, NoCli> {
        Given::read(["x"].iter().chain(args).map(OsString::from))
    }

    #[test]
    fn what_is_wrong_takes_one_line_and_quotes_no_stray_argument() {
        for (args, expected) in [
            (&["--jwt-secret=hunter2"][..], "there is no flag --jwt-secret; see --help"),
            (&["--jwt-secret", "hunter2"], "there is no flag --jwt-secret; see --help"),
            (&["hunter2"], "there are only flags that start with --; see --help"),
            (&["-hunter2"], ""),
        ] {
            match given(args).unwrap_err() {
                NoCli::Wrong(line) => assert_eq!(line, expected),
                NoCli::Print(_) => assert_eq!(args, ["-hunter2"], "-h is help"),
            }
        }
        let error = given(&["--log-format", "nowhere"]).unwrap_err();
        let NoCli::Wrong(line) = error else { panic!("nothing wrong") };
        assert!(line.contains("'nowhere'") && line.contains("--log-format"), "{line}");
        assert!(line.contains("text, json"), "{line}");
        assert!(!line.contains('\n'));
    }

    #[test]
    fn a_variable_that_is_unknown_is_named_with_the_nearest_known_one() {
        let unknown = |name: &str, value: &str| {
            let set = [(name.into(), value.into()), ("PATH".into(), "/bin".into())];
            given(&[]).unwrap().unknown_variables(set)
        };
        for (name, nearest) in [
            ("SIGNALING_LISTENS", "SIGNALING_LISTEN"),
            ("SIGNALLING_JWT_SECRET", "SIGNALING_JWT_SECRET"),
            ("SIGNALING_JWT_SECERT_FILE", "SIGNALING_JWT_SECRET_FILE"),
            ("SIGNALING_APIKEY", "SIGNALING_API_KEY"),
            ("SIGNALING_MAX_SIGNALS", "SIGNALING_MAX_KEPT_SIGNALS"),
            ("SIGNALING_LOG_LEVEL", "RUST_LOG"),
            ("SIGNALING_ALLOWED_ORIGINS", "SIGNALING_ALLOWED_ORIGIN"),
            ("SIGNALING_DEV", "--dev"),
            ("SIGNALING_PORT", "SIGNALING_"),
        ] {
            let lines = unknown(name, "hunter2");
            assert_eq!(lines.len(), 1, "{name}: {lines:?}");
            assert!(lines[0].contains(name) && lines[0].contains(nearest), "{lines:?}");
            assert!(!lines[0].contains("hunter2"), "{lines:?}");
        }
        for (name, value) in [
            ("SIGNALING_LISTEN", "x"),
            ("SIGNALING_JWT_SECRET", "x"),
            ("SIGNALING_JWKS", "x"),
            ("SIGNALING_NO_SUCH", ""),
            ("SIGNALING_SERVICE_HOST", "10.0.0.1"),
            ("SIGNALING_SERVICE_PORT_HTTP", "80"),
            ("SIGNALING_PORT", "tcp://10.0.0.1:80"),
            ("SIGNALING_SERVER_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("MY_SIGNALING_LISTENS", "x"),
        ] {
            assert_eq!(unknown(name, value), <[&str; 0]>::default(), "{name}");
        }
    }
}
