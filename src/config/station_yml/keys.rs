//! The tables of the keys of `station.yml`.

use super::super::keys::{Form, Keys, Needs, key};
use super::super::price;
use super::super::settings::ProviderApi;
use crate::domain::Name;

/// Keys of a provider that only Ollama's dialect has.
pub(super) const OLLAMA_KEYS: [&str; 2] = ["context_tokens", "think"];
pub(super) const MOST_CONTEXT: u32 = 100_000_000;
pub(super) const MOST_OUTPUT: u32 = 10_000_000;
pub(super) const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
pub(super) const FORMATS: [&str; 2] = ["text", "json"];
const API_WORDS: [&str; 6] = [APIS[0].0, APIS[1].0, APIS[2].0, APIS[3].0, APIS[4].0, APIS[5].0];
pub(super) const THINKING: [&str; 3] = ["low", "medium", "high"];
const KINDS: [&str; 3] = ["development", "staging", "production"];

/// The dialects by their words in the file.
pub(in crate::config) const APIS: [(&str, ProviderApi); 6] = [
    ("openai_responses", ProviderApi::OpenaiResponses),
    ("openai_chat", ProviderApi::OpenaiChat),
    ("anthropic", ProviderApi::Anthropic),
    ("gemini", ProviderApi::Gemini),
    ("ollama", ProviderApi::Ollama),
    ("offline", ProviderApi::Offline),
];

/// Providers whose names say what they speak.
const WELL_KNOWN: [&str; 6] = ["openai", "anthropic", "gemini", "ollama", "llama-server", "lm-studio"];

/// The keys of the file.
pub(in crate::config) static KEYS: Keys = Keys {
    known: &[
        key("default_environment", Form::Name, "The environment of whoever names none."),
        key("http", Form::Map(&HTTP), "Where HTTP is served, and to whom."),
        key("log", Form::Map(&LOG), "What the station writes about itself."),
        key("models", Form::Map(&MODELS), "Which model answers where none is named."),
        key(
            "providers",
            Form::Named(Name::PATTERN, &PROVIDER),
            "Model providers, by the first part of their models' names.",
        ),
        key("runs", Form::Map(&RUNS), "What runs may use."),
        key("environments", Form::Named(Name::PATTERN, &ENVIRONMENT), "What is different in an environment."),
        key(
            "watch",
            Form::Flag,
            "Whether edits of an environment's files are taken up by themselves; on unless said otherwise.",
        ),
    ],
    needs: Needs::Nothing,
    later: &["ssh", "views"],
    idle: &[],
};

pub(super) static HTTP: Keys = Keys {
    known: &[
        key("listen", Form::Listen, "Address and port, such as 127.0.0.1:8080."),
        key("allowed_hosts", Form::Texts, "Values of Host that are answered, beside the loopback names."),
        key(
            "allowed_origins",
            Form::Texts,
            "Pages, by their Origin, that may call the station and read what it answers, with a key.",
        ),
        key(
            "behind_proxy",
            Form::Flag,
            "Whether a proxy on this machine stands in front: the last address of its X-Forwarded-For is then who asks.",
        ),
    ],
    needs: Needs::Nothing,
    later: &["tls"],
    idle: &[],
};

pub(super) static LOG: Keys = Keys::of(&[
    key("level", Form::OneOf(&LEVELS), "From which weight on."),
    key("format", Form::OneOf(&FORMATS), "One line of text or of JSON for each event."),
    key("file", Form::Text, "A file in the home's logs/; absent = stderr."),
]);

pub(super) static MODELS: Keys = Keys {
    known: &[
        key("default", Form::Model, "provider/model, for agents and environments that name none."),
        key("detect", Form::Flag, "Whether a provider is looked for where none is configured."),
        key(
            "prices",
            Form::Named("^[^/\\s]+/\\S+$", &price::KEYS),
            "What models cost, by provider/model, in USD per million tokens; without a price the cost stays unknown.",
        ),
    ],
    needs: Needs::Nothing,
    later: &[],
    idle: &[],
};

pub(super) static PROVIDER: Keys = Keys::of(&[
    key("api", Form::OneOf(&API_WORDS), "The dialect that it speaks."),
    key("base_url", Form::Url, "Its address: https, or http on this machine."),
    key("api_key", Form::Text, "Its key, or {{ secret.NAME }}."),
    key("headers", Form::TextMap, "Headers of every request to it, but to an address that comes from a variable."),
    key(
        "timeout",
        Form::Duration,
        "The longest that it may be silent during a request, such as 2m; 10m unless said otherwise.",
    ),
    key("max_output_tokens", Form::Count(MOST_OUTPUT), "The most tokens that one answer of its models may have."),
    key("context_tokens", Form::Count(MOST_CONTEXT), "With api: ollama: the tokens of context that are asked for."),
    key(
        "think",
        Form::FlagOr(&THINKING),
        "With api: ollama: whether the model thinks before it answers, and how much.",
    ),
])
.needing(Needs::KeyUnlessNamed("api", &WELL_KNOWN));

pub(super) static RUNS: Keys = Keys {
    known: &[
        key("workers", Form::Count(1_000), "Runs that are executed at the same time."),
        key("queue_limit", Form::Count(10_000_000), "Runs that may wait."),
        key("max_steps", Form::Count(10_000), "Turns of a run whose agent says nothing."),
        key("timeout", Form::Duration, "The longest that a run may take whose agent says nothing."),
        key("tool_timeout", Form::Duration, "The longest that a tool call may take whose server says nothing."),
        key("result_bytes", Form::Count(64 * 1024 * 1024), "Bytes of a tool's result that a model is shown."),
    ],
    needs: Needs::Nothing,
    later: &["retention"],
    idle: &[],
};

pub(super) static ENVIRONMENT: Keys = Keys {
    known: &[
        key(
            "kind",
            Form::OneOf(&KINDS),
            "What it is for, which decides what roles may do; absent = what its name says.",
        ),
        key("model", Form::Model, "provider/model, for agents that name none."),
        key("variables_from_process", Form::Texts, "Names of the process's variables that its files may use."),
        key(
            "auto_accept_commands",
            Form::Flag,
            "Whether new and changed commands of servers run without a person's word.",
        ),
    ],
    needs: Needs::Nothing,
    later: &["sandbox", "pin_tools", "approval", "budget"],
    idle: &[],
};
