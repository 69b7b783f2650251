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
    pub model: &'static str,
    /// The environment variable that usually holds the key.
    pub key_variable: Option<&'static str>,
    /// The environment variable that usually moves the address.
    pub base_url_variable: Option<&'static str>,
}

/// Every provider known by name.
pub const TABLE: [ProviderDefaults; 3] = [
    ProviderDefaults {
        provider: "openai",
        api: Api::OpenaiChat,
        base_url: "https://api.openai.com/v1",
        model: "gpt-5.4-mini",
        key_variable: Some("OPENAI_API_KEY"),
        base_url_variable: Some("OPENAI_BASE_URL"),
    },
    ProviderDefaults {
        provider: "anthropic",
        api: Api::Anthropic,
        base_url: "https://api.anthropic.com",
        model: "claude-haiku-5-5",
        key_variable: Some("ANTHROPIC_API_KEY"),
        base_url_variable: Some("ANTHROPIC_BASE_URL"),
    },
    OFFLINE,
];

/// The rules that stand in for a model.
pub const OFFLINE: ProviderDefaults = ProviderDefaults {
    provider: "offline",
    api: Api::Offline,
    base_url: "",
    model: "rules-1",
    key_variable: None,
    base_url_variable: None,
};

/// Output tokens asked of Anthropic, whose API requires a number, when the request has none.
pub const ANTHROPIC_MAX_TOKENS: u32 = 8192;

/// The row of a provider by its name.
pub fn of_provider(name: &str) -> Option<&'static ProviderDefaults> {
    TABLE.iter().find(|row| row.provider == name)
}

/// The address of a dialect's own vendor.
pub fn base_url(api: Api) -> &'static str {
    TABLE.iter().find(|row| row.api == api).map_or("", |row| row.base_url)
}

/// OpenAI's models of today refuse tools over Chat Completions unless `reasoning_effort` is `none`; these, older or special, don't know
/// that value.
const WITHOUT_EFFORT_NONE: [&str; 9] =
    ["gpt-3.5", "gpt-4", "chatgpt-", "o1", "o3", "o4", "gpt-5-", "gpt-6-astra", "gpt-6.1-sol"];

/// Does this model of OpenAI's take `reasoning_effort: none`?
pub fn takes_effort_none(model: &str) -> bool {
    model != "gpt-5" && !WITHOUT_EFFORT_NONE.iter().any(|prefix| model.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_model_for_openai_takes_effort_none() {
        let openai = of_provider("openai").unwrap();
        assert!(takes_effort_none(openai.model));
        assert!(takes_effort_none("gpt-6.2-sol") && !takes_effort_none("gpt-5-mini") && !takes_effort_none("gpt-4o"));
        assert_eq!(base_url(Api::Anthropic), "https://api.anthropic.com");
    }
}
