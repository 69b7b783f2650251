//! The built-in server `filesystem`: files below its roots and nothing else.
//!
//! Its tools have the names, arguments, annotations and result texts of the official `@modelcontextprotocol/server-filesystem`, so that
//! prompts written for that one work. It differs where that helps: relative paths start at the first root, lists are sorted, everything is
//! bounded. A new tool is a file here, an entry in `definitions.rs`, and a line in [`Filesystem::act`].

mod definitions;
mod glob;
mod info;
mod list;
mod read;
mod roots;
mod search;
#[cfg(test)]
mod tests;
mod write;

use crate::error::{Error, Result};
use crate::mcp::call::raw;
use roots::Roots;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;
use std::path::PathBuf;

/// The largest file that is read as a whole or written.
const MAX_FILE_BYTES: u64 = 10 * 1024 * 1024;
/// How many directory entries one call looks at.
const MAX_ENTRIES: usize = 10_000;
/// How deep one call goes.
const MAX_DEPTH: usize = 32;

/// The server with its roots open. Every call blocks on the file system.
#[derive(Debug)]
pub struct Filesystem {
    roots: Roots,
}

/// Why a tool couldn't do what it was asked; the model reads the message.
#[derive(Debug)]
struct Refusal {
    message: String,
    not_found: bool,
}

impl Refusal {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), not_found: false }
    }

    fn not_found(message: String) -> Self {
        Self { message, not_found: true }
    }

    fn is_not_found(&self) -> bool {
        self.not_found
    }
}

#[derive(Deserialize)]
struct ReadArguments {
    path: String,
    #[serde(default)]
    head: Option<usize>,
    #[serde(default)]
    tail: Option<usize>,
}

#[derive(Deserialize)]
struct WriteArguments {
    path: String,
    content: String,
}

#[derive(Deserialize)]
struct PathArgument {
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TreeArguments {
    path: String,
    #[serde(default)]
    exclude_patterns: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SearchArguments {
    path: String,
    pattern: String,
    #[serde(default)]
    exclude_patterns: Vec<String>,
}

impl Filesystem {
    /// Opens the roots. Nothing inside `forbidden_home` is reachable, except what is inside `allowed_inside`; a root there is refused.
    pub fn new(roots: Vec<PathBuf>, forbidden_home: Option<PathBuf>, allowed_inside: Option<PathBuf>) -> Result<Self> {
        if roots.is_empty() {
            return Err(Error::invalid_input("the built-in `filesystem` needs a directory").field("args"));
        }
        let roots = Roots::open(roots, forbidden_home, allowed_inside)
            .map_err(|cause| Error::invalid_input(format!("the built-in `filesystem`: {cause}")).field("args"))?;
        Ok(Self { roots })
    }

    /// The definitions of the tools, as `tools/list` gives them.
    pub fn tools() -> Vec<Box<RawValue>> {
        definitions::all().iter().map(raw).collect()
    }

    /// Calls a tool. What goes wrong in it is a result with `isError`; only an unknown tool is an error.
    pub fn call(&self, tool: &str, arguments: &RawValue) -> Result<Box<RawValue>> {
        let outcome = self
            .act(tool, arguments)
            .ok_or_else(|| Error::not_found(format!("the built-in `filesystem` has no tool `{tool}`")))?;
        Ok(raw(&match outcome {
            Ok(text) => json!({ "content": [{ "type": "text", "text": text }] }),
            Err(refusal) => json!({ "content": [{ "type": "text", "text": refusal.message }], "isError": true }),
        }))
    }

    fn act(&self, tool: &str, arguments: &RawValue) -> Option<Result<String, Refusal>> {
        Some(match tool {
            "read_text_file" => decode(tool, arguments).and_then(|arguments| self.read(&arguments)),
            "write_file" => decode(tool, arguments).and_then(|arguments| self.write(&arguments)),
            "list_directory" => {
                decode(tool, arguments).and_then(|PathArgument { path }| list::lines(&self.roots.place(&path)?))
            }
            "directory_tree" => decode(tool, arguments).and_then(|arguments: TreeArguments| {
                list::tree(&self.roots.place(&arguments.path)?, &arguments.exclude_patterns)
            }),
            "search_files" => decode(tool, arguments).and_then(|arguments: SearchArguments| {
                let SearchArguments { path, pattern, exclude_patterns } = &arguments;
                search::paths(&self.roots.place(path)?, path, pattern, exclude_patterns)
            }),
            "get_file_info" => {
                decode(tool, arguments).and_then(|PathArgument { path }| info::lines(&self.roots.place(&path)?))
            }
            "list_allowed_directories" => Ok(self.allowed()),
            _ => return None,
        })
    }

    fn read(&self, arguments: &ReadArguments) -> Result<String, Refusal> {
        let part = match (arguments.head, arguments.tail) {
            (Some(_), Some(_)) => {
                return Err(Refusal::new("Cannot specify both head and tail parameters simultaneously"));
            }
            (Some(count), None) => read::Part::Head(count),
            (None, Some(count)) => read::Part::Tail(count),
            (None, None) => read::Part::Whole,
        };
        read::text(&self.roots.place(&arguments.path)?, part)
    }

    fn write(&self, arguments: &WriteArguments) -> Result<String, Refusal> {
        write::text(&self.roots.place(&arguments.path)?, &arguments.content)?;
        Ok(format!("Successfully wrote to {}", arguments.path))
    }

    fn allowed(&self) -> String {
        let roots: Vec<_> = self.roots.given().map(|root| root.display().to_string()).collect();
        format!("Allowed directories:\n{}", roots.join("\n"))
    }
}

fn decode<T: DeserializeOwned>(tool: &str, arguments: &RawValue) -> Result<T, Refusal> {
    serde_json::from_str(arguments.get())
        .map_err(|cause| Refusal::new(format!("Invalid arguments for {tool}: {cause}")))
}
