//! What a tool does to the world, and whose word that is: a built-in speaks for itself, the operator overrules everybody, and annotations of
//! a server are believed for warnings but never for repeating a call.

use crate::domain::{Effect, ToolEffect, ToolOverride};
use serde::Deserialize;

/// The hints of the MCP specification.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Annotations {
    #[serde(default)]
    read_only_hint: Option<bool>,
    #[serde(default)]
    destructive_hint: Option<bool>,
    #[serde(default)]
    idempotent_hint: Option<bool>,
    #[serde(default)]
    open_world_hint: Option<bool>,
}

/// Who speaks in the annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    Builtin,
    Server,
}

/// The effect of a tool. The operator's word replaces the parts that it gives, and makes the whole trusted when it settles what
/// a repeated call would do.
pub(super) fn effect(annotations: Annotations, speaker: Speaker, operator: Option<ToolOverride>) -> ToolEffect {
    let unknown = ToolEffect::default();
    let said = ToolEffect {
        effect: match (annotations.read_only_hint, annotations.destructive_hint) {
            (Some(true), _) => Effect::Read,
            (_, Some(false)) => Effect::Write,
            _ => unknown.effect,
        },
        idempotent: annotations.idempotent_hint.unwrap_or(unknown.idempotent),
        open_world: annotations.open_world_hint.unwrap_or(unknown.open_world),
        trusted: speaker == Speaker::Builtin,
    };
    let Some(operator) = operator else { return said };
    // A server's own `idempotent` must not become trusted because the operator spoke of something else.
    let believed = if said.trusted { said.idempotent } else { said.idempotent && operator.effect.is_none() };
    ToolEffect {
        effect: operator.effect.unwrap_or(said.effect),
        idempotent: operator.idempotent.unwrap_or(believed),
        open_world: operator.open_world.unwrap_or(said.open_world),
        trusted: said.trusted || operator.effect.is_some() || operator.idempotent == Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(json: &str) -> Annotations {
        serde_json::from_str(json).unwrap()
    }

    const SAFE: &str = r#"{"readOnlyHint":true,"idempotentHint":true,"openWorldHint":false}"#;

    #[test]
    fn silence_means_the_worst() {
        assert_eq!(effect(hints("{}"), Speaker::Server, None), ToolEffect::default());
    }

    #[test]
    fn annotations_are_heard_but_not_trusted() {
        let said = effect(hints(SAFE), Speaker::Server, None);
        assert_eq!((said.effect, said.open_world, said.trusted), (Effect::Read, false, false));
        assert!(!said.is_repeatable());
        assert!(effect(hints(SAFE), Speaker::Builtin, None).is_repeatable());
        let writes = effect(hints(r#"{"readOnlyHint":false,"destructiveHint":false}"#), Speaker::Server, None);
        assert_eq!(writes.effect, Effect::Write);
    }

    #[test]
    fn the_operator_overrules_only_what_they_give() {
        let says = |effect, idempotent, open_world| Some(ToolOverride { effect, idempotent, open_world });
        let read = effect(hints("{}"), Speaker::Server, says(Some(Effect::Read), None, None));
        assert!(read.is_repeatable() && read.open_world);
        let idempotent = effect(hints("{}"), Speaker::Server, says(None, Some(true), None));
        assert!(idempotent.is_repeatable() && idempotent.effect == Effect::Destructive);
        let closed = effect(hints(SAFE), Speaker::Server, says(None, None, Some(false)));
        assert!(!closed.is_repeatable(), "a word on the world says nothing on repeating");
        let write = effect(hints(r#"{"idempotentHint":true}"#), Speaker::Server, says(Some(Effect::Write), None, None));
        assert!(!write.is_repeatable(), "the server's own hint doesn't become trusted");
        let once = effect(hints(SAFE), Speaker::Builtin, says(Some(Effect::Write), Some(false), None));
        assert!(!once.is_repeatable());
    }
}
