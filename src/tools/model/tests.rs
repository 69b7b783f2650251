//! Which model wins, why, and what is said where there is none.

use super::*;
use crate::clock::ManualClock;
use crate::domain::{EnvironmentNumber, Timestamp};
use crate::error::ErrorKind;

const LOCAL: &str = "providers: { local: { api: openai_chat, base_url: 'http://127.0.0.1:1' } }\n";

fn variables(set: &[&str]) -> ProviderVariables {
    ProviderVariables::from_map(&set.iter().map(|name| ((*name).to_owned(), "sk-test".to_owned())).collect())
}

fn models(yaml: &str, process: &[&str]) -> Models {
    let settings = config::parse_settings("station.yml", &format!("{LOCAL}{yaml}"), &BTreeMap::new()).unwrap();
    let clock = ManualClock::at(Timestamp::from_millis(0));
    Models::new(Arc::new(settings), variables(process), reqwest::Client::new(), clock)
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn shown(chosen: Result<Chosen>) -> (String, String) {
    let model = chosen.unwrap().model;
    (format!("{}/{}", model.provider, model.id), model.reason)
}

/// The model that the provider is asked for when nobody names one.
fn usual(provider: &str) -> String {
    format!("{provider}/{}", defaults::of_provider(provider).unwrap().model)
}

#[test]
fn whoever_is_nearest_to_the_run_names_its_model_and_the_reason_says_who() {
    let development = name("development");
    let environment = "environments: { development: { model: local/environment } }\n";
    let all = format!("models: {{ default: local/station }}\n{environment}");
    for (asked, agent, yaml, expected, reason) in [
        (Some("local/call"), Some("local/agent"), all.as_str(), "local/call", "the call asked for it"),
        (None, Some("local/agent"), &all, "local/agent", "the agent names it"),
        (None, None, &all, "local/environment", "default of environment `development`"),
        (None, None, "models: { default: local/station }", "local/station", "default of the station"),
    ] {
        let chosen = models(yaml, &["OPENAI_API_KEY"]).choose(&development, asked, agent, None);
        assert_eq!(shown(chosen), (expected.to_owned(), reason.to_owned()));
    }
}

#[test]
fn without_a_named_model_a_provider_key_decides_where_the_environment_lets_it_in() {
    let named = "environments: { staging: { variables_from_process: [ANTHROPIC_API_KEY] } }";
    for (environment, yaml, keys, provider, reason) in [
        ("development", "", ["OPENAI_API_KEY", "ANTHROPIC_API_KEY"], "openai", "OPENAI_API_KEY is set"),
        ("development", "", ["ANTHROPIC_API_KEY", "OPENAI_BASE_URL"], "anthropic", "ANTHROPIC_API_KEY is set"),
        ("staging", named, ["OPENAI_API_KEY", "ANTHROPIC_API_KEY"], "anthropic", "ANTHROPIC_API_KEY is set"),
    ] {
        let chosen = models(yaml, &keys).choose(&name(environment), None, None, None);
        assert_eq!(shown(chosen), (usual(provider), reason.to_owned()));
    }
}

#[test]
fn a_newcomer_in_development_gets_the_offline_rules() {
    let empty = BTreeMap::from([("OPENAI_API_KEY".to_owned(), String::new())]);
    let caller = ProviderVariables::from_map(&empty);
    assert!(caller.is_empty());
    let chosen = models("", &["OPENAI_BASE_URL"]).choose(&name("development"), None, None, Some(&caller));
    let reason = "no model is configured and no provider key is set";
    assert_eq!(shown(chosen), ("offline/rules-1".to_owned(), reason.to_owned()));
    let unasked = models("models: { detect: false }", &["OPENAI_API_KEY"]);
    assert_eq!(shown(unasked.choose(&name("development"), None, None, None)).0, "offline/rules-1");
}

#[test]
fn elsewhere_the_offline_rules_answer_only_where_they_are_named() {
    for environment in ["staging", "production"] {
        let refused = models("", &["OPENAI_API_KEY"]).choose(&name(environment), None, None, None).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert!(refused.message().contains(&format!("`{environment}`")), "{refused}");
        assert!(refused.hint_text().unwrap().contains(&format!("`environments.{environment}.model`")), "{refused:?}");

        let by_environment = format!("environments: {{ {environment}: {{ model: offline/rules-1 }} }}");
        for (yaml, agent) in [(by_environment.as_str(), None), ("", Some("offline/rules-1"))] {
            let chosen = models(yaml, &[]).choose(&name(environment), None, agent, None);
            assert_eq!(shown(chosen).0, "offline/rules-1");
        }
    }
}

#[test]
fn a_model_that_nobody_can_answer_for_is_refused_with_the_fix() {
    for (asked, kind, told) in [
        ("gpt", ErrorKind::InvalidInput, "provider/model"),
        ("nobody/m", ErrorKind::InvalidInput, "openai, anthropic, offline, local"),
        ("anthropic/m", ErrorKind::Unavailable, "ANTHROPIC_API_KEY"),
    ] {
        let refused = models("", &[]).choose(&name("development"), Some(asked), None, None).unwrap_err();
        assert_eq!(refused.kind(), kind, "{asked}");
        assert!(refused.hint_text().unwrap().contains(told), "{refused:?}");
    }
}

#[test]
fn a_run_that_stands_on_its_callers_key_waits_when_that_is_gone() {
    let (development, caller) = (name("development"), Arc::new(variables(&["OPENAI_API_KEY"])));
    let run = RunId::new(Timestamp::from_millis(0), EnvironmentNumber::new(1).unwrap(), 1);
    let station = models("", &[]);
    let chosen = station.choose(&development, None, None, Some(&caller)).unwrap();
    assert!(chosen.from_caller);
    assert!(station.choose(&name("staging"), None, None, Some(&caller)).is_err(), "the key is not let in there");
    let has_provider =
        |station: &Models| station.provider_for(&development, run, &chosen.model, true).unwrap().is_some();
    station.remember(run, Arc::clone(&caller));
    assert!(has_provider(&station));
    station.forget(run);
    assert!(!has_provider(&station));
    assert!(has_provider(&models("", &["OPENAI_API_KEY"])), "the station's own key serves as well");
}
