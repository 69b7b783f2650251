//! What `tools/list` says about the tools of `filesystem`.

use serde_json::{Value, json};

/// All definitions, by name.
pub(super) fn all() -> [Value; 13] {
    [
        changing(
            "create_directory",
            "Create Directory",
            "Creates a directory, and those above it that are missing. One that exists already is left as it is.",
            json!({ "path": path("The directory") }),
            json!(["path"]),
            Change { idempotent: true, destructive: false },
        ),
        reading(
            "directory_tree",
            "Directory Tree",
            "The tree below a directory as JSON. Every entry has `name` and `type` (file or directory); directories have `children`. \
             Patterns can leave parts out, for example `node_modules` or `**/*.log`.",
            json!({ "path": path("The directory to start from"), "excludePatterns": patterns() }),
            json!(["path"]),
        ),
        changing(
            "edit_file",
            "Edit File",
            "Replaces parts of a text file and returns a git-style diff. Each edit replaces the first place that is exactly `oldText`, or else \
             the first lines that are, but for the white space around them. All edits are made, in their order, or none. With `dryRun` the \
             diff is shown and nothing is changed.",
            json!({
                "path": path("The file"),
                "edits": {
                    "type": "array",
                    "description": "What to replace",
                    "items": {
                        "type": "object",
                        "properties": {
                            "oldText": { "type": "string", "description": "The text to look for" },
                            "newText": { "type": "string", "description": "What takes its place" },
                        },
                        "required": ["oldText", "newText"],
                    },
                },
                "dryRun": { "type": "boolean", "default": false, "description": "Only show what would change" },
            }),
            json!(["path", "edits"]),
            Change { idempotent: false, destructive: true },
        ),
        reading(
            "get_file_info",
            "Get File Info",
            "Size, creation, modification and access time, kind and permissions of a file or directory, without its content.",
            json!({ "path": path("The file or directory") }),
            json!(["path"]),
        ),
        reading(
            "list_allowed_directories",
            "List Allowed Directories",
            "The directories that this server can reach. Relative paths start at the first of them.",
            json!({}),
            json!([]),
        ),
        reading(
            "list_directory",
            "List Directory",
            "The entries of a directory, one per line, marked [FILE] or [DIR].",
            json!({ "path": path("The directory") }),
            json!(["path"]),
        ),
        reading(
            "list_directory_with_sizes",
            "List Directory with Sizes",
            "The entries of a directory, one per line, marked [FILE] or [DIR], with the sizes of files and the totals.",
            json!({
                "path": path("The directory"),
                "sortBy": {
                    "type": "string",
                    "enum": ["name", "size"],
                    "default": "name",
                    "description": "By name, or the largest first",
                },
            }),
            json!(["path"]),
        ),
        changing(
            "move_file",
            "Move File",
            "Moves or renames a file or directory. Fails when the destination exists, or the directory that it would be in doesn't.",
            json!({ "source": path("What to move"), "destination": path("Where to, with the new name") }),
            json!(["source", "destination"]),
            Change { idempotent: false, destructive: true },
        ),
        media(),
        reading(
            "read_multiple_files",
            "Read Multiple Files",
            "The texts of several files at once, each with its path. One that can't be read doesn't stop the others.",
            json!({
                "paths": { "type": "array", "items": { "type": "string" }, "minItems": 1, "description": "The files" },
            }),
            json!(["paths"]),
        ),
        reading(
            "read_text_file",
            "Read Text File",
            "The text of a file. `head` gives only its first lines, `tail` only its last ones; not both. Zero is as if it weren't given.",
            json!({
                "path": path("The file"),
                "tail": lines("Only the last N lines"),
                "head": lines("Only the first N lines"),
            }),
            json!(["path"]),
        ),
        reading(
            "search_files",
            "Search Files",
            "Files and directories below a directory that match a pattern: `*.ext` in the directory itself, `**/*.ext` at any depth, \
             or a part of a name. Gives their whole paths, one per line.",
            json!({
                "path": path("The directory to start from"),
                "pattern": { "type": "string", "description": "A glob over the path below the start, or a part of a name" },
                "excludePatterns": patterns(),
            }),
            json!(["path", "pattern"]),
        ),
        changing(
            "write_file",
            "Write File",
            "Creates a file, or replaces all of its content without asking. The directory must exist.",
            json!({ "path": path("The file"), "content": { "type": "string", "description": "The whole new content" } }),
            json!(["path", "content"]),
            Change { idempotent: true, destructive: true },
        ),
    ]
}

/// What a tool that changes something says about it.
struct Change {
    idempotent: bool,
    destructive: bool,
}

fn media() -> Value {
    let mut definition = reading(
        "read_media_file",
        "Read Media File",
        "A file in base64 with its MIME type: images and audio as such, any other file as an embedded resource.",
        json!({ "path": path("The file") }),
        json!(["path"]),
    );
    let text = json!({ "type": "string" });
    let encoded = schema(
        json!({ "type": { "type": "string", "enum": ["image", "audio"] }, "data": text, "mimeType": text }),
        json!(["type", "data", "mimeType"]),
    );
    let resource = schema(json!({ "uri": text, "mimeType": text, "blob": text }), json!(["uri", "blob"]));
    let embedded = schema(
        json!({ "type": { "type": "string", "const": "resource" }, "resource": resource }),
        json!(["type", "resource"]),
    );
    definition["outputSchema"] = output(json!({ "type": "array", "items": { "anyOf": [encoded, embedded] } }));
    definition
}

fn changing(
    name: &str,
    title: &str,
    description: &str,
    properties: Value,
    required: Value,
    Change { idempotent, destructive }: Change,
) -> Value {
    let mut definition = reading(name, title, description, properties, required);
    definition["annotations"] = json!({
        "readOnlyHint": false,
        "idempotentHint": idempotent,
        "destructiveHint": destructive,
        "openWorldHint": false,
    });
    definition
}

/// A result is text in `content`, unless a tool says otherwise.
fn output(content: Value) -> Value {
    schema(json!({ "content": content }), json!(["content"]))
}

fn reading(name: &str, title: &str, description: &str, properties: Value, required: Value) -> Value {
    json!({
        "name": name,
        "title": title,
        "description": description,
        "inputSchema": schema(properties, required),
        "outputSchema": output(json!({ "type": "string" })),
        "annotations": { "readOnlyHint": true, "idempotentHint": true, "openWorldHint": false },
    })
}

fn schema(properties: Value, required: Value) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

fn path(what: &str) -> Value {
    json!({ "type": "string", "description": what })
}

fn lines(what: &str) -> Value {
    json!({ "type": "integer", "minimum": 0, "description": what })
}

fn patterns() -> Value {
    json!({ "type": "array", "items": { "type": "string" }, "default": [], "description": "What to leave out" })
}
