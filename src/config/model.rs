//! What a model is called.

/// Splits `provider/model`, the form of every model's name; the model's own part may have further slashes. `None` for anything else.
/// Whether the provider exists is for those who know the providers.
pub fn split_model(name: &str) -> Option<(&str, &str)> {
    let is_odd = |c: char| c.is_whitespace() || c.is_control();
    name.split_once('/').filter(|(provider, model)| !provider.is_empty() && !model.is_empty() && !name.contains(is_odd))
}
