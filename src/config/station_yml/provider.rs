//! `providers` of `station.yml`.

use super::super::fields::Fields;
use super::super::headers;
use super::super::placeholder::secret_reference;
use super::super::problem::FileProblem;
use super::super::settings::{ProviderApi, ProviderSettings, SecretOr, ThinkSetting};
use super::keys::{APIS, MOST_CONTEXT, MOST_OUTPUT, OLLAMA_KEYS, THINKING};
use super::one_of;
use crate::domain::Name;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::collections::BTreeMap;

/// One provider, whose keys have been checked.
pub(super) fn provider(name: &Name, fields: &Fields<'_>) -> Result<ProviderSettings, FileProblem> {
    let api = api(name, fields)?;
    if let Some(key) = OLLAMA_KEYS.iter().find(|key| api != ProviderApi::Ollama && fields.get(key).is_some()) {
        return Err(fields.problem(key, "only a provider with `api: ollama` has it"));
    }
    if api == ProviderApi::Offline && fields.get("max_output_tokens").is_some() {
        return Err(fields.problem("max_output_tokens", "a provider with `api: offline` doesn't have it"));
    }
    let base_url = fields.text("base_url")?;
    if let Some(url) = &base_url {
        fields.outbound("base_url", url)?;
    }
    Ok(ProviderSettings {
        api,
        base_url,
        api_key: api_key(fields)?,
        headers: headers(fields, api)?,
        timeout_ms: fields.duration_ms("timeout")?,
        max_output_tokens: fields.count("max_output_tokens", MOST_OUTPUT)?,
        context_tokens: fields.count("context_tokens", MOST_CONTEXT)?,
        think: think(fields)?,
    })
}

fn api_key(fields: &Fields<'_>) -> Result<Option<SecretOr>, FileProblem> {
    let Some(text) = fields.text("api_key")? else { return Ok(None) };
    let key = secret_or(fields, "api_key", text)?;
    if let SecretOr::Plain(text) = &key {
        headers::check_api_key(fields, "api_key", text.expose_secret())?;
    }
    Ok(Some(key))
}

fn headers(fields: &Fields<'_>, api: ProviderApi) -> Result<BTreeMap<String, SecretOr>, FileProblem> {
    headers::check_names(fields, "headers")?;
    let read = |(name, text): (String, String)| {
        if fields.get("api_key").is_some() && name.eq_ignore_ascii_case(key_header(api)) {
            let reason = format!("`{name}` is what `api_key` is sent as");
            return Err(fields.problem("headers", reason).hint("keep one of them"));
        }
        headers::check_value(fields, "headers", &name, &text)?;
        Ok((name, secret_or(fields, "headers", text)?))
    };
    fields.text_map("headers")?.into_iter().map(read).collect()
}

/// The header that carries the key in a dialect.
fn key_header(api: ProviderApi) -> &'static str {
    match api {
        ProviderApi::Anthropic => "x-api-key",
        ProviderApi::Gemini => "x-goog-api-key",
        ProviderApi::Openai
        | ProviderApi::OpenaiResponses
        | ProviderApi::OpenaiChat
        | ProviderApi::Ollama
        | ProviderApi::Offline => "authorization",
    }
}

fn think(fields: &Fields<'_>) -> Result<Option<ThinkSetting>, FileProblem> {
    if let Some(Value::Bool(_)) | None = fields.get("think") {
        let switch = |on| if on { ThinkSetting::On } else { ThinkSetting::Off };
        return Ok(fields.boolean("think")?.map(switch));
    }
    let text = fields.text("think")?.unwrap_or_default();
    Ok(Some(match one_of(fields, "think", &text, &THINKING)? {
        "low" => ThinkSetting::Low,
        "medium" => ThinkSetting::Medium,
        _ => ThinkSetting::High,
    }))
}

/// The dialect; a provider that is called like one of the well-known ones speaks theirs unless it says otherwise.
fn api(name: &Name, fields: &Fields<'_>) -> Result<ProviderApi, FileProblem> {
    let known = APIS.map(|(word, _)| word);
    let Some(text) = fields.text("api")? else {
        return match name.as_str() {
            "openai" => Ok(ProviderApi::Openai),
            "anthropic" => Ok(ProviderApi::Anthropic),
            "gemini" => Ok(ProviderApi::Gemini),
            "ollama" => Ok(ProviderApi::Ollama),
            "llama-server" | "lm-studio" => Ok(ProviderApi::OpenaiChat),
            _ => Err(fields.problem("api", format!("a provider needs one of {}", known.join(", ")))),
        };
    };
    let word = one_of(fields, "api", &text, &known)?;
    let found = APIS.into_iter().find(|(known, _)| *known == word);
    found.map(|(_, api)| api).ok_or_else(|| fields.problem("api", "is not known"))
}

fn secret_or(fields: &Fields<'_>, key: &str, text: String) -> Result<SecretOr, FileProblem> {
    if let Some(name) = secret_reference(&text) {
        return Ok(SecretOr::Reference(name.to_owned()));
    }
    if text.contains("{{") {
        return Err(fields.problem(key, "write the value itself, or nothing but `{{ secret.NAME }}`"));
    }
    Ok(SecretOr::Plain(SecretString::from(text)))
}
