//! Log lines: to stderr, for people at a terminal and as JSON elsewhere.
//!
//! Dependencies are heard from `warn` upwards only, even where the filter asks for more in general:
//! what they say at lower levels may hold rows, queries or messages.

use std::env;
use std::io::{self, IsTerminal as _};

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Variable with the filter, such as `debug` or `auscult::roles=trace`.
const FILTER: &str = "AUSCULT_LOG";

/// Variable with the form: `text` or `json`.
const FORM: &str = "AUSCULT_LOG_FORMAT";

/// What the targets of dependencies begin with. Naming one in the filter still makes it louder.
const QUIET: [&str; 18] = [
    "arrow",
    "axum",
    "burn",
    "datafusion",
    "delta_kernel",
    "deltalake",
    "h2",
    "hessboost",
    "hyper",
    "librdkafka",
    "object_store",
    "parquet",
    "rdkafka",
    "reqwest",
    "rustls",
    "smartcore",
    "sqlparser",
    "tower",
];

/// Why there is no log.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("AUSCULT_LOG is not a filter ({0}); write a level or target=level with commas between")]
    Filter(String),
    /// The form is neither of the two.
    #[error("AUSCULT_LOG_FORMAT is neither text nor json; set one of them, or do not set it")]
    Form,
    /// Something else takes the log lines of this process already.
    #[error("the log of this process has begun already; begin it once")]
    Begun,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Form {
    Text,
    Json,
}

/// Begins the log of the process: `AUSCULT_LOG`, else `default_filter` (such as `info`), to stderr,
/// as text at a terminal and as JSON elsewhere unless `AUSCULT_LOG_FORMAT` says which.
///
/// # Errors
/// If a variable cannot be understood, or the log has begun already.
pub fn init_tracing(default_filter: &str) -> Result<(), LogError> {
    let asked = env::var_os(FILTER).map(|text| text.to_string_lossy().into_owned());
    let form = env::var_os(FORM).map(|text| text.to_string_lossy().into_owned());
    let terminal = io::stderr().is_terminal();
    let filter = filter(asked.as_deref(), default_filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(terminal);
    let begun = match form_of(form.as_deref(), terminal)? {
        Form::Text => builder.try_init(),
        Form::Json => builder.json().flatten_event(true).try_init(),
    };
    begun.map_err(|_| LogError::Begun)
}

fn filter(asked: Option<&str>, default: &str) -> Result<EnvFilter, LogError> {
    let asked = asked.filter(|text| !text.trim().is_empty()).unwrap_or(default);
    // Later directives replace earlier ones of the same target, and a named target beats a bare level.
    let quiet: Vec<String> = QUIET.iter().map(|target| format!("{target}=warn")).collect();
    // Delta's kernel calls a table that does not exist yet an error, and returns the same as a value.
    let directives = format!("{},buoyant_kernel=off,{asked}", quiet.join(","));
    EnvFilter::builder().parse(directives).map_err(|error| LogError::Filter(error.to_string()))
}

fn form_of(asked: Option<&str>, terminal: bool) -> Result<Form, LogError> {
    match asked {
        Some("text") => Ok(Form::Text),
        Some("json") => Ok(Form::Json),
        None | Some("") => Ok(if terminal { Form::Text } else { Form::Json }),
        Some(_) => Err(LogError::Form),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `filter` lets through of one at each of several levels and targets.
    fn heard(filter: EnvFilter) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber =
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer.clone()).json().finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "auscult::roles", "own info");
            tracing::debug!(target: "auscult::roles", "own debug");
            tracing::info!(target: "datafusion_physical_plan", "row info");
            tracing::debug!(target: "deltalake_core::operations", "row debug");
            tracing::debug!(target: "librdkafka", "payload debug");
            tracing::warn!(target: "librdkafka", "broker warning");
        });
        String::from_utf8(captured.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn dependencies_are_heard_from_warn_upwards() {
        for asked in [None, Some("debug"), Some("trace")] {
            let text = heard(filter(asked, "info").unwrap());
            assert!(text.contains("own info") && text.contains("broker warning"), "{text}");
            assert_eq!(text.contains("own debug"), asked.is_some(), "{text}");
            assert!(!text.contains("row") && !text.contains("payload"), "{asked:?}: {text}");
        }
        let text = heard(filter(Some("info,librdkafka=debug"), "info").unwrap());
        assert!(text.contains("payload debug") && !text.contains("row"), "{text}");
    }

    #[test]
    fn lines_are_json_that_a_program_reads() {
        let text = heard(filter(None, "info").unwrap());
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(line["level"].is_string() && line["target"].is_string(), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_an_error() {
        assert!(matches!(filter(Some("auscult=loud"), "info"), Err(LogError::Filter(_))));
        assert!(filter(Some(" "), "info").is_ok(), "empty counts as not set");
        assert!(matches!(form_of(Some("xml"), true), Err(LogError::Form)));
        assert_eq!(form_of(None, true).unwrap(), Form::Text);
        assert_eq!(form_of(Some(""), false).unwrap(), Form::Json);
        assert_eq!(form_of(Some("json"), true).unwrap(), Form::Json);
        assert_eq!(form_of(Some("text"), false).unwrap(), Form::Text);
    }
}
