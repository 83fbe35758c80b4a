//! What is logged and traced, in the names that Triton's clients use.

use std::collections::HashMap;

use quintet_proto::inference::{
    LogSettingsRequest, LogSettingsResponse, TraceSettingRequest, TraceSettingResponse, log_settings_request, log_settings_response,
    trace_setting_response,
};
use quintet_serving::{config::TracesConfig, telemetry};

use crate::Error;

/// How much is logged, in Triton's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Level {
    error: bool,
    warning: bool,
    info: bool,
    verbose: u32,
}

impl Level {
    /// The level of directives such as "info,ort=warn": that of their first part that names no target.
    fn of(directives: &str) -> Self {
        let level = directives.split(',').map(str::trim).find(|part| !part.contains('=')).unwrap_or("info").to_lowercase();
        let verbose = match level.as_str() {
            "trace" => 2,
            "debug" => 1,
            _ => 0,
        };
        let at_least = |levels: &[&str]| verbose > 0 || levels.contains(&level.as_str());
        Self { error: at_least(&["error", "warn", "info"]), warning: at_least(&["warn", "info"]), info: at_least(&["info"]), verbose }
    }

    fn directive(self) -> &'static str {
        match self {
            Self { verbose: 2.., .. } => "trace",
            Self { verbose: 1, .. } => "debug",
            Self { info: true, .. } => "info",
            Self { warning: true, .. } => "warn",
            Self { error: true, .. } => "error",
            _ => "off",
        }
    }
}

pub(super) fn settings(request: LogSettingsRequest) -> Result<LogSettingsResponse, Error> {
    use log_settings_request::setting_value::ParameterChoice as Choice;
    let directives = telemetry::log_directives();
    let mut level = Level::of(&directives);
    let (mut changed, mut whole) = (false, None);
    for (name, value) in request.settings {
        let value = value.parameter_choice;
        match (name.as_str(), value) {
            // A client may send back all that it was told: what is empty or the same changes nothing.
            (_, None) => (),
            ("log_error", Some(Choice::BoolParam(on))) => (level.error, changed) = (on, true),
            ("log_warning", Some(Choice::BoolParam(on))) => (level.warning, changed) = (on, true),
            ("log_info", Some(Choice::BoolParam(on))) => (level.info, changed) = (on, true),
            ("log_verbose_level", Some(Choice::Uint32Param(verbose))) => (level.verbose, changed) = (verbose, true),
            ("log_directives", Some(Choice::StringParam(text))) => whole = Some(text),
            (_, Some(value)) => {
                let known = "log_error, log_warning, log_info (bool), log_verbose_level (number) and log_directives (text) can be set";
                return Err(Error::invalid(format!("settings[{name}]"), format!("{value:?}: {known}")));
            }
        }
    }
    let wished = match whole {
        Some(whole) => Some(whole),
        None if changed => {
            let targets = directives.split(',').filter(|part| part.contains('='));
            Some(std::iter::once(level.directive()).chain(targets).collect::<Vec<_>>().join(","))
        }
        None => None,
    };
    if let Some(wished) = wished {
        telemetry::set_log_directives(&wished).map_err(|reason| Error::invalid("settings[log_directives]", format!("{wished:?}: {reason}")))?;
        tracing::info!(directives = wished, "what is logged was changed");
    }
    Ok(told())
}

fn told() -> LogSettingsResponse {
    use log_settings_response::{SettingValue, setting_value::ParameterChoice as Choice};
    let directives = telemetry::log_directives();
    let level = Level::of(&directives);
    let settings = [
        ("log_error", Choice::BoolParam(level.error)),
        ("log_warning", Choice::BoolParam(level.warning)),
        ("log_info", Choice::BoolParam(level.info)),
        ("log_verbose_level", Choice::Uint32Param(level.verbose)),
        ("log_directives", Choice::StringParam(directives)),
    ];
    let settings = settings.into_iter().map(|(name, choice)| (name.to_owned(), SettingValue { parameter_choice: Some(choice) }));
    LogSettingsResponse { settings: settings.collect() }
}

pub(super) fn traces(config: &TracesConfig, request: &TraceSettingRequest) -> Result<TraceSettingResponse, Error> {
    if let Some(name) = request.settings.iter().find(|(_, value)| !value.value.is_empty()).map(|(name, _)| name) {
        let description = "traces go over OTLP as [server.traces] of the configuration says: they cannot be changed while the server runs";
        return Err(Error::invalid(format!("settings[{name}]"), description));
    }
    let is_on = !config.endpoint.is_empty() && config.sample > 0.0;
    let rate = if is_on { (1.0 / config.sample).round() as u64 } else { 0 };
    let settings = [
        ("trace_mode", "opentelemetry".to_owned()),
        ("trace_level", if is_on { "TIMESTAMPS" } else { "OFF" }.to_owned()),
        ("trace_rate", rate.to_string()),
    ];
    let value = |value| trace_setting_response::SettingValue { value: vec![value] };
    Ok(TraceSettingResponse { settings: settings.into_iter().map(|(name, text)| (name.to_owned(), value(text))).collect::<HashMap<_, _>>() })
}

#[cfg(test)]
mod tests {
    use super::Level;

    #[test]
    fn levels_become_directives_and_back() {
        for directive in ["trace", "debug", "info", "warn", "error", "off"] {
            assert_eq!(Level::of(&format!("{directive},ort=warn")).directive(), directive);
        }
        assert_eq!(Level::of("ort=warn,debug").verbose, 1);
    }
}
