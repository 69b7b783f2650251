//! The built-in server `filesystem`: files below its roots and nothing else.
//!
//! Its tools have the names, arguments, annotations and result texts of the official `@modelcontextprotocol/server-filesystem`, so that
//! prompts written for that one work. It differs where that helps: lists are sorted, everything is bounded, nothing is lost that isn't text.
//! `tests/it/filesystem.rs` compares both, and has the differences with their reasons. A new tool is a file here, an entry in
//! `definitions.rs`, and a line in [`Filesystem::act`].

mod definitions;
mod diff;
mod edit;
mod glob;
mod info;
mod list;
mod media;
mod moving;
mod parts;
mod read;
mod root;
mod roots;
mod search;
mod spelling;
#[cfg(test)]
mod tests;
mod write;

use crate::error::{Error, Result};
use crate::mcp::call::raw;
use edit::Edit;
use list::SortBy;
use root::Station;
pub(super) use roots::expanded;
use roots::{Place, Roots};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// The largest file that is read as a whole or written.
const MAX_FILE_BYTES: u64 = 10 * 1024 * 1024;
/// How many directory entries one call looks at.
const MAX_ENTRIES: usize = 10_000;
/// How deep one call goes.
const MAX_DEPTH: usize = 32;

/// The server with its roots open. Every call blocks on the file system.
#[derive(Debug)]
pub struct Filesystem {
    /// As the last call found them.
    roots: Mutex<Arc<Roots>>,
    /// Held by whatever changes files: two edits of one file at the same time would lose one of them.
    changing: Mutex<()>,
}

/// What a tool answers.
#[derive(Debug)]
struct Answer {
    content: Vec<Value>,
    /// What `structuredContent.content` is.
    structured: Value,
}

impl Answer {
    fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { content: vec![json!({ "type": "text", "text": text })], structured: json!(text) }
    }

    /// A block that isn't text.
    fn block(block: Value) -> Self {
        Self { content: vec![block.clone()], structured: json!([block]) }
    }

    /// With a word of the station's own, apart from the content.
    fn noting(mut self, note: String) -> Self {
        self.content.push(json!({ "type": "text", "text": note }));
        self
    }
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
    #[serde(default, deserialize_with = "lines")]
    head: Option<usize>,
    #[serde(default, deserialize_with = "lines")]
    tail: Option<usize>,
}

/// A number of lines, which JSON may write as `2.0` too, and without a bound. Zero, with which some clients fill in what they don't mean, is
/// none.
fn lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let given = Value::deserialize(deserializer)?;
    let count = match &given {
        Value::Null => return Ok(None),
        Value::Number(count) => count.as_f64().filter(|count| *count >= 0.0 && count.fract() == 0.0),
        _ => None,
    };
    let count = count.ok_or_else(|| D::Error::custom(format!("{given} isn't a whole number of lines")))?;
    // One past the range becomes the end of the range.
    Ok(Some(count as usize).filter(|count| *count > 0))
}

#[derive(Deserialize)]
struct WriteArguments {
    path: String,
    content: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EditArguments {
    path: String,
    edits: Vec<Edit>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
struct MoveArguments {
    source: String,
    destination: String,
}

#[derive(Deserialize)]
struct ManyArguments {
    paths: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SizesArguments {
    path: String,
    #[serde(default)]
    sort_by: SortBy,
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
    /// Opens the roots; every call looks whether their paths still lead there. Nothing inside `forbidden_home` is reachable, except what is inside `allowed_inside`; a root there is refused.
    pub fn new(roots: Vec<PathBuf>, forbidden_home: Option<PathBuf>, allowed_inside: Option<PathBuf>) -> Result<Self> {
        if roots.is_empty() {
            return Err(Error::invalid_input("the built-in `filesystem` needs a directory").field("args"));
        }
        let roots = Roots::open(roots, Station { home: forbidden_home, open: allowed_inside });
        if let Some(lost) = roots.lost() {
            return Err(Error::invalid_input(format!("the built-in `filesystem`: {lost}")).field("args"));
        }
        Ok(Self { roots: Mutex::new(Arc::new(roots)), changing: Mutex::new(()) })
    }

    /// The directories to which the configured paths lead now. Whoever waits for [`Self::changing`] asks afterwards.
    fn roots(&self) -> Arc<Roots> {
        // Looked at outside of the lock: a disk over the network may take its time.
        let known = Arc::clone(&self.roots.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(renewed) = known.renewed().map(Arc::new) else { return known };
        *self.roots.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&renewed);
        renewed
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
            Ok(answer) => json!({ "content": answer.content, "structuredContent": { "content": answer.structured } }),
            Err(refusal) => json!({ "content": [{ "type": "text", "text": refusal.message }], "isError": true }),
        }))
    }

    fn act(&self, tool: &str, arguments: &RawValue) -> Option<Result<Answer, Refusal>> {
        let path = |then: fn(&Place<'_>) -> Result<Answer, Refusal>| {
            decode(tool, arguments).and_then(|PathArgument { path }| then(&self.roots().place(&path)?))
        };
        Some(match tool {
            "read_text_file" => decode(tool, arguments).and_then(|arguments| self.read(&arguments)),
            "read_multiple_files" => decode(tool, arguments).and_then(|arguments| self.read_several(&arguments)),
            "read_media_file" => path(|place| media::block(place).map(Answer::block)),
            "write_file" => decode(tool, arguments).and_then(|arguments| self.write(&arguments)),
            "edit_file" => decode(tool, arguments).and_then(|arguments| self.edit(&arguments)),
            "move_file" => decode(tool, arguments).and_then(|arguments| self.move_file(&arguments)),
            "create_directory" => decode(tool, arguments).and_then(|arguments| self.create_directory(&arguments)),
            "list_directory" => path(|place| list::lines(place).map(Answer::text)),
            "list_directory_with_sizes" => decode(tool, arguments).and_then(|arguments: SizesArguments| {
                list::sized_lines(&self.roots().place(&arguments.path)?, arguments.sort_by).map(Answer::text)
            }),
            "directory_tree" => decode(tool, arguments).and_then(|arguments: TreeArguments| {
                list::tree(&self.roots().place(&arguments.path)?, &arguments.exclude_patterns).map(Answer::text)
            }),
            "search_files" => decode(tool, arguments).and_then(|arguments: SearchArguments| {
                let SearchArguments { path, pattern, exclude_patterns } = &arguments;
                search::paths(&self.roots().place(path)?, pattern, exclude_patterns).map(Answer::text)
            }),
            "get_file_info" => path(|place| info::lines(place).map(Answer::text)),
            "list_allowed_directories" => Ok(Answer::text(self.allowed())),
            _ => return None,
        })
    }

    fn read(&self, arguments: &ReadArguments) -> Result<Answer, Refusal> {
        let part = match (arguments.head, arguments.tail) {
            (Some(_), Some(_)) => {
                return Err(Refusal::new("Cannot specify both head and tail parameters simultaneously"));
            }
            (Some(count), None) => read::Part::Head(count),
            (None, Some(count)) => read::Part::Tail(count),
            (None, None) => read::Part::Whole,
        };
        read::text(&self.roots().place(&arguments.path)?, part)
    }

    fn read_several(&self, arguments: &ManyArguments) -> Result<Answer, Refusal> {
        if arguments.paths.is_empty() {
            return Err(Refusal::new("Invalid arguments for read_multiple_files: `paths` needs at least one path"));
        }
        let roots = self.roots();
        Ok(read::several(&arguments.paths, |path| roots.place(path)))
    }

    fn write(&self, arguments: &WriteArguments) -> Result<Answer, Refusal> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        write::text(&self.roots().place(&arguments.path)?, &arguments.content)?;
        Ok(Answer::text(format!("Successfully wrote to {}", arguments.path)))
    }

    fn edit(&self, arguments: &EditArguments) -> Result<Answer, Refusal> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let roots = self.roots();
        let place = roots.place(&arguments.path)?;
        edit::apply(&place, &arguments.edits, arguments.dry_run).map(Answer::text)
    }

    fn move_file(&self, arguments: &MoveArguments) -> Result<Answer, Refusal> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let MoveArguments { source, destination } = arguments;
        let roots = self.roots();
        moving::entry(&roots.place(source)?, &roots.place(destination)?)?;
        Ok(Answer::text(format!("Successfully moved {source} to {destination}")))
    }

    fn create_directory(&self, arguments: &PathArgument) -> Result<Answer, Refusal> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.roots().place(&arguments.path)?.create_dir()?;
        Ok(Answer::text(format!("Successfully created directory {}", arguments.path)))
    }

    fn allowed(&self) -> String {
        let roots: Vec<_> = self.roots().given().map(|root| root.display().to_string()).collect();
        format!("Allowed directories:\n{}", roots.join("\n"))
    }
}

fn decode<T: DeserializeOwned>(tool: &str, arguments: &RawValue) -> Result<T, Refusal> {
    serde_json::from_str(arguments.get())
        .map_err(|cause| Refusal::new(format!("Invalid arguments for {tool}: {cause}")))
}
