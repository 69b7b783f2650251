//! What `tools/list` says about the tools of `filesystem`.

use serde_json::{Value, json};

/// All definitions, by name.
pub(super) fn all() -> [Value; 7] {
    [
        reading(
            "directory_tree",
            "Directory Tree",
            "The tree below a directory as JSON. Every entry has `name` and `type` (file or directory); directories have `children`. \
             Patterns can leave parts out, for example `node_modules` or `**/*.log`.",
            json!({ "path": path("The directory to start from"), "excludePatterns": patterns() }),
            json!(["path"]),
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
            "read_text_file",
            "Read Text File",
            "The text of a file. `head` gives only its first lines, `tail` only its last ones; not both.",
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
             or a part of a name. Gives their paths, one per line.",
            json!({
                "path": path("The directory to start from"),
                "pattern": { "type": "string", "description": "A glob over the path below the start, or a part of a name" },
                "excludePatterns": patterns(),
            }),
            json!(["path", "pattern"]),
        ),
        json!({
            "name": "write_file",
            "title": "Write File",
            "description": "Creates a file, or replaces all of its content without asking. The directory must exist.",
            "inputSchema": schema(
                json!({ "path": path("The file"), "content": { "type": "string", "description": "The whole new content" } }),
                json!(["path", "content"]),
            ),
            "annotations": { "readOnlyHint": false, "destructiveHint": true, "idempotentHint": true, "openWorldHint": false },
        }),
    ]
}

fn reading(name: &str, title: &str, description: &str, properties: Value, required: Value) -> Value {
    json!({
        "name": name,
        "title": title,
        "description": description,
        "inputSchema": schema(properties, required),
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
