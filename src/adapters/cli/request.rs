//! A tool call as a REST request: where each field goes follows from the tool's spec, as it does on the other side.

use crate::error::{Error, Result};
use crate::tools::{EnvironmentUse, Method, ToolSpec};
use bytes::Bytes;
use reqwest::Url;
use serde_json::{Map, Value};

/// The longest body that a station takes, in bytes; a longer one is refused here, because the station would hang up while it is sent.
pub(super) const MOST_BODY_BYTES: usize = 10 * 1024 * 1024 + 512 * 1024;

/// The longest value that is put into an address, in bytes. Servers and proxies hardly take longer ones.
const MOST_ADDRESS_BYTES: usize = 8 * 1024;

/// How many characters of a value that is too long are shown.
const SHOWN_OF_LONGER: usize = 40;

/// What is sent, before it is known where to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Segments below `/api/v1`, not encoded.
    pub(super) path: Vec<String>,
    pub(super) query: Vec<(String, String)>,
    /// With POST and PATCH.
    pub(super) body: Option<Value>,
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Request {
    /// `GET` of the live events of a run, from after `last` (`epoch-seq`) on.
    pub(super) fn events(run: &str, last: Option<&str>) -> Self {
        let mut headers = vec![("accept", "text/event-stream".to_owned())];
        headers.extend(last.map(|id| ("last-event-id", id.to_owned())));
        let path = ["runs", run, "events"].map(str::to_owned).to_vec();
        Self { method: Method::Get, path, query: Vec::new(), body: None, headers }
    }

    /// The call of `spec` with `input`, which may contain `environment`.
    pub(super) fn tool(spec: &ToolSpec, mut input: Map<String, Value>) -> Result<Self> {
        let Some(rest) = spec.rest else {
            return Err(Error::not_acceptable(format!("`{}` can't be called over HTTP", spec.name)));
        };
        let mut path = Vec::new();
        for part in rest.path.split('/').filter(|part| !part.is_empty()) {
            path.push(match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                Some(field) => segment(spec, field, input.shift_remove(field))?,
                None => part.to_owned(),
            });
        }
        let mut query = Vec::new();
        if spec.environment != EnvironmentUse::None
            && let Some(environment) = input.shift_remove("environment")
        {
            query.push(("environment".to_owned(), short("environment", plain(&environment))?));
        }
        let body = match rest.method {
            Method::Get | Method::Delete => {
                let given = input.iter().filter(|(_, value)| !value.is_null());
                for (name, value) in given.flat_map(|(name, value)| pairs(name, value)) {
                    query.push((name.clone(), short(&name, value)?));
                }
                None
            }
            Method::Post | Method::Patch => Some(Value::Object(input)),
        };
        Ok(Self { method: rest.method, path, query, body, headers: Vec::new() })
    }

    /// The address below `base`, which may itself have a path.
    pub(super) fn url(&self, base: &Url) -> Result<Url> {
        let mut url = base.clone();
        url.set_query(None);
        match url.path_segments_mut() {
            Ok(mut path) => {
                path.pop_if_empty().extend(["api", "v1"]).extend(&self.path);
            }
            Err(()) => return Err(Error::invalid_input(format!("`{base}` is not the address of a station"))),
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        Ok(url)
    }

    /// The body as it travels.
    pub(super) fn payload(&self) -> Result<Option<Bytes>> {
        let Some(body) = &self.body else { return Ok(None) };
        let text = body.to_string();
        if text.len() > MOST_BODY_BYTES { Err(too_large("the input")) } else { Ok(Some(text.into())) }
    }

    /// The method's name.
    pub(super) const fn method(&self) -> reqwest::Method {
        match self.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Patch => reqwest::Method::PATCH,
            Method::Delete => reqwest::Method::DELETE,
        }
    }
}

/// `.` and `..` would be taken for directions, and an empty segment for none.
fn segment(spec: &ToolSpec, field: &str, value: Option<Value>) -> Result<String> {
    let missing = || Error::invalid_input(format!("`{}` needs `{field}`", spec.name)).field(field);
    let text = plain(&value.ok_or_else(missing)?);
    match text.as_str() {
        "" => Err(listed(Error::invalid_input(format!("`{field}` is empty")), spec).field(field)),
        "." | ".." => Err(listed(Error::invalid_input(format!("`{field}` can't be `{text}`")), spec).field(field)),
        _ => short(field, text),
    }
}

/// `error` with the command that shows what there is to choose from.
fn listed(error: Error, spec: &ToolSpec) -> Error {
    match spec.cli.and_then(|cli| cli.verb.split_once(' ')) {
        Some((noun, _)) => error.hint(format!("`stn {noun} list` shows what there is")),
        None => error,
    }
}

fn short(field: &str, text: String) -> Result<String> {
    if text.len() <= MOST_ADDRESS_BYTES {
        return Ok(text);
    }
    let beginning: String = text.chars().take(SHOWN_OF_LONGER).collect();
    let message =
        format!("`{field}` is {} bytes long, at most {MOST_ADDRESS_BYTES} are possible: `{beginning}…`", text.len());
    Err(Error::invalid_input(message).field(field))
}

/// The error for a text (`what`) that no station would take.
pub(super) fn too_large(what: &str) -> Error {
    Error::payload_too_large(format!("{what} is too large: a station takes at most 10.5 MiB"))
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn pairs(name: &str, value: &Value) -> Vec<(String, String)> {
    match value {
        Value::Array(items) => items.iter().map(|item| (name.to_owned(), plain(item))).collect(),
        other => vec![(name.to_owned(), plain(other))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::tools;
    use serde_json::json;

    fn request(tool: &str, input: Value) -> Result<Request> {
        let table = tools::table();
        let Value::Object(input) = input else { panic!("an object") };
        Request::tool(&table.get(tool).unwrap().spec, input)
    }

    fn shown(tool: &str, input: Value) -> String {
        let request = request(tool, input).unwrap();
        let url = request.url(&Url::parse("http://station/prefix/").unwrap()).unwrap();
        let body = request.body.as_ref().map(|body| format!(" {body}")).unwrap_or_default();
        format!("{} {url}{body}", request.method())
    }

    #[test]
    fn each_field_goes_where_the_spec_says() {
        assert_eq!(
            shown("agent_list", json!({ "limit": 5, "environment": "staging" })),
            "GET http://station/prefix/api/v1/agents?environment=staging&limit=5"
        );
        assert_eq!(
            shown("agent_run", json!({ "agent": "a/b c", "environment": "x", "input": { "q": 1 }, "wait_ms": 0 })),
            "POST http://station/prefix/api/v1/agents/a%2Fb%20c/queue?environment=x {\"input\":{\"q\":1},\"wait_ms\":0}"
        );
        assert_eq!(
            shown("agent_update", json!({ "agent": "a", "model": null })),
            "PATCH http://station/prefix/api/v1/agents/a {\"model\":null}"
        );
        assert_eq!(shown("agent_delete", json!({ "agent": "a" })), "DELETE http://station/prefix/api/v1/agents/a");
        assert_eq!(
            shown("environment_sync", json!({ "environment": "staging", "dry_run": true })),
            "POST http://station/prefix/api/v1/environments/staging/sync {\"dry_run\":true}"
        );
        assert_eq!(shown("station_status", json!({})), "GET http://station/prefix/api/v1/status");
        assert_eq!(
            shown("run_cancel", json!({ "run": "0199", "environment": "staging" })),
            "POST http://station/prefix/api/v1/runs/0199/cancel?environment=staging {}"
        );
        assert_eq!(
            shown("run_events", json!({ "run": "0199", "after": 7 })),
            "GET http://station/prefix/api/v1/runs/0199/events?after=7"
        );
    }

    #[test]
    fn a_path_field_is_needed_and_can_lead_nowhere_else() {
        assert_eq!(request("agent_get", json!({})).unwrap_err().field_name(), Some("agent"));
        assert!(request("agent_get", json!({ "agent": ".." })).is_err());
    }

    #[test]
    fn a_value_too_long_for_an_address_is_refused_by_name_and_not_repeated() {
        let long = "a".repeat(120_000);
        for (tool, input) in [
            ("agent_run", json!({ "agent": long })),
            ("run_list", json!({ "agent": long })),
            ("run_get", json!({ "run": long })),
        ] {
            let field = input.as_object().unwrap().keys().next().unwrap().clone();
            let error = request(tool, input).unwrap_err();
            assert_eq!((error.kind(), error.field_name()), (ErrorKind::InvalidInput, Some(field.as_str())), "{tool}");
            assert!(error.message().len() < 200, "{error}");
        }
    }

    #[test]
    fn a_body_that_no_station_takes_is_not_sent() {
        let of = |bytes: usize| request("agent_run", json!({ "agent": "a", "input": "x".repeat(bytes) })).unwrap();
        let error = of(MOST_BODY_BYTES).payload().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PayloadTooLarge);
        assert!(error.message().contains("at most 10.5 MiB"), "{error}");
        assert!(of(MOST_BODY_BYTES - 100).payload().unwrap().is_some());
    }

    #[test]
    fn an_empty_name_is_called_empty_and_the_hint_lists_what_there_is() {
        let error = request("agent_get", json!({ "agent": "" })).unwrap_err();
        assert_eq!(error.message(), "`agent` is empty");
        assert_eq!(error.hint_text(), Some("`stn agent list` shows what there is"));
        let error = request("run_get", json!({ "run": "" })).unwrap_err();
        assert_eq!(error.hint_text(), Some("`stn run list` shows what there is"));
    }

    #[test]
    fn every_tool_of_the_table_has_a_route() {
        let without: Vec<_> =
            tools::table().iter().filter(|tool| tool.spec.rest.is_none()).map(|tool| tool.spec.name).collect();
        assert_eq!(without, [] as [&str; 0]);
    }
}
