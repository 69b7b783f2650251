use super::super::keys::{Form, every_place_of};
use super::super::settings::{ProviderApi, SecretOr, ThinkSetting};
use super::keys::KEYS;
use super::variables::STATIC;
use super::*;
use crate::domain::Price;
use secrecy::ExposeSecret;

fn settings(text: &str, variables: &[(&str, &str)]) -> Result<Settings, FileProblem> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parse_settings("station.yml", text, &variables)
}

#[test]
fn every_static_key_in_force_has_its_variable() {
    let mut paths = Vec::new();
    for key in KEYS.known {
        match key.form {
            Form::Named(..) => {}
            Form::Map(inner) => {
                let plain = inner.known.iter().filter(|key| !matches!(key.form, Form::Named(..)));
                paths.extend(plain.map(|inner| format!("{}.{}", key.name, inner.name)));
            }
            _ => paths.push(key.name.to_owned()),
        }
    }
    let missing: Vec<_> = paths.iter().filter(|path| !STATIC.iter().any(|(known, _)| known == path)).collect();
    assert!(paths.len() > 10 && missing.is_empty(), "{missing:?}");
}

#[test]
fn without_a_file_the_documented_defaults_hold() {
    let found = settings("", &[("PATH", "/bin"), ("STN_HOME", "/x")]).unwrap();
    assert_eq!(found.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!((found.runs.workers, found.runs.queue_limit, found.runs.max_steps), (8, 10_000, 25));
    assert_eq!((found.runs.timeout_ms, found.runs.tool_timeout_ms, found.runs.result_bytes), (600_000, 60_000, 32_768));
}

#[test]
fn every_section_in_force_is_read() {
    let text = r#"default_environment: staging
http: { listen: "[::1]:9000", allowed_hosts: [a.example] }
log: { level: debug, format: json, file: logs/a.log }
models: { default: openai/x, detect: false }
providers:
  openai: { api: openai_chat, api_key: "{{ secret.OPENAI }}", headers: { X-Org: abc }, timeout: 2m }
  local: { api: offline }
runs: { workers: 2, timeout: 1h }
environments:
  staging: { kind: production, model: local/a, variables_from_process: [TOKEN], auto_accept_commands: true }
  production:
"#;
    let found = settings(text, &[]).unwrap();
    assert_eq!(found.default_environment, Some(Name::new("staging").unwrap()));
    assert_eq!((found.http.listen.port(), found.http.allowed_hosts.len()), (9000, 1));
    assert_eq!((found.log.level.as_str(), found.log.format), ("debug", LogFormat::Json));
    let openai = &found.providers["openai"];
    assert!(matches!(&openai.api_key, Some(SecretOr::Reference(name)) if name == "OPENAI"));
    assert!(matches!(&openai.headers["X-Org"], SecretOr::Plain(text) if text.expose_secret() == "abc"));
    assert_eq!((openai.timeout_ms, found.runs.timeout_ms), (Some(120_000), 3_600_000));
    assert_eq!(found.environment(&Name::new("staging").unwrap()).auto_accept_commands, Some(true));
    assert_eq!(found.environment(&Name::new("production").unwrap()).auto_accept_commands, None);
    let kind = |name: &str| found.kind(&Name::new(name).unwrap()).as_str();
    assert_eq!((kind("staging"), kind("development"), kind("qa")), ("production", "development", "production"));
}

#[test]
fn an_edit_of_the_file_is_noticed_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("station.yml");
    let read = || load_settings(&path, "station.yml", &BTreeMap::new()).unwrap();
    let without = read();
    assert!(!settings_changed(&without, &path));
    std::fs::write(&path, "runs: { workers: 2 }\n").unwrap();
    let with = read();
    assert!(settings_changed(&without, &path) && !settings_changed(&with, &path));
    std::fs::write(&path, "runs: { workers: 3 }\n").unwrap();
    assert!(settings_changed(&with, &path));
}

#[test]
fn a_well_known_provider_needs_nothing_but_its_key() {
    let text = "providers: { openai: { api_key: sk-a }, anthropic: { api_key: sk-b }, gemini: { api_key: sk-c } }\n";
    let found = settings(text, &[]).unwrap();
    let api = |name: &str| found.providers[name].api;
    assert_eq!((api("openai"), api("anthropic")), (ProviderApi::Openai, ProviderApi::Anthropic));
    assert_eq!(api("gemini"), ProviderApi::Gemini);
    let other = settings("providers: { mistral: { api_key: sk-c } }\n", &[]).unwrap_err();
    assert!(other.message.contains("a provider needs one of openai_responses"), "{other}");
}

#[test]
fn ollama_is_told_how_much_context_to_take_and_whether_to_think() {
    let found = settings(
        "providers: { ollama: { context_tokens: 65536, think: false }, b: { api: ollama, think: high } }",
        &[],
    );
    let providers = found.unwrap().providers;
    let of = |name: &str| (providers[name].api, providers[name].context_tokens, providers[name].think);
    assert_eq!(of("ollama"), (ProviderApi::Ollama, Some(65_536), Some(ThinkSetting::Off)));
    assert_eq!(of("b"), (ProviderApi::Ollama, None, Some(ThinkSetting::High)));
}

#[test]
fn prices_are_dollars_per_million_tokens() {
    let text = "models:\n  prices:\n    a/b: { input: 0.75, cached_input: \"0.075\", output: 4.5 }\n    a/c:d: { input: 3, output: 15 }\n";
    let found = settings(text, &[]).unwrap().models.prices;
    assert_eq!(found["a/b"], Price { input: 750_000, cached_input: 75_000, output: 4_500_000 });
    assert_eq!(found["a/c:d"], Price { input: 3_000_000, cached_input: 3_000_000, output: 15_000_000 });
}

#[test]
fn a_variable_stands_above_the_file() {
    let variables = [
        ("STN_HTTP_LISTEN", "127.0.0.1:1"),
        ("STN_RUNS_WORKERS", "3"),
        ("STN_HTTP_ALLOWED_HOSTS", "a, b"),
        ("STN_HTTP_BEHIND_PROXY", "true"),
        ("STN_MODELS_DETECT", ""),
    ];
    let found = settings("http: { listen: \"127.0.0.1:2\" }\nmodels: { detect: false }\n", &variables).unwrap();
    assert_eq!((found.http.listen.port(), found.runs.workers, found.models.detect), (1, 3, false));
    assert_eq!((found.http.allowed_hosts, found.http.behind_proxy), (vec!["a".to_owned(), "b".to_owned()], true));
}

#[test]
fn a_bad_or_unknown_variable_is_named() {
    let problem = settings("", &[("STN_HTTP_LISTENS", "x")]).unwrap_err();
    assert_eq!(
        problem.to_string(),
        "environment variable STN_HTTP_LISTENS: no setting has this name; did you mean STN_HTTP_LISTEN?"
    );
    let problem = settings("http: { listen: \"127.0.0.1:2\" }", &[("STN_HTTP_LISTEN", "nowhere")]).unwrap_err();
    assert_eq!((problem.file.as_str(), problem.line), ("environment variable STN_HTTP_LISTEN", None));
    assert!(settings("", &[("STN_RUNS_WORKERS", "many")]).unwrap_err().message.contains("whole number"));
}

#[test]
fn the_short_switch_against_detection_stands_above_the_setting() {
    let detects = |text: &str, value: &str| {
        settings(text, &[("STN_MODELS_DETECT", "true"), ("STN_NO_DETECT", value)]).map(|found| found.models.detect)
    };
    for (value, expected) in [("1", false), ("true", false), ("0", true), ("", true)] {
        assert_eq!(detects("models: { detect: true }", value), Ok(expected), "{value}");
    }
    let problem = detects("", "perhaps").unwrap_err();
    assert!(problem.to_string().contains("STN_NO_DETECT: expected 1 or 0, found `perhaps`"), "{problem}");
}

#[test]
fn settings_of_an_environment_that_does_not_exist_are_refused_with_their_line() {
    let text = "environments:\n  staging:\n    model: a/b\n  prodution:\n    auto_accept_commands: false\n";
    let found = settings(text, &[]).unwrap();
    let refused = check_environments(&found, "station.yml", &["production", "staging"]).unwrap_err();
    assert_eq!(
        refused.message(),
        "station.yml:4:3: `environments.prodution`: there is no such environment; did you mean `production`?"
    );
    assert_eq!(refused.report().details.unwrap()["exit_code"], 78);
    assert!(check_environments(&found, "station.yml", &["prodution", "staging"]).is_ok());
}

#[test]
fn unknown_keys_and_what_comes_later_are_errors_with_their_line() {
    for (text, part) in [
        ("\nhtp: {}\n", "unknown key `htp`; did you mean `http`?"),
        ("\nruns: { worker: 1 }\n", "did you mean `workers`?"),
        ("\nssh: { listen: \"0.0.0.0:2222\" }\n", "`ssh` is not supported by this version"),
        (
            "providers:\n  o: { api: openai_chat, headers: { \"X A\": b } }\n",
            "`providers.o.headers`: `X A` can't be the name of a header",
        ),
        (
            "providers:\n  o: { api: openai_chat, headers: { Content-Length: \"1\" } }\n",
            "`content-length` is for the station",
        ),
        ("providers:\n  o: { api: openai_chat, headers: { X-A: b, x-a: c } }\n", "`X-A` and `x-a` are the same header"),
        (
            "providers:\n  o: { api: anthropic, api_key: \"{{ secret.A }}\", headers: { X-Api-Key: c } }\n",
            "`X-Api-Key` is what `api_key` is sent as",
        ),
        (
            "\nproviders: { o: { api: openai_chat, api_key: a, headers: { authorization: c } } }\n",
            "`authorization` is what `api_key` is sent as",
        ),
        ("providers:\n  o: { api: gemini, api_key: \"a\\nb\" }\n", "without blanks and line breaks"),
        ("providers:\n  o: { api: gemini, api_key: \"\\u201ca\\u201d\" }\n", "a key consists of ASCII letters"),
        (
            "\nproviders: { o: { api: openai_chat, headers: { A: \"x\\ny\" } } }\n",
            "`providers.o.headers`: the value of `A` has a line break",
        ),
        ("http:\n  tls: { cert: a, key: b }\n", "`http.tls` is not supported"),
        (
            "http:\n  allowed_hosts: [a.example, \"https://b.example\"]\n",
            "`http.allowed_hosts.1`: `https://b.example` is no host",
        ),
        ("http:\n  allowed_hosts: [\"\"]\n", "`http.allowed_hosts.0`: an empty text is no host"),
        (
            "http:\n  allowed_origins: [not an origin]\n",
            "`http.allowed_origins.0`: `not an origin` is no origin such as",
        ),
        ("http:\n  allowed_origins: [\"https://a/b\"]\n", "`http.allowed_origins.0`: `https://a/b` is no origin"),
        ("http:\n  allowed_origins: [\"*\"]\n", "`http.allowed_origins.0`: `*` is no origin"),
        ("http:\n  behind_proxy: 127.0.0.1\n", "`http.behind_proxy`: expected true or false"),
        ("models:\n  prices: { a: { input: 1, output: 1 } }\n", "`models.prices`: `a` names no provider and model"),
        ("models:\n  prices: { a/b: 1 }\n", "expected a map"),
        ("models:\n  prices: { a/b: { input: 1 } }\n", "`output` is missing"),
        ("models:\n  prices: { a/b: { input: -1, output: 1 } }\n", "expected USD per million tokens"),
        ("models:\n  prices: { a/b: { input: 1, output: 1, cache: 1 } }\n", "unknown key `models.prices.a/b.cache`"),
        ("providers:\n  o: { api: anthropic, context_tokens: 4096 }\n", "only a provider with `api: ollama` has it"),
        (
            "providers:\n  o: { api: offline, max_output_tokens: 100 }\n",
            "a provider with `api: offline` doesn't have it",
        ),
        ("providers:\n  o: { api: anthropic, max_output_tokens: 0 }\n", "a whole number from 1"),
        ("providers:\n  o: { api: ollama, think: much }\n", "is none of low, medium, high"),
        ("providers:\n  o: { api: ollama, context_tokens: 0 }\n", "a whole number from 1"),
        ("environments:\n  a: { sandbox: strict }\n", "`environments.a.sandbox` is not supported"),
        (
            "providers:\n  g: { api: openai }\n",
            "is none of openai_responses, openai_chat, anthropic, gemini, ollama, offline",
        ),
        ("providers:\n  g: { api_key: sk-a }\n", "a provider needs one of openai_responses"),
        ("providers:\n  o: { api: anthropic, base_url: \"http://h/v1\" }\n", "`http://h` is plain http"),
        ("providers:\n  o: { api: anthropic, base_url: h }\n", "no http or https URL"),
        ("\nviews: { a: [b] }\n", "`views` is not supported"),
        ("runs:\n  retention: 30d\n", "`runs.retention` is not supported"),
        ("log:\n  level: loud\n", "is none of error"),
        ("models:\n  default: gpt\n", "`models.default`: `gpt` names no provider and model"),
        (
            "environments:\n  a: { kind: prodution }\n",
            "is none of development, staging, production; did you mean `production`?",
        ),
        (
            "environments:\n  a: { variables_from_process: [HOME, $PATH] }\n",
            "`environments.a.variables_from_process.1`: `$PATH` is no name",
        ),
        ("environments:\n  a: { variables_from_process: [\"\"] }\n", "an empty text is no name of a variable"),
        ("environments:\n  a: { model: gpt }\n", "`environments.a.model`: `gpt` names no provider"),
        ("environments:\n  \"Bad Name\": { model: a/b }\n", "not a valid name"),
        ("providers:\n  o: { api: openai_chat, api_key: \"x {{ secret.A }}\" }\n", "nothing but"),
    ] {
        let problem = settings(text, &[]).unwrap_err();
        assert!(problem.message.contains(part) && problem.line == Some(2), "{text}: {problem}");
    }
}

#[test]
fn headers_that_go_with_a_provider_are_read() {
    let text = "providers:\n  o: { api: anthropic, api_key: a, headers: { Authorization: é, X-Team: b } }\n  p: { api: openai_chat, headers: { Authorization: c } }\n";
    let providers = settings(text, &[]).unwrap().providers;
    assert_eq!((providers["o"].headers.len(), providers["p"].headers.len()), (2, 1));
}

#[test]
fn every_fault_is_found_and_leaves_the_rest_alone() {
    let text = "htp: {}\nhttp: { listen: nowhere }\nruns:\n  workers: 0\n  timeout: soon\n  max_steps: 3\nenvironments:\n  a: { kind: x, model: y }\n  \"B c\": {}\nproviders:\n  p: { api: no }\n  q: { api: offline }\n";
    let variables = [("STN_RUNS_QUEUE_LIMIT", "many"), ("STN_NONE", "1"), ("STN_NO_DETECT", "x")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let (found, faults) = settings_of("station.yml", text, &variables);
    let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_deref().unwrap_or(&fault.file)).collect();
    assert_eq!(
        keys,
        [
            "environment variable STN_NONE",
            "runs.queue_limit",
            "models.detect",
            "htp",
            "http.listen",
            "runs.workers",
            "runs.timeout",
            "providers.p.api",
            "environments.B c",
            "environments.a.kind",
            "environments.a.model"
        ]
    );
    assert_eq!((found.runs.max_steps, found.providers.len(), found.environments.len()), (3, 1, 1));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("station.yml");
    std::fs::write(&path, text).unwrap();
    let error = load_settings(&path, "station.yml", &BTreeMap::new()).unwrap_err();
    assert!(error.hint_text().unwrap().ends_with("; `stn config check` shows 7 more"), "{error:?}");
}

#[test]
fn keys_never_show_in_debug_output() {
    let found = settings("providers: { o: { api: openai_chat, api_key: sk-very-secret } }", &[]).unwrap();
    assert!(!format!("{found:?}").contains("sk-very-secret"));
}

#[test]
fn a_key_in_any_wrong_line_is_never_quoted() {
    const KEY: &str = "sk-proj-Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6";
    let mut refused = 0;
    for path in every_place_of(&KEYS) {
        for value in [KEY.to_owned(), format!("[{KEY}]"), format!("{{ {KEY}: 1 }}")] {
            let text = path.iter().rev().fold(value, |inner, key| format!("{{ \"{key}\": {inner} }}"));
            let (_, faults) = settings_of("station.yml", &text, &BTreeMap::new());
            assert!(!format!("{faults:?}").contains("Zm9v"), "{text}: {faults:?}");
            refused += faults.len();
        }
    }
    assert!(refused > 60, "{refused}");
    for (path, _) in STATIC {
        let name = format!("STN_{}", path.to_uppercase().replace('.', "_"));
        let told = settings("", &[(&name, KEY)]).map(|_| ());
        assert!(!format!("{told:?}").contains("Zm9v"), "{told:?}");
    }
    let typo = settings("providers: { o: { api: opnai_chat } }", &[]).unwrap_err();
    assert!(typo.message.starts_with("`providers.o.api`: `opnai_chat` is none of"), "{typo}");
}
