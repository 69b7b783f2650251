//! The one table of model ids and addresses. Ids come and go: check it against the providers' lists when it is older than a quarter.

use super::Api;

/// The day on which the table was last compared with what the providers offer.
pub const CHECKED_ON: &str = "2026-11-23";

/// What a provider is reached and asked with when nobody says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderDefaults {
    /// The provider's name, and the part before `/` of a model such as `openai/gpt-5.4-mini`.
    pub provider: &'static str,
    pub api: Api,
    /// Empty for a provider without a network.
    pub base_url: &'static str,
    /// What is asked where nobody names a model; empty where only the server knows what it has.
    pub model: &'static str,
    /// The environment variables that usually hold the key; the first that is set counts.
    pub key_variables: &'static [&'static str],
    /// The environment variable that usually moves the address.
    pub base_url_variable: Option<&'static str>,
}

/// Every provider known by name, in the order in which one is looked for where none is named.
pub const TABLE: &[ProviderDefaults] = &[
    ProviderDefaults {
        provider: "openai",
        api: Api::Openai,
        base_url: "https://api.openai.com/v1",
        model: "gpt-5.4-mini",
        key_variables: &["OPENAI_API_KEY"],
        base_url_variable: Some("OPENAI_BASE_URL"),
    },
    ProviderDefaults {
        provider: "anthropic",
        api: Api::Anthropic,
        base_url: "https://api.anthropic.com",
        model: "claude-haiku-5-5",
        key_variables: &["ANTHROPIC_API_KEY"],
        base_url_variable: Some("ANTHROPIC_BASE_URL"),
    },
    ProviderDefaults {
        provider: "gemini",
        api: Api::Gemini,
        // The version that Google's own client uses.
        base_url: "https://generativelanguage.googleapis.com/v1",
        model: "gemini-3.8-flash",
        key_variables: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        base_url_variable: Some("GEMINI_BASE_URL"),
    },
    OLLAMA,
    LLAMA_SERVER,
    LM_STUDIO,
    OFFLINE,
];

/// Ollama on this machine.
pub const OLLAMA: ProviderDefaults = ProviderDefaults {
    provider: "ollama",
    api: Api::Ollama,
    base_url: "http://127.0.0.1:11434",
    model: "",
    key_variables: &[],
    base_url_variable: Some("OLLAMA_HOST"),
};

/// A llama-server on this machine, the server of llama.cpp.
pub const LLAMA_SERVER: ProviderDefaults = ProviderDefaults {
    provider: "llama-server",
    api: Api::OpenaiChat,
    base_url: "http://127.0.0.1:8080/v1",
    model: "",
    key_variables: &[],
    base_url_variable: None,
};

/// LM Studio on this machine.
pub const LM_STUDIO: ProviderDefaults =
    ProviderDefaults { provider: "lm-studio", base_url: "http://127.0.0.1:1234/v1", ..LLAMA_SERVER };

/// The rules that stand in for a model.
pub const OFFLINE: ProviderDefaults = ProviderDefaults {
    provider: "offline",
    api: Api::Offline,
    base_url: "",
    model: "rules-1",
    key_variables: &[],
    base_url_variable: None,
};

/// Output tokens asked of Anthropic, whose API requires a number, when the request has none: what its models of today allow, and servers
/// that are like it mostly do.
pub const ANTHROPIC_MAX_TOKENS: u32 = 32_000;

/// Whether the provider of this row is on this machine, and wants no key.
pub fn is_local(row: &ProviderDefaults) -> bool {
    [OLLAMA, LLAMA_SERVER, LM_STUDIO].iter().any(|local| local.provider == row.provider)
}

/// The row of a provider by its name.
pub fn of_provider(name: &str) -> Option<&'static ProviderDefaults> {
    TABLE.iter().find(|row| row.provider == name)
}

/// The names of a provider's key variables, for messages; `None` where it has none.
pub fn key_variables(provider: &str) -> Option<String> {
    let row = of_provider(provider).filter(|row| !row.key_variables.is_empty())?;
    Some(row.key_variables.iter().map(|variable| format!("`{variable}`")).collect::<Vec<_>>().join(" or "))
}

/// The address of a dialect's own vendor.
pub fn base_url(api: Api) -> &'static str {
    TABLE.iter().find(|row| row.api == api.of_vendor()).map_or("", |row| row.base_url)
}

/// Is this one of OpenAI's reasoning models (`o3`, `gpt-5` and later, tuned ones too)? They keep what they thought only over Responses,
/// and refuse tools over Chat Completions unless they don't think.
pub fn wants_responses(model: &str) -> bool {
    let model = base(model);
    generation(model).is_some_and(|(generation, _)| generation >= 5)
        || model.strip_prefix('o').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// Models of a generation that takes it which refuse `reasoning_effort: none` all the same.
const WITHOUT_EFFORT_NONE: [&str; 2] = ["gpt-6-astra", "gpt-6.1-sol"];

/// Does this model of OpenAI's take `reasoning_effort: none`, without which it refuses tools over Chat Completions? Those since `gpt-5.1`
/// do; older and other ones don't know the value.
pub fn takes_effort_none(model: &str) -> bool {
    let model = base(model);
    generation(model).is_some_and(|generation| generation >= (5, 1))
        && !WITHOUT_EFFORT_NONE.iter().any(|prefix| model.starts_with(prefix))
}

/// The model that a tuned one was made of.
fn base(model: &str) -> &str {
    model.strip_prefix("ft:").unwrap_or(model)
}

/// The numbers in `gpt-5.4-mini`; without the second one it is 0.
fn generation(model: &str) -> Option<(u32, u32)> {
    let leading = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok());
    let numbers = model.strip_prefix("gpt-")?;
    let minor = numbers.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix('.').and_then(leading);
    Some((leading(numbers)?, minor.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_model_for_openai_takes_effort_none() {
        let openai = of_provider("openai").unwrap();
        assert!(takes_effort_none(openai.model));
        assert!(takes_effort_none("gpt-6.2-sol") && !takes_effort_none("gpt-5-mini") && !takes_effort_none("gpt-4o"));
        for model in ["gpt-5.4", "gpt-5.1-mini", "gpt-6-luna", "gpt-10", "ft:gpt-5.4-mini:me::x"] {
            assert!(takes_effort_none(model), "{model}");
        }
        for model in [
            "ft:gpt-4o-mini-2024-07-18:me::x",
            "ft:gpt-6.1-sol:me::x",
            "gpt-5",
            "gpt-5-2025-08-07",
            "gpt-6-astra",
            "gpt-4.1",
            "gpt-oss-120b",
            "gpt-audio",
            "chatgpt-4o-latest",
            "o3",
            "codex-mini-latest",
            "",
        ] {
            assert!(!takes_effort_none(model), "{model}");
        }
        assert_eq!(base_url(Api::Anthropic), "https://api.anthropic.com");
        for api in [Api::Openai, Api::OpenaiChat, Api::OpenaiResponses] {
            assert_eq!(base_url(api), openai.base_url);
        }
    }

    #[test]
    fn openais_reasoning_models_are_told_by_their_names() {
        for model in
            ["gpt-5", "gpt-5.4-mini", "gpt-6.2-sol", "gpt-10", "o1", "o3-mini", "o4-mini-high", "ft:gpt-5.4-mini:me::x"]
        {
            assert!(wants_responses(model), "{model}");
        }
        for model in ["gpt-4o-mini", "gpt-4.1", "gpt-3.5-turbo", "chatgpt-5", "omni", "gpt-oss", "llama-3", "", "o"] {
            assert!(!wants_responses(model), "{model}");
        }
    }
}
