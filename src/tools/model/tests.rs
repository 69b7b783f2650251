//! Which model wins, why, and what is said where there is none.

use super::*;
use crate::clock::ManualClock;
use crate::domain::{EnvironmentNumber, Timestamp};
use crate::error::ErrorKind;
use futures_util::FutureExt;

const LOCAL: &str = "providers:\n  local: { api: openai_chat, base_url: 'http://127.0.0.1:1' }\n";

fn variables(set: &[&str]) -> ProviderVariables {
    ProviderVariables::from_map(&set.iter().map(|name| ((*name).to_owned(), "sk-test".to_owned())).collect())
}

pub(super) fn models(yaml: &str, process: &[&str]) -> Models {
    let settings = config::parse_settings("station.yml", &format!("{LOCAL}{yaml}"), &BTreeMap::new()).unwrap();
    let clock = ManualClock::at(Timestamp::from_millis(0));
    Models::new(Arc::new(settings), variables(process), reqwest::Client::new(), clock)
}

pub(super) fn name(text: &str) -> Name {
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
        let chosen = models(yaml, &["OPENAI_API_KEY"]).choose(&development, asked, agent, None).now_or_never().unwrap();
        assert_eq!(shown(chosen), (expected.to_owned(), reason.to_owned()));
    }
}

#[test]
fn without_a_named_model_a_provider_key_decides_where_the_environment_lets_it_in() {
    let named = "environments: { staging: { variables_from_process: [ANTHROPIC_API_KEY] } }";
    for (environment, yaml, keys, provider, reason) in [
        ("development", "", ["OPENAI_API_KEY", "ANTHROPIC_API_KEY"], "openai", "OPENAI_API_KEY is set"),
        ("development", "", ["ANTHROPIC_API_KEY", "OPENAI_BASE_URL"], "anthropic", "ANTHROPIC_API_KEY is set"),
        ("development", "", ["GOOGLE_API_KEY", "GEMINI_API_KEY"], "gemini", "GEMINI_API_KEY is set"),
        ("development", "", ["GOOGLE_API_KEY", "OPENAI_BASE_URL"], "gemini", "GOOGLE_API_KEY is set"),
        ("development", "", ["GOOGLE_API_KEY", "ANTHROPIC_API_KEY"], "anthropic", "ANTHROPIC_API_KEY is set"),
        ("staging", named, ["OPENAI_API_KEY", "ANTHROPIC_API_KEY"], "anthropic", "ANTHROPIC_API_KEY is set"),
    ] {
        let chosen = models(yaml, &keys).choose(&name(environment), None, None, None).now_or_never().unwrap();
        assert_eq!(shown(chosen), (usual(provider), reason.to_owned()));
    }
}

#[test]
fn a_model_without_provider_is_known_by_its_family_or_looked_up_where_the_environment_looks() {
    let development = name("development");
    let choose = |yaml: &str, keys: &[&str], asked: Option<&str>, agent: &str| {
        let models = models(yaml, keys);
        models.choose(&development, asked, Some(agent), None).now_or_never().unwrap()
    };
    let key = ["OPENAI_API_KEY"];
    assert_eq!(shown(choose("", &key, None, "gpt-5-mini")).0, "openai/gpt-5-mini");
    assert_eq!(shown(choose("models: { default: local/x }", &key, None, "llama3.2")).0, "local/llama3.2");
    let open = choose("models: { default: local/x }", &key, None, "gpt-oss:20b");
    assert_eq!(shown(open).0, "local/gpt-oss:20b", "its weights are open: it may be anybody's");
    let nowhere = choose("", &[], None, "llama3.2").unwrap_err();
    assert!(nowhere.message().starts_with("model `llama3.2` names no provider"), "{nowhere}");
    assert!(nowhere.hint_text().is_some_and(|hint| hint.contains("provider/model")));
    let asked = choose("", &[], Some("offline/rules-1"), "llama3.2");
    assert_eq!(shown(asked).0, "offline/rules-1");
}

#[test]
fn a_newcomer_in_development_gets_the_offline_rules() {
    let empty = BTreeMap::from([("OPENAI_API_KEY".to_owned(), String::new())]);
    let caller = ProviderVariables::from_map(&empty);
    assert!(caller.is_empty());
    let chosen = models("", &["OPENAI_BASE_URL"])
        .choose(&name("development"), None, None, Some(&caller))
        .now_or_never()
        .unwrap();
    let reason = "no model is configured and no provider key is set, such as OPENAI_API_KEY or ANTHROPIC_API_KEY";
    assert_eq!(shown(chosen), ("offline/rules-1".to_owned(), reason.to_owned()));
    let off = models("models: { detect: false }", &[]);
    let off = off.choose(&name("development"), None, None, None).now_or_never().unwrap();
    assert_eq!(shown(off).1, "no model is configured, and `models.detect` is off");
}

#[test]
fn where_a_variable_is_not_let_in_the_hint_says_how_to_let_it_in() {
    let models = models("", &["OPENAI_API_KEY"]);
    for (environment, expected) in [
        ("development", "set `ANTHROPIC_API_KEY`, or `providers.anthropic.api_key`"),
        ("staging", "name `ANTHROPIC_API_KEY` under `environments.staging.variables_from_process`"),
    ] {
        let refused = models.build(&name(environment), "anthropic", None, None).map(|_| ()).unwrap_err();
        let hint = refused.hint_text().unwrap();
        assert!(hint.contains(expected), "{hint}");
    }
}

#[test]
fn the_reason_for_the_offline_rules_says_which_key_does_not_count_and_why() {
    for (yaml, reason) in [
        ("models: { detect: false }", "OPENAI_API_KEY isn't looked at: `models.detect` is off"),
        (
            "  openai: { api: openai_chat, base_url: 'https://gate.example' }",
            "OPENAI_API_KEY isn't used: station.yml has its provider's key or address",
        ),
    ] {
        let chosen =
            models(yaml, &["OPENAI_API_KEY"]).choose(&name("development"), None, None, None).now_or_never().unwrap();
        assert_eq!(shown(chosen), ("offline/rules-1".to_owned(), format!("no model is configured, and {reason}")));
    }
}

#[test]
fn key_and_address_come_from_one_source() {
    let set = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        ProviderVariables::from_map(&pairs.collect())
    };
    let (key, url) = (("OPENAI_API_KEY", "sk-a"), ("OPENAI_BASE_URL", "https://a.example"));
    let (other_key, other_url) = (("OPENAI_API_KEY", "sk-b"), ("OPENAI_BASE_URL", "https://b.example"));
    let keyed = "  openai: { api: openai_chat, api_key: sk-file }";
    let addressed = "  openai: { api: openai_chat, base_url: 'https://file.example' }";
    let (none, a, b): (_, Option<&str>, _) = (None, Some("https://a.example"), Some("https://b.example"));
    for (yaml, process, caller, found) in [
        ("", set(&[key]), set(&[other_url]), Some((Source::Process, Some("sk-a"), none))),
        ("", set(&[url]), set(&[other_key]), Some((Source::Caller, Some("sk-b"), none))),
        ("", set(&[key, url]), set(&[other_key, other_url]), Some((Source::Process, Some("sk-a"), a))),
        ("", set(&[]), set(&[other_key, other_url]), Some((Source::Caller, Some("sk-b"), b))),
        ("", set(&[url]), set(&[other_url]), None),
        (keyed, set(&[url]), set(&[other_url]), Some((Source::Settings, Some("sk-file"), none))),
        (addressed, set(&[key]), set(&[other_key]), Some((Source::Settings, None, Some("https://file.example")))),
        ("  openai: { api: anthropic }", set(&[key]), set(&[]), None),
        ("  openai: { api: openai_responses }", set(&[key]), set(&[]), Some((Source::Process, Some("sk-a"), none))),
    ] {
        let station = Models { process, ..models(yaml, &[]) };
        let access = station.access(&name("development"), "openai", Some(&caller)).unwrap();
        let access = access.as_ref().map(|access| {
            let key = access.api_key.as_ref().map(secrecy::ExposeSecret::expose_secret);
            (access.source, key, access.base_url.as_deref())
        });
        assert_eq!(access, found, "{yaml}");
    }
}

#[test]
fn the_headers_of_station_yml_go_to_no_host_that_somebody_else_has_named() {
    let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let variables = |pairs: &[(String, String)]| ProviderVariables::from_map(&pairs.iter().cloned().collect());
    let openai = |rest: &str| format!("  openai: {{ api: openai_chat, headers: {{ X-Gateway-Token: gw }}{rest} }}");
    let ollama = |rest: &str| format!("  ollama: {{ api: ollama, headers: {{ X-Gateway-Token: gw }}{rest} }}");
    let key = set("OPENAI_API_KEY", "sk-a");
    let (address, host) =
        (set("OPENAI_BASE_URL", "https://other.example"), set("OLLAMA_HOST", "https://other.example"));
    for (provider, yaml, set, is_sent) in [
        ("openai", openai(""), vec![key.clone()], true),
        ("openai", openai(""), vec![key.clone(), address.clone()], false),
        ("openai", openai(", base_url: 'https://gate.example'"), vec![key.clone(), address.clone()], true),
        ("openai", openai(", api_key: sk-file"), vec![key, address], true),
        ("ollama", ollama(""), vec![], true),
        ("ollama", ollama(""), vec![host.clone()], false),
        ("ollama", ollama(", base_url: 'https://gate.example'"), vec![host], true),
    ] {
        let given = variables(&set);
        let by_process = Models { process: given.clone(), ..models(&yaml, &[]) };
        let by_caller = models(&yaml, &[]);
        for (station, caller) in [(by_process, None), (by_caller, Some(&given))] {
            let config = station.config(&name("development"), provider, caller).unwrap();
            assert_eq!(config.headers.len(), usize::from(is_sent), "{yaml} {set:?} {:?}", config.base_url);
        }
    }
}

#[test]
fn a_key_whose_address_the_environment_does_not_let_in_is_sent_nowhere() {
    let process = BTreeMap::from([
        ("OPENAI_API_KEY".to_owned(), "sk-gateway".to_owned()),
        ("OPENAI_BASE_URL".to_owned(), "https://gate.example".to_owned()),
    ]);
    let station = |yaml: &str| Models { process: ProviderVariables::from_map(&process), ..models(yaml, &[]) };
    let torn = station("environments: { production: { variables_from_process: [OPENAI_API_KEY] } }");
    for asked in [None, Some("openai/m")] {
        let refused = torn.choose(&name("production"), asked, None, None).now_or_never().unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert!(
            refused.message().contains("OPENAI_API_KEY") && refused.message().contains("OPENAI_BASE_URL"),
            "{refused}"
        );
        let hint = refused.hint_text().unwrap();
        assert!(hint.contains("`environments.production.variables_from_process`"), "{hint}");
    }
    let both = "environments: { production: { variables_from_process: [OPENAI_API_KEY, OPENAI_BASE_URL] } }";
    let access = station(both).access(&name("production"), "openai", None).unwrap().unwrap();
    assert_eq!(access.base_url.as_deref(), Some("https://gate.example"));
}

#[test]
fn an_address_in_a_variable_is_held_to_the_rule_for_addresses() {
    let process = BTreeMap::from([
        ("OPENAI_API_KEY".to_owned(), "sk-a".to_owned()),
        ("OPENAI_BASE_URL".to_owned(), "http://llm.example/v1".to_owned()),
    ]);
    let station = Models { process: ProviderVariables::from_map(&process), ..models("", &[]) };
    for asked in [None, Some("openai/m")] {
        let refused = station.choose(&name("development"), asked, None, None).now_or_never().unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert!(refused.message().starts_with("OPENAI_BASE_URL: `http://llm.example` is plain http"), "{refused}");
        assert!(refused.hint_text().unwrap().contains("https"), "{refused:?}");
    }
}

#[test]
fn an_answer_may_be_as_long_as_its_provider_says() {
    let station = models("  anthropic: { headers: {} }\n  short: { api: anthropic, max_output_tokens: 100 }", &[]);
    for (provider, most) in [("anthropic", Some(32_000)), ("short", Some(100)), ("openai", None), ("local", None)] {
        let model = ModelChoice { provider: provider.into(), id: "m".into(), reason: String::new() };
        assert_eq!(station.max_output_tokens(&model), most, "{provider}");
    }
}

#[test]
fn all_calls_to_one_provider_at_one_address_share_their_retries() {
    let station = models("", &[]);
    let of = |name, url| station.retries(name, url);
    assert!(Arc::ptr_eq(&of("a", Some("https://a")), &of("a", Some("https://a"))));
    for other in [of("b", Some("https://a")), of("a", Some("https://b")), of("a", None)] {
        assert!(!Arc::ptr_eq(&of("a", Some("https://a")), &other));
    }
}

#[test]
fn elsewhere_the_offline_rules_answer_only_where_they_are_named() {
    for environment in ["staging", "production"] {
        let refused = models("", &["OPENAI_API_KEY"])
            .choose(&name(environment), None, None, None)
            .now_or_never()
            .unwrap()
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert!(refused.message().contains(&format!("`{environment}`")), "{refused}");
        assert!(refused.hint_text().unwrap().contains(&format!("`environments.{environment}.model`")), "{refused:?}");

        let by_environment = format!("environments: {{ {environment}: {{ model: offline/rules-1 }} }}");
        for (yaml, agent) in [(by_environment.as_str(), None), ("", Some("offline/rules-1"))] {
            let chosen = models(yaml, &[]).choose(&name(environment), None, agent, None).now_or_never().unwrap();
            assert_eq!(shown(chosen).0, "offline/rules-1");
        }
    }
}

#[test]
fn a_model_that_nobody_can_answer_for_is_refused_with_the_fix() {
    for (asked, kind, told) in [
        ("gpt", ErrorKind::InvalidInput, "provider/model"),
        ("nobody/m", ErrorKind::InvalidInput, "offline, bare, local"),
        ("anthropic/m", ErrorKind::Unavailable, "ANTHROPIC_API_KEY"),
        ("bare/m", ErrorKind::Unavailable, "`providers.bare.api_key`"),
        ("offline/gpt", ErrorKind::InvalidInput, "`offline/rules-1`"),
        ("rules/gpt", ErrorKind::InvalidInput, "`rules/rules-1`"),
        ("sealed/m", ErrorKind::Unavailable, "`stn secret set A -e development`"),
    ] {
        let yaml = "  bare: { api: openai_chat }\n  rules: { api: offline }\n  sealed: { api: openai_chat, api_key: '{{ secret.A }}' }";
        let refused = models(yaml, &[])
            .choose(&name("development"), Some(asked), None, None)
            .now_or_never()
            .unwrap()
            .unwrap_err();
        assert_eq!(refused.kind(), kind, "{asked}");
        assert!(refused.hint_text().unwrap().contains(told), "{refused:?}");
    }
}

#[test]
fn a_run_that_stands_on_its_callers_key_waits_when_that_is_gone() {
    let (development, caller) = (name("development"), Arc::new(variables(&["OPENAI_API_KEY"])));
    let run = RunId::new(Timestamp::from_millis(0), EnvironmentNumber::new(1).unwrap(), 1);
    let station = models("", &[]);
    let chosen = station.choose(&development, None, None, Some(&caller)).now_or_never().unwrap().unwrap();
    assert!(chosen.from_caller);
    assert!(
        station.choose(&name("staging"), None, None, Some(&caller)).now_or_never().unwrap().is_err(),
        "the key is not let in there"
    );
    let has_provider =
        |station: &Models| station.provider_for(&development, run, &chosen.model, true, None).unwrap().is_some();
    station.remember(run, Arc::clone(&caller));
    assert!(has_provider(&station));
    station.forget(run);
    assert!(!has_provider(&station));
    assert!(has_provider(&models("", &["OPENAI_API_KEY"])), "the station's own key serves as well");
}

#[test]
fn the_providers_that_the_files_may_name_are_those_of_the_table() {
    let of_the_table: Vec<&str> = crate::llm::defaults::TABLE.iter().map(|row| row.provider).collect();
    assert_eq!(of_the_table, crate::config::BUILT_IN_PROVIDERS);
}
